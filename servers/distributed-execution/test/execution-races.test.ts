import { setTimeout as sleep } from "node:timers/promises";
import { SequenceSource } from "@mcp-swarm/coordination";
import { systemClock, systemRandom } from "@mcp-swarm/core";
import { openStore, type Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { Batches } from "../src/batches.ts";
import { hasEnded } from "../src/execution-record.ts";
import { executionCensus } from "./support/execution-census.ts";
import { hostOn, maintain, type QueueHost } from "./support/queue-swarm.ts";

const HOSTS = 8;
const TASKS = 500;
/** Longest that a condition is waited for, in ms; nothing is said about how long it takes. */
const PATIENCE_MS = 45_000;

async function onEngine(engine: (typeof ENGINES)[number], work: (stores: readonly Store[]) => Promise<void>): Promise<void> {
  using meeting = await engine.meet();
  const stores: Store[] = [];
  try {
    for (let at = 0; at < HOSTS; at++) stores.push(await openStore(meeting.store));
    await work(stores);
  } finally {
    for (const store of stores) await store.close();
  }
}

function hostsOn(stores: readonly Store[]): QueueHost[] {
  return stores.map((store, at) => hostOn(store, `w${at}`, { clock: systemClock, seed: 1_000 + at }));
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`This did not come about: ${what}`);
    await sleep(20);
  }
}

