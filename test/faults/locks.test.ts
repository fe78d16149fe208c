/** Locks and leaders in real processes: holders that die or sleep past their lease, eight that want the same lock at once. */
import { openStore, type Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import type { Leader } from "../../servers/shared-state/src/leader-layer.ts";
import { findLeader } from "../../servers/shared-state/src/leader-layer.ts";
import { lockKey } from "../../servers/shared-state/src/lock-layer.ts";
import type { Holding, LockRecord } from "../../servers/shared-state/src/lock-record.ts";
import { verifies } from "../requirements.ts";
import { eventually, Host, type ToolAnswer } from "../support/host.ts";
import { checkLinearizable, type Operation, type SequentialModel } from "../support/linearizability.ts";
import { ENGINES, size } from "./engines.ts";
import { stop } from "./stop.ts";

const server = "shared-state";
const LEASE_MS = 2_000;
/** The promise: what a dead holder had is another's so long after its lease at the latest, by the store's clock. */
const GRACE_MS = 1_000;
const WAIT_MS = 30_000;
const DEATHS = size(3, 40);
const PAUSES = size(3, 60);
const HOSTS = 8;
const TURNS_EACH = size(10, 100);
const LOCK_WORDS = /SQLITE_BUSY|database is locked|deadlock|could not serialize/i;

const env = { SWARM_LEASE_MS: String(LEASE_MS) };

interface Acquired {
  lock: { name: string; agentId: string; fencingToken: number; acquiredAt: number; leaseExpiresAt: number };
}

async function lockOf(store: Store, name: string): Promise<LockRecord | undefined> {
  return (await store.get(lockKey(name)))?.value as LockRecord | undefined;
}

async function holderOf(store: Store, name: string): Promise<Holding | undefined> {
  return (await lockOf(store, name))?.holders[0];
}

async function leaderOf(store: Store, group: string, other: string): Promise<Leader> {
  return await eventually(`a leader that is not ${other}`, async () => {
    const leader = await findLeader(store, group);
    return leader && leader.agentId !== other ? leader : undefined;
  });
}

function refused(answer: ToolAnswer): void {
  expect(answer.isError, answer.text).toBe(true);
  expect(answer.text).toMatch(/^failed_precondition: /);
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test.concurrent("the lock of a killed holder is the next one's within its lease and a second", {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-08", "CORE-10");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using next = await Host.start({ server, store: meeting.store, agent: "next", env });
    let token = 0;
    for (let round = 0; round < DEATHS; round++) {
      const holder = await Host.start({ server, store: meeting.store, agent: `holder-${round}`, env });
      const { lock } = await holder.call<Acquired>("acquire_lock", { name: "deploy" });
      expect(lock.fencingToken).toBeGreaterThan(token);
      // half of them die after their first renewals
      const renewed = async () => ((await holderOf(store, "deploy"))?.leaseExpiresAt ?? 0) > lock.leaseExpiresAt;
      if (round % 2 === 1) await eventually("a renewal", renewed);
      const waiting = next.call<Acquired>("acquire_lock", { name: "deploy", waitMs: WAIT_MS });
      await eventually("one in line", async () => (await lockOf(store, "deploy"))?.waiters.length === 1);
      await holder.kill();
      const leaseEnd = (await holderOf(store, "deploy"))?.leaseExpiresAt ?? 0;
      const got = await waiting;
      expect(got.lock.agentId).toBe("next");
      expect(got.lock.acquiredAt).toBeGreaterThanOrEqual(leaseEnd);
      expect(got.lock.acquiredAt - leaseEnd).toBeLessThanOrEqual(GRACE_MS);
      token = got.lock.fencingToken;
      await next.call("release_lock", { name: "deploy" });
    }
    await store.close();
  });

  test.concurrent.each([
    { who: "another agent", second: "second" },
    { who: "the same agent in another process", second: "first" },
  ])("a server that slept past its lease writes nothing over the work of $who", { timeout: 900_000 }, async ({ second }) => {
    verifies("STATE-08", "STATE-09");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using sleeper = await Host.start({ server, store: meeting.store, agent: "first", env });
    await using heir = await Host.start({ server, store: meeting.store, agent: second, env });
    for (let round = 0; round < PAUSES; round++) {
      const name = `lock-${round}`;
      const key = `value-${round}`;
      const { lock } = await sleeper.call<Acquired>("acquire_lock", { name });
      const fence = { lock: name, fencingToken: lock.fencingToken };
      const { entry } = await sleeper.call<{ entry: { rev: number } }>("set_state", { key, value: "first", ...fence });
      await stop(sleeper.pid, store);
      // these wait in the pipe, and are the first that the server reads when it wakes
      const late = [
        sleeper.try("set_state", { key, value: "stale", ...fence }),
        sleeper.try("delete_state", { key, ...fence }),
        sleeper.try("set_state", { key: `${key}-new`, value: "stale", ...fence }),
        sleeper.try("patch_state", { key, append: "stale", ...fence }),
        sleeper.try("transact_state", { writes: [{ key, value: "stale" }], ...fence }),
        sleeper.try("restore_state", { key, rev: entry.rev, ...fence }),
        sleeper.try("release_lock", { name }),
      ];
      const taken = await heir.call<Acquired>("acquire_lock", { name, waitMs: WAIT_MS });
      expect(taken.lock.fencingToken).toBe(lock.fencingToken + 1);
      await heir.call("set_state", { key, value: "fresh", lock: name, fencingToken: taken.lock.fencingToken });
      if (round % 2 === 0) await heir.call("release_lock", { name }); // the sleeper wakes to a free lock, or to a held one
      process.kill(sleeper.pid, "SIGCONT");
      for (const answer of await Promise.all(late)) refused(answer);
      refused(await sleeper.try("set_state", { key, value: "stale", ...fence }));
      expect((await heir.call<{ entry: { value: unknown } }>("get_state", { key })).entry.value).toBe("fresh");
      refused(await heir.try("set_state", { key, value: "early", lock: name, fencingToken: lock.fencingToken + 7 }));
    }
    await store.close();
  });

  test.concurrent("the next candidate leads within a lease and a second of a leader's death, with no call open", {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-10", "STATE-09");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    const group = "builds";
    await using witness = await Host.start({ server, store: meeting.store, agent: "witness", env }); // no candidate
    let leading = await Host.start({ server, store: meeting.store, agent: "leader-0", env });
    await leading.call("elect_leader", { group });
    let term = 1;
    for (let round = 1; round <= DEATHS; round++) {
      const following = await Host.start({ server, store: meeting.store, agent: `leader-${round}`, env });
      expect(await following.call("elect_leader", { group })).toMatchObject({
        leader: { agentId: leading.agent, term, you: false },
      });
      const fence = { lock: `leader:${group}`, fencingToken: term };
      await leading.call("set_state", { key: "plan", value: round, ...fence });
      await leading.kill();
      const leaseEnd = (await findLeader(store, group))?.leaseExpiresAt ?? 0;
      const leader = await leaderOf(store, group, leading.agent ?? "");
      term += 1;
      expect(leader).toMatchObject({ agentId: following.agent, term });
      expect(leader.leadsSince).toBeGreaterThanOrEqual(leaseEnd);
      expect(leader.leadsSince - leaseEnd).toBeLessThanOrEqual(GRACE_MS);
      expect(await witness.call("get_leader", { group })).toMatchObject({
        leader: { agentId: following.agent, term, you: false },
      });
      refused(await following.try("set_state", { key: "plan", value: "stale", ...fence }));
      refused(await witness.try("set_state", { key: "plan", value: "foreign", lock: `leader:${group}`, fencingToken: term }));
      leading = following;
    }
    await leading.call("set_state", { key: "plan", value: "last", lock: `leader:${group}`, fencingToken: term });
    await leading.close();
    expect(await witness.call("get_leader", { group })).toMatchObject({ leader: null, candidates: [] });
    await store.close();
  });

  test.concurrent(`${HOSTS} processes that add to one value under one lock lose nothing, and their history is linearizable`, {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-08", "STATE-11", "CORE-08");
    type In = { readonly do: "acquire" | "release"; readonly by: string; readonly mode: "exclusive" | "shared" };
    type State = { readonly holders: readonly { by: string; mode: string }[]; readonly token: number };
    const model: SequentialModel<State, In, number> = {
      initial: { holders: [], token: 0 },
      step({ holders, token }, { input: { do: what, by, mode }, output }) {
        if (what === "release") return [{ holders: holders.filter((holder) => holder.by !== by), token }];
        const free = mode === "exclusive" ? holders.length === 0 : holders.every((holder) => holder.mode === "shared");
        return free && output === token + 1 ? [{ holders: [...holders, { by, mode }], token: token + 1 }] : [];
      },
      key: ({ holders, token }) => `${token} ${holders.map(({ by, mode }) => `${by} ${mode}`).sort()}`,
    };
    using meeting = await meet();
    const calm = { SWARM_LEASE_MS: "60000" }; // no lease ends in this history
    const hosts = await Promise.all(
      Array.from({ length: HOSTS }, (_, at) => Host.start({ server, store: meeting.store, agent: `agent-${at}`, env: calm })),
    );
    const history: Operation<In, number>[] = [];
    const timed = async (input: In, work: () => Promise<number>): Promise<number> => {
      const invoked = performance.now();
      const output = await work();
      history.push({ by: input.by, invoked, returned: performance.now(), input, output });
      return output;
    };
    await hosts[0]?.call("set_state", { key: "sum", value: 0 });
    let added = 0;
    await Promise.all(
      hosts.map(async (host, at) => {
        const by = host.agent ?? "";
        for (let turn = 0; turn < TURNS_EACH; turn++) {
          const mode = (turn + at) % 4 === 0 ? "shared" : "exclusive";
          const fencingToken = await timed({ do: "acquire", by, mode }, async () => {
            const answer = await host.try("acquire_lock", { name: "sum", mode, waitMs: WAIT_MS });
            expect(answer.text).not.toMatch(LOCK_WORDS);
            expect(answer.isError, answer.text).toBe(false);
            return (answer.structured as unknown as Acquired).lock.fencingToken;
          });
          const { entry } = await host.call<{ entry: { value: number } }>("get_state", { key: "sum" });
          if (mode === "exclusive") {
            await host.call("set_state", { key: "sum", value: entry.value + 1, lock: "sum", fencingToken });
            added += 1;
          }
          await timed({ do: "release", by, mode }, async () => {
            await host.call("release_lock", { name: "sum", fencingToken });
            return fencingToken;
          });
        }
      }),
    );
    expect(await hosts[0]?.call("get_state", { key: "sum" })).toMatchObject({ entry: { value: added } });
    expect(history).toHaveLength(HOSTS * TURNS_EACH * 2);
    expect(checkLinearizable(history, model)).toEqual({ linearizable: true });
    expect(await hosts[0]?.call("list_locks")).toMatchObject({ locks: [] });
    await Promise.all(hosts.map((host) => host.close()));
  });
});
