/** The line before a lock when its holder, or one who waits, is killed, ends, or gives up; leaders that die and sleep in turn. */
import { openStore, type Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { findLeader, type Leader } from "../../servers/shared-state/src/leader-layer.ts";
import { lockKey } from "../../servers/shared-state/src/lock-layer.ts";
import type { LockRecord } from "../../servers/shared-state/src/lock-record.ts";
import { verifies } from "../requirements.ts";
import { eventually, Host } from "../support/host.ts";
import { ENGINES, size } from "./engines.ts";
import { stop } from "./stop.ts";

const server = "shared-state";
const LEASE_MS = 2_000;
/** The promise: what a dead holder had is another's so long after its lease at the latest, by the store's clock. */
const GRACE_MS = 1_000;
/** Times of two processes of one engine may lie so far apart. */
const SKEW_MS = 500;
const WAIT_MS = 45_000;
const LINES = size(1, 10);
const CANDIDATES = 4;
const REIGNS = size(4, 60);

const env = { SWARM_LEASE_MS: String(LEASE_MS) };

interface Acquired {
  lock: { agentId: string; fencingToken: number; acquiredAt: number };
}

async function lockOf(store: Store, name: string): Promise<LockRecord | undefined> {
  return (await store.get(lockKey(name)))?.value as LockRecord | undefined;
}

/** What happens to each in line: those who leave it get nothing, and those who hold the lock leave it in some way. */
const LINE = ["kill", "gives up", "release", "dies in line", "end", "kill", "ends in line", "release"] as const;
const LEAVES = ["gives up", "dies in line", "ends in line"];

describe.each(ENGINES)("$name", ({ meet }) => {
  test.concurrent("a lock goes through its line in order, whoever is killed, ends or gives up on the way", {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-08", "CORE-07", "CORE-10");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    for (let round = 0; round < LINES; round++) {
      const name = `line-${round}`;
      await using started = new AsyncDisposableStack();
      const start = async (agent: string) => started.use(await Host.start({ server, store: meeting.store, agent, env }));
      const hosts = await Promise.all(LINE.map((_, at) => start(`waiter-${at}`)));
      const first = await start("first");
      await first.call("acquire_lock", { name });
      const patience = new AbortController();
      const granted: string[] = [];
      const waiting = [];
      for (const [at, host] of hosts.entries()) {
        const signal = LINE[at] === "gives up" ? { signal: patience.signal } : {};
        const asked = host.try("acquire_lock", { name, waitMs: WAIT_MS }, { timeout: 2 * WAIT_MS, ...signal }).then(
          (answer) => {
            expect(answer.isError, answer.text).toBe(false);
            granted.push(host.agent ?? "");
            return (answer.structured as unknown as Acquired).lock;
          },
          () => undefined,
        );
        waiting.push(asked);
        await eventually(`${host.agent} in line`, async () => (await lockOf(store, name))?.waiters.length === at + 1);
      }
      patience.abort();
      await hosts[LINE.indexOf("dies in line")]?.kill();
      await hosts[LINE.indexOf("ends in line")]?.close();
      await first.close(); // its lease would last, but it ended as it should: the next one has it at once
      let over = 0;
      let token = 1;
      for (const [at, fate] of LINE.entries()) {
        const host = hosts[at] as Host;
        const lock = await waiting[at];
        if (LEAVES.includes(fate)) {
          expect(lock).toBeUndefined();
          continue;
        }
        expect(lock).toMatchObject({ agentId: host.agent, fencingToken: token + 1 });
        token += 1;
        if (over > 0) {
          expect(lock?.acquiredAt).toBeGreaterThanOrEqual(over);
          expect((lock?.acquiredAt ?? 0) - over).toBeLessThanOrEqual(GRACE_MS);
        }
        over = 0;
        if (fate === "release") await host.call("release_lock", { name });
        else if (fate === "end") await host.close();
        else {
          await host.kill();
          over = (await lockOf(store, name))?.holders.find((holding) => holding.token === token)?.leaseExpiresAt ?? 0;
          expect(over).toBeGreaterThan(0);
        }
      }
      expect(granted).toEqual(LINE.flatMap((fate, at) => (LEAVES.includes(fate) ? [] : [`waiter-${at}`])));
      const left = await lockOf(store, name);
      expect(left).toMatchObject({ token, holders: [] });
    }
    await store.close();
  });

  test.concurrent("leaders that are killed or sleep are replaced in turn, with no call open; no two lead at one time", {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-10", "STATE-09");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    const group = "builds";
    await using started = new AsyncDisposableStack();
    const join = async (at: number) => {
      const host = started.use(await Host.start({ server, store: meeting.store, agent: `candidate-${at}`, env }));
      await host.call("elect_leader", { group, candidateInfo: `number ${at}` });
      return host;
    };
    const hosts = new Map<string, Host>();
    for (let at = 0; at < CANDIDATES; at++) hosts.set(`candidate-${at}`, await join(at));
    const leaderAfter = (term: number): Promise<Leader> =>
      eventually(`a leader behind term ${term}`, async () => {
        const leader = await findLeader(store, group);
        return leader && leader.term > term ? leader : undefined;
      });
    let leader = await leaderAfter(0);
    for (let reign = 0; reign < REIGNS; reign++) {
      const host = hosts.get(leader.agentId) as Host;
      const fence = { lock: `leader:${group}`, fencingToken: leader.term };
      await host.call("set_state", { key: "order", value: leader.term, ...fence });
      const asleep = reign % 2 === 1;
      if (asleep) await stop(host.pid, store);
      else await host.kill();
      const leaseEnd = (await findLeader(store, group))?.leaseExpiresAt ?? 0;
      expect(leaseEnd).toBeGreaterThan(0);
      const next = await leaderAfter(leader.term);
      expect(next.term).toBe(leader.term + 1);
      expect(next.agentId).not.toBe(leader.agentId);
      expect(next.leadsSince).toBeGreaterThanOrEqual(leaseEnd);
      expect(next.leadsSince - leaseEnd).toBeLessThanOrEqual(GRACE_MS + SKEW_MS);
      await hosts.get(next.agentId)?.call("set_state", { key: "order", value: next.term, ...fence, fencingToken: next.term });
      if (asleep) {
        const late = [
          host.try("set_state", { key: "order", value: "stale", ...fence }),
          host.try("patch_state", { key: "order", increment: 1, ...fence }),
          host.try("delete_state", { key: "order", ...fence }),
          host.try("transact_state", { writes: [{ key: "order", value: "stale" }], ...fence }),
          host.try("restore_state", { key: "order", rev: 1, ...fence }),
        ];
        process.kill(host.pid, "SIGCONT");
        for (const { isError, text } of await Promise.all(late)) {
          expect(isError, text).toBe(true);
          expect(text).toMatch(/^failed_precondition: /);
        }
        // awake, it is a candidate again, behind the others, and knows who leads
        expect(await host.call("get_leader", { group })).toMatchObject({ leader: { agentId: next.agentId, you: false } });
      } else hosts.set(leader.agentId, await join(Number(leader.agentId.split("-")[1])));
      expect((await store.get("state/g/order"))?.value).toMatchObject({ value: next.term });
      leader = next;
    }
    await Promise.all([...hosts.values()].map((host) => host.close()));
    expect(await findLeader(store, group)).toBeUndefined();
    await store.close();
  });
});