describe.each(ENGINES)("on $name", (engine) => {
  test(`${HOSTS} stores that claim ${TASKS} tasks at once give each of them to one worker, and lose none`, async () => {
    verifies("EXEC-09", "EXEC-10");
    await onEngine(engine, async (stores) => {
      const hosts = hostsOn(stores);
      await Promise.all(
        hosts.map(async (host, at) => {
          const own = Array.from({ length: TASKS }, (_, n) => n).filter((n) => n % HOSTS === at);
          await Promise.all(
            own.map((n) => host.submit({ priority: n % 10, environment: n % 3 === 0 ? "python" : "javascript" })),
          );
        }),
      );
      const claims: string[] = [];
      const serve = async (host: QueueHost) => {
        for (let run = await host.take(); run; ) {
          claims.push(`${run.record.id} ${run.record.attempt}`);
          const { accepted, next } = await host.finish(run, { value: host.name }, host.profile());
          expect(accepted).toBe(true);
          run = next;
        }
      };
      // two slots each
      await Promise.all(hosts.flatMap((host) => [serve(host), serve(host)]));
      for (const host of hosts) await serve(host);
      const [store] = stores;
      const { records, problems } = await executionCensus(store as Store);
      expect(problems).toEqual([]);
      expect(records.size).toBe(TASKS);
      expect([...records.values()].filter(({ status, attempt }) => status !== "succeeded" || attempt !== 1)).toEqual([]);
      expect(new Set(claims).size).toBe(TASKS);
      expect(claims).toHaveLength(TASKS);
      for (const host of hosts) expect(host.errors).toEqual([]);
    });
  });

  test("workers of many stores that finish, cancel and give back at once keep a batch to its limit, and every index in step", async () => {
    verifies("EXEC-09", "EXEC-11");
    await onEngine(engine, async (stores) => {
      const hosts = hostsOn(stores);
      const [first] = hosts;
      if (!first) throw new Error("There are no hosts");
      const sequence = new SequenceSource(systemRandom);
      const batches = new Batches({ clock: systemClock, random: systemRandom, context: first.context, sequence });
      const limit = 3;
      const { id: batchId } = await batches.submit(first.call, {
        tasks: Array.from({ length: 60 }, (_, at) => ({
          key: `k${at}`,
          dependencies: at % 5 === 4 ? [`k${at - 1}`, `k${at - 4}`] : [],
          after: at % 10 === 9 ? "any" : "success",
        })),
        defaults: { code: "1", environment: "javascript" },
        maxConcurrency: limit,
      });
      const ids = (await first.executions.list(first.call, { batchId, limit: 100 })).tasks.map(({ id }) => id);
      let running = 0;
      let most = 0;
      let turns = 0;
      const serve = async (host: QueueHost) => {
        for (;;) {
          const run = await host.take();
          if (!run) {
            const open = await host.store.scan({ from: `exec-open/${batchId}/`, before: `exec-open/${batchId}0`, limit: 1 });
            if (open.length === 0) return;
            for (const job of host.jobs) await job.run(); // what was given back waits for its pause
            await sleep(5);
            continue;
          }
          running += 1;
          most = Math.max(most, running);
          turns += 1;
          const turn = turns;
          await sleep(turn % 4);
          running -= 1;
          if (turn % 11 === 0) await host.work.giveBack(run);
          else if (turn % 17 === 0) await host.work.giveBack(run, "sandbox");
          else await host.finish(run, turn % 13 === 0 ? { ending: { kind: "exit", code: 1 } } : {});
        }
      };
      const cancels = ids.filter((_, at) => at % 12 === 7);
      await Promise.all([
        ...hosts.map(serve),
        ...cancels.map(async (taskId, at) => {
          await sleep(3 * at);
          await first.executions.cancel(first.call, { taskId }).catch((error: { code?: string }) => {
            if (error.code !== "failed_precondition") throw error; // it had ended already
          });
        }),
      ]);
      expect(most).toBeLessThanOrEqual(limit);
      const { records, problems } = await executionCensus(first.store);
      expect(problems).toEqual([]);
      expect([...records.values()].filter(({ status }) => !hasEnded(status))).toEqual([]);
      for (const host of hosts) expect(host.errors).toEqual([]);
    });
  });

  test("a waiting worker, a reader of output, a waiter for the end and a cancelled run hear of it from other processes", async () => {
    verifies("EXEC-02", "EXEC-09");
    await onEngine(engine, async (stores) => {
      const [ada, bob, eve] = hostsOn(stores);
      if (!ada || !bob || !eve) throw new Error("There are no hosts");
      const waitMs = PATIENCE_MS;
      const next = () => bob.work.next(bob.profile(), { waitMs, signal: new AbortController().signal });
      const coming = next();
      const { id: taskId } = await ada.submit();
      const run = await coming;
      expect(run?.record.id).toBe(taskId);
      if (!run) return;
      const followed = eve.executions.output(eve.call, { taskId }, { waitMs });
      await bob.work.output(run, [{ stream: "stderr", bytes: Buffer.from("half way") }]);
      expect((await followed).parts).toEqual([{ stream: "stderr", text: "half way" }]);
      const end = eve.executions.get(eve.call, { taskId }, { waitMs });
      const more = next();
      const { id: other } = await ada.submit();
      await bob.finish(run, { stderr: Buffer.from("half way, done"), value: [1] });
      expect(await end).toMatchObject({ status: "succeeded", result: { value: [1], stderr: { head: "half way, done" } } });
      const second = await more;
      if (!second) throw new Error("Nothing was claimed");
      await eve.executions.cancel(eve.call, { taskId: other });
      await until("the run is killed", async () => second.signal.aborted);
      const cancelled = ada.executions.get(ada.call, { taskId: other }, { waitMs });
      await bob.finish(second, { ending: { kind: "killed" } });
      expect((await cancelled).status).toBe("cancelled");
    });
  });

  test("what a worker holds that falls silent is run by another, however many processes look after it", async () => {
    verifies("EXEC-09");
    await onEngine(engine, async (stores) => {
      const hosts = hostsOn(stores);
      const [dead, ...living] = hosts;
      const [other] = living;
      if (!dead || !other) throw new Error("There are no hosts");
      for (let at = 0; at < 20; at++) await other.submit();
      const lost = [];
      for (let run = await dead.take(); run; run = await dead.take()) lost.push(run);
      expect(lost).toHaveLength(20);
      dead.die();
      const done = new Map<string, number>();
      await until("all were run by others", async () => {
        await Promise.all(
          living.map(async (host) => {
            await maintain(host.jobs);
            for (let run = await host.take(); run; run = await host.take()) {
              done.set(run.record.id, (done.get(run.record.id) ?? 0) + 1);
              expect((await host.finish(run)).accepted).toBe(true);
            }
          }),
        );
        return done.size === lost.length;
      });
      expect([...done.values()].filter((times) => times !== 1)).toEqual([]);
      for (const run of lost) expect(await dead.finish(run)).toEqual({ accepted: false });
      const { records, problems } = await executionCensus(other.store);
      expect(problems).toEqual([]);
      expect(
        [...records.values()].every(({ status, attempt, spent }) => status === "succeeded" && attempt === 2 && spent === 1),
      ).toBe(true);
    });
  });
});
