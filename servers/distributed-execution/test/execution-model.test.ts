import { SequenceSource } from "@mcp-swarm/coordination";
import { SwarmError, seededRandom } from "@mcp-swarm/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Batches } from "../src/batches.ts";
import { prefixes } from "../src/execution-layer.ts";
import { hasEnded } from "../src/execution-record.ts";
import { readExecution } from "../src/executions.ts";
import type { ClaimedRun } from "../src/worker/work-source.ts";
import { everyRow, executionCensus } from "./support/execution-census.ts";
import { type ModelBatch, QueueModel } from "./support/queue-model.ts";
import { LEASE_MS, maintain, type QueueHost, queueSwarm } from "./support/queue-swarm.ts";

const WORKERS = 3;
const RECOUNT_EVERY = 8;

const worker = fc.nat(WORKERS - 1);
const target = fc.nat(40);
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      priority: fc.integer({ min: 3, max: 6 }),
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      queueTimeout: fc.constantFrom(20_000, 3_600_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("batch" as const),
      members: fc.array(
        fc.record({
          priority: fc.integer({ min: 3, max: 6 }),
          waitsFor: fc.array(fc.nat(6), { maxLength: 2 }),
          after: fc.constantFrom("success" as const, "success" as const, "any" as const),
        }),
        { minLength: 1, maxLength: 6 },
      ),
      limit: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
      stopOnFailure: fc.integer({ min: 0, max: 3 }).map((roll) => roll === 0),
    }),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("take" as const), worker }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("finish" as const),
      target,
      code: fc.constantFrom("ok" as const, "ok" as const, "ok" as const, "failed" as const, "killed" as const),
      takesNext: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("give back" as const),
      target,
      failure: fc.constantFrom("sandbox" as const, undefined),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), target }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("die" as const), worker, found: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(1, 300, 2_000, LEASE_MS + 1, 400_000) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("maintain" as const) }) },
);

