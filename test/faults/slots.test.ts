/** Worker slots under contention, deaths and restarts. */
import { openStore } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host } from "../support/host.ts";
import { Crew, HostKilled, LOCK_WORDS, type Member } from "./crew.ts";
import { census, ENGINES, size } from "./engines.ts";

const SLOTS = 3;
const HOSTS = 6;
/** Long enough that a busy machine does not cost a living holder its slot. */
const LEASE_MS = 2_000;
const GRACE_MS = 1_000;
const TURNS = size(25, 300);
/** Every so many turns of a member end with its death. */
const TURNS_PER_DEATH = 12;
const env = { SWARM_WORKER_SLOTS: String(SLOTS) };

/** From the answer to the claim until the release is asked for, or the holder dies: surely held. */
interface Span {
  readonly slot: number;
  readonly token: number;
  readonly by: string;
  readonly from: number;
  until: number;
}

async function takeTurns(member: Member, spans: Span[]): Promise<void> {
  for (let turn = 1; turn <= TURNS; turn++) {
    try {
      const answer = await member.try("claim_worker_slot");
      expect(answer.text).not.toMatch(LOCK_WORDS);
      if (answer.isError) {
        expect(answer.text).toMatch(/^limit_exceeded: All 3 worker slots are held\./);
        continue;
      }
      const { slot, fencingToken } = answer.structured.slot as { slot: number; fencingToken: number };
      const span = { slot, token: fencingToken, by: member.agent, from: performance.now(), until: Number.POSITIVE_INFINITY };
      spans.push(span);
      const seen = await member.try("get_workers");
      const { workers, free } = seen.structured as { workers: { slot: number; workerId: string }[]; free: number };
      expect(workers.length + free).toBe(SLOTS);
      expect(workers).toContainEqual(expect.objectContaining({ slot, workerId: member.agent }));
      span.until = performance.now();
      if (turn % TURNS_PER_DEATH === 0) await member.kill();
      const released = await member.try("release_worker_slot", { slot });
      expect(released.isError, released.text).toBe(false);
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await member.start();
    }
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${HOSTS} hosts never hold more than ${SLOTS} slots, and a dead one's slot is free within its lease`, {
    timeout: 900_000,
  }, async () => {
    verifies("TASK-01");
    using meeting = await meet();
    const spans: Span[] = [];
    await using crew = await Crew.start({ store: meeting.store, size: HOSTS, leaseMs: LEASE_MS, env });
    await Promise.all(crew.members.map((member) => takeTurns(member, spans)));
    expect(new Set(spans.map(({ by }) => by)).size).toBeGreaterThan(1);
    for (let slot = 1; slot <= SLOTS; slot++) {
      const held = spans.filter((span) => span.slot === slot).sort((a, b) => a.token - b.token);
      expect(new Set(held.map(({ token }) => token)).size).toBe(held.length);
      for (const [index, span] of held.entries()) {
        const before = held[index - 1];
        if (before) expect(span.from, JSON.stringify([before, span])).toBeGreaterThanOrEqual(before.until);
      }
    }
    expect(spans.filter(({ slot }) => slot < 1 || slot > SLOTS)).toEqual([]);

    // all die with every slot held
    const holders: Member[] = [];
    await eventually("every slot is held", async () => {
      const member = crew.members[holders.length] as Member;
      if ((await member.try("claim_worker_slot")).isError) return false;
      return holders.push(member) === SLOTS;
    });
    const fresh = await Promise.all(
      Array.from({ length: SLOTS + 1 }, (_, index) =>
        Host.start({ store: meeting.store, agent: `fresh-${index}`, env: { ...env, SWARM_LEASE_MS: String(LEASE_MS) } }),
      ),
    );
    const store = await openStore(meeting.store);
    await Promise.all(crew.members.map((member) => member.kill()));
    const diedAt = await store.now();
    const found = await census(meeting.store);
    expect(found.problems).toEqual([]);
    expect([...found.slots.values()].sort()).toEqual(holders.map(({ agent }) => agent).sort());

    // a restart of all leaks none
    const taken = new Map<number, number>();
    for (const host of fresh.slice(0, SLOTS)) {
      const { slot, claimedAt } = await eventually("a slot of the dead", async () => {
        const answer = await host.try("claim_worker_slot");
        return answer.isError ? undefined : (answer.structured.slot as { slot: number; claimedAt: number });
      });
      taken.set(slot, claimedAt - diedAt);
    }
    expect([...taken.keys()].sort()).toEqual([1, 2, 3]);
    expect(Math.max(...taken.values())).toBeLessThanOrEqual(LEASE_MS + GRACE_MS);
    const over = await fresh[SLOTS]?.try("claim_worker_slot");
    expect(over?.text).toMatch(/^limit_exceeded: /);
    await Promise.all(fresh.map((host) => host.close()));
    expect((await census(meeting.store)).slots.size).toBe(0);
    await store.close();
    console.log(`${spans.length} holdings of ${SLOTS} slots, none at the same time as another of its slot`);
  });
});
