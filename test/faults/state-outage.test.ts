/** PostgreSQL goes away and comes back under hosts that count, follow, hold locks and lead. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host, type ToolAnswer } from "../support/host.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { size } from "./engines.ts";

const WRITERS = 4;
const STEPS_EACH = size(40, 300);
const ROUNDS = size(1, 4);
/** Longer than an outage lasts: what lives keeps what it holds. */
const env = { SWARM_LEASE_MS: "60000" };
const WAIT_MS = 5_000;
const INSIST_MS = 120_000;

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server.stop();
});

let unavailable = 0;

/** The first answer that does not say that the store is away; nothing else may be wrong. */
async function insist(call: () => Promise<ToolAnswer>): Promise<ToolAnswer> {
  return await eventually(
    "an answer",
    async () => {
      const answer = await call();
      if (!answer.isError) return answer;
      expect(answer.text).toMatch(/^unavailable: .*\nThe same call may succeed if you repeat it\.$/s);
      unavailable += 1;
      return undefined;
    },
    INSIST_MS,
  );
}

interface Waited {
  changes: { rev: number; key: string; by: string; value?: number; oldValue?: number }[];
  nextRev: number;
}

describe("PostgreSQL", () => {
  test("restarts and a crash lose no change and show none twice; locks, leaders and watched resources are as they were", {
    timeout: 900_000,
  }, async () => {
    verifies("CORE-09", "CORE-12", "STATE-05", "STATE-06", "STATE-08", "STATE-10");
    for (let round = 0; round < ROUNDS; round++) {
      const store = await server.freshDatabase();
      const start = (agent: string) => Host.start({ server: "shared-state", store, agent, env });
      const hosts = await Promise.all(
        ["holder", "follower", ...Array.from({ length: WRITERS }, (_, at) => `writer-${at}`)].map(start),
      );
      const [holder, follower, ...writers] = hosts as [Host, Host, ...Host[]];
      const total = WRITERS * STEPS_EACH;
      let made = 0;
      const { lock } = await holder.call<{ lock: { fencingToken: number } }>("acquire_lock", { name: "deploy" });
      const { leader } = await holder.call<{ leader: { term: number } }>("elect_leader", { group: "builds" });
      const watched = "state://global/count";
      await follower.subscribe(watched);

      const seen: Waited["changes"] = [];
      const following = (async () => {
        let sinceRev = 0;
        for (let turn = 0; seen.length < total && turn < 10 * total; turn++) {
          const answer = await insist(() => follower.try("wait_for_state", { key: "count", sinceRev, waitMs: WAIT_MS }));
          const { changes, nextRev } = answer.structured as unknown as Waited;
          seen.push(...changes);
          sinceRev = nextRev;
        }
      })();
      const writing = writers.map(async (writer) => {
        for (let step = 0; step < STEPS_EACH; step++) {
          const idempotencyKey = `${writer.agent} ${step}`;
          await insist(() => writer.try("patch_state", { key: "count", increment: 1, idempotencyKey }));
          made += 1;
        }
      });
      const outages = (async () => {
        for (const [part, how] of [
          [0.2, "fast"],
          [0.6, "crash"],
        ] as const) {
          await eventually("progress", () => made >= part * total, INSIST_MS);
          expect(made).toBeLessThan(total); // it happens under their hands
          await server.restart(how);
          // what was held before is held after, and by nobody else
          const fence = { lock: "deploy", fencingToken: lock.fencingToken };
          await insist(() => holder.try("set_state", { key: "held", value: how, ...fence }));
          const asLeader = { lock: "leader:builds", fencingToken: leader.term };
          await insist(() => holder.try("set_state", { key: "led", value: how, ...asLeader }));
          const other = await eventually("a refusal", async () => {
            const answer = await follower.try("acquire_lock", { name: "deploy" });
            return answer.text.startsWith("unavailable: ") ? undefined : answer;
          });
          expect(other.text).toMatch(/^conflict: Lock deploy: holder holds it exclusive /);
        }
      })();
      await Promise.all([following, outages, ...writing]);

      // each change once and in order, and its values are right as long as they are kept
      expect(seen).toHaveLength(total);
      const revisions = seen.map(({ rev }) => rev);
      expect(revisions).toEqual([...new Set(revisions)].toSorted((one, two) => one - two));
      for (const [at, { value = at + 1, oldValue = at }] of seen.entries()) expect([value, oldValue]).toEqual([at + 1, at]);
      expect(seen.filter(({ value }) => value !== undefined).length).toBeGreaterThan(WRITERS);
      expect(await follower.call("get_state", { key: "count" })).toMatchObject({ entry: { value: total, version: total } });
      const before = follower.updates(watched);
      expect(before).toBeGreaterThan(0);
      await writers[0]?.call("patch_state", { key: "count", increment: 1 });
      await eventually("the watched resource is told of", () => follower.updates(watched) > before);
      const waiting = follower.call("acquire_lock", { name: "deploy", waitMs: INSIST_MS / 4 });
      await holder.close();
      expect(await waiting).toMatchObject({ lock: { agentId: "follower", fencingToken: lock.fencingToken + 1 } });
      await Promise.all(hosts.map((host) => host.close()));
    }
    console.log(`${2 * ROUNDS} outages, ${unavailable} times unavailable`);
  });
});