test("executions do what a simple model of them does, whatever agents and workers do, and whenever they die", async () => {
  verifies("EXEC-09", "EXEC-11");
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 70, size: "max" }), async (steps) => {
      const { store, clock, host } = queueSwarm();
      const agent = host("agent");
      let born = 0;
      const bear = () => {
        born += 1;
        return host(`worker-${born}`);
      };
      const workers = Array.from({ length: WORKERS }, bear);
      /** All runs that were ever claimed, by whom; dead workers' too, which may speak up late. */
      const runs: { by: QueueHost; run: ClaimedRun; told: boolean }[] = [];
      const model = new QueueModel(clock.now());
      const batches = new Batches({
        ...{ clock, context: agent.context, random: seededRandom(77), sequence: new SequenceSource(seededRandom(78)) },
      });
      const note = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
      const claimed = (by: QueueHost, run: ClaimedRun | undefined) => {
        const expected = model.claim(by.name);
        expect(run && { id: run.record.id, attempt: run.record.attempt }).toEqual(expected);
        if (run) runs.push({ by, run, told: false });
        note(run ? "claimed" : "nothing to claim");
      };
      for (const [at, one] of steps.entries()) {
        const who = workers["worker" in one ? one.worker : 0] ?? agent;
        const untold = runs.filter(({ told }) => !told);
        // often one whose worker was given up, which speaks up late
        const ghosts = "target" in one && one.target % 3 === 0 ? untold.filter(({ by }) => !workers.includes(by)) : [];
        const open = ghosts.length > 0 ? ghosts : untold;
        const chosen = "target" in one ? open[one.target % Math.max(1, open.length)] : undefined;
        switch (one.kind) {
          case "submit": {
            const { priority, maxAttempts, queueTimeout } = one;
            model.add([await agent.submit({ priority, maxAttempts, queueTimeout })]);
            break;
          }
          case "batch": {
            const { members, limit, stopOnFailure } = one;
            const keys = (waitsFor: readonly number[], place: number) => [
              ...new Set(waitsFor.filter((other) => other < place).map((other) => `k${other}`)),
            ];
            const { id: batchId } = await batches.submit(agent.call, {
              tasks: members.map(({ priority, waitsFor, after }, place) => ({
                ...{ key: `k${place}`, code: "1", environment: "javascript", priority, after },
                dependencies: keys(waitsFor, place),
              })),
              stopOnFailure,
              ...(limit === undefined ? {} : { maxConcurrency: limit }),
            });
            const { tasks } = await agent.executions.list(agent.call, { batchId });
            const batch: ModelBatch = { limit, stopOnFailure, stopped: false };
            model.add(tasks, {
              batch,
              after: (place) => members[place]?.after ?? "success",
              waitsFor: (place) =>
                keys(members[place]?.waitsFor ?? [], place).map((key) => tasks[Number(key.slice(1))]?.id ?? ""),
            });
            break;
          }
          case "take":
            claimed(who, await who.take());
            break;
          case "finish": {
            if (!chosen) break;
            const { by, run } = chosen;
            const { id, attempt } = run.record;
            const holds = model.holds(by.name, id, attempt);
            const ending = {
              ok: { kind: "exit", code: 0 },
              failed: { kind: "exit", code: 1 },
              killed: { kind: "killed" },
            } as const;
            const next = one.takesNext && workers.includes(by) ? by.profile() : undefined;
            const answer = await by.finish(run, { ending: ending[one.code] }, next);
            expect(answer.accepted, `step ${at}`).toBe(holds);
            if (holds) model.finish(id, one.code);
            if (next) claimed(by, answer.next);
            chosen.told = true;
            note(holds ? "finished" : "finished late");
            break;
          }
          case "give back": {
            if (!chosen) break;
            const { by, run } = chosen;
            const { id, attempt } = run.record;
            const holds = model.holds(by.name, id, attempt);
            await by.work.giveBack(run, one.failure);
            if (holds) model.giveBack(id, one.failure);
            chosen.told = true;
            note(holds ? "given back" : "given back late");
            break;
          }
          case "cancel": {
            const ids = [...model.runs.keys()];
            const taskId = ids[one.target % Math.max(1, ids.length)];
            if (taskId === undefined) break;
            const real = await agent.executions.cancel(agent.call, { taskId }).then(
              () => "went",
              (error: unknown) => (error instanceof SwarmError && error.code === "failed_precondition" ? "refused" : error),
            );
            expect(real, `step ${at}`).toBe(model.cancel(taskId));
            note(`cancel ${String(real)}`);
            break;
          }
          case "die": {
            who.die();
            const ends = new Map<string, number>();
            for (const { by, run } of runs) {
              if (by !== who) continue;
              ends.set(run.record.id, (await readExecution(store, run.record.id)).worker?.leaseExpiresAt ?? 0);
            }
            model.die(who.name, ends);
            workers[one.worker] = bear();
            if (!one.found) break;
            await clock.advance(LEASE_MS + 1);
            model.now = clock.now();
            await maintain(agent.jobs);
            model.maintain();
            break;
          }
          case "advance":
            await clock.advance(one.ms);
            model.now = clock.now();
            break;
          case "maintain":
            await maintain(agent.jobs);
            model.maintain();
        }
        if (at % RECOUNT_EVERY !== 0 && at !== steps.length - 1) continue;
        const { records, problems } = await executionCensus(store);
        expect(problems, `step ${at}`).toEqual([]);
        const real = [...records.values()].map(({ id, status, attempt, spent, failure }) => ({
          id,
          status,
          attempt,
          spent,
          failure,
        }));
        const wanted = [...model.runs.values()].map(({ id, status, attempt, spent, failure }) => ({
          id,
          status,
          attempt,
          spent,
          failure,
        }));
        const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
        expect(real.sort(byId), `step ${at}: ${one.kind}`).toEqual(wanted.sort(byId));
      }
      for (const { errors } of [agent, ...workers]) expect(errors).toEqual([]);

      // nothing is lost: with one living worker everything comes to an end
      const last = bear();
      for (const { by } of runs) by.die();
      for (let round = 0; round < 200; round++) {
        for (let run = await last.take(); run; run = await last.take()) await last.finish(run);
        const open = [...(await executionCensus(store)).records.values()].filter(({ status }) => !hasEnded(status));
        if (open.length === 0) break;
        await clock.advance(LEASE_MS + 1);
        await maintain(agent.jobs);
      }
      const { records, problems } = await executionCensus(store);
      expect(problems).toEqual([]);
      expect([...records.values()].filter(({ status }) => !hasEnded(status))).toEqual([]);
      expect(await everyRow(store, prefixes.ready.slice(0, -1))).toEqual([]);
    }),
    { numRuns: 200 },
  );
  // the programs did go where the promises are
  for (const what of [
    "claimed",
    "nothing to claim",
    "finished",
    "finished late",
    "given back",
    "given back late",
    "cancel went",
    "cancel refused",
  ]) {
    expect(seen.get(what) ?? 0, what).toBeGreaterThan(0);
  }
});
