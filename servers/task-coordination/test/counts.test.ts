import { TASK_STATUSES } from "@mcp-swarm/coordination/tasks";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { expect, test } from "vitest";
import { RUN_TYPES_MAX, spreadMs } from "../src/run-stats.ts";
import {
  addTallies,
  agentScope,
  histogramSize,
  openTasks,
  percentile,
  readTally,
  swarmScope,
  TALLY_EVENTS,
  TALLY_SHARDS,
  TallyChanges,
} from "../src/tally.ts";

const durations = fc.array(fc.integer({ min: 0, max: 100_000_000 }), { minLength: 1, maxLength: 200 });

test("a percentile from the buckets is within a tenth of the true one", () => {
  expect(percentile({}, 0.5)).toBeUndefined();
  return fc.assert(
    fc.asyncProperty(durations, fc.constantFrom(0.5, 0.9, 0.99, 1), async (values, fraction) => {
      const store = new MemoryStore();
      await store.transact((tx) => {
        const changes = new TallyChanges();
        for (const value of values) changes.ran([swarmScope], value);
        changes.write(tx, 0);
      });
      const histogram = (await readTally(store, swarmScope)).runMs;
      const truth = values.toSorted((a, b) => a - b)[Math.ceil(fraction * values.length) - 1] ?? 0;
      const read = percentile(histogram, fraction) ?? -1;
      expect(Math.abs(read - truth)).toBeLessThanOrEqual(1 + truth * 0.1);
    }),
  );
});

test("what is kept of a tally reads as it was written, whatever part of it there is", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...TASK_STATUSES, undefined), fc.constantFrom(...TASK_STATUSES)), { maxLength: 20 }),
      fc.array(fc.tuple(fc.constantFrom(...TALLY_EVENTS), fc.nat(10_000_000)), { maxLength: 20 }),
      fc.array(fc.nat(100_000_000), { maxLength: 20 }),
      async (moves, events, waits) => {
        const store = new MemoryStore();
        const scope = agentScope("a/b");
        const kept = new Map<string, number>();
        const note = (name: string, by: number) => kept.set(name, (kept.get(name) ?? 0) + by);
        await store.transact((tx) => {
          for (const [from, to] of moves) {
            const changes = new TallyChanges();
            changes.moved([scope], from, to);
            changes.write(tx, 0);
            if (from === to) continue;
            if (from !== undefined) note(from, -1);
            note(to, 1);
          }
          for (const [event, at] of events) {
            const changes = new TallyChanges();
            changes.happened([scope], event, at);
            changes.write(tx, 0);
            note(`event ${event}`, 1);
          }
          for (const ms of waits) {
            const changes = new TallyChanges();
            changes.waited([scope], ms);
            changes.write(tx, 0);
          }
        });
        const { status, events: happened, waitMs } = await readTally(store, scope);
        const read = [...Object.entries(status), ...Object.entries(happened).map(([name, count]) => [`event ${name}`, count])];
        expect(new Map(read as [string, number][])).toEqual(new Map([...kept].filter(([, count]) => count !== 0)));
        expect(histogramSize(waitMs)).toBe(waits.length);
      },
    ),
    { numRuns: 50 },
  );
});

test("the shards of all processes add up, whichever of them a task came and went through", async () => {
  const store = new MemoryStore();
  const write = (shard: number, work: (changes: TallyChanges) => void) =>
    store.transact((tx) => {
      const changes = new TallyChanges();
      work(changes);
      changes.write(tx, shard);
    });
  for (let shard = 0; shard < TALLY_SHARDS; shard++) {
    await write(shard, (changes) => changes.moved([swarmScope], undefined, "available"));
    await write((shard + 1) % TALLY_SHARDS, (changes) => changes.moved([swarmScope], "available", "claimed"));
    await write((shard + 2) % TALLY_SHARDS, (changes) => {
      changes.moved([swarmScope], "claimed", "done");
      changes.happened([swarmScope], "done", 0);
    });
  }
  await write(3, (changes) => changes.moved([swarmScope], undefined, "blocked"));
  const tally = await readTally(store, swarmScope);
  expect(tally.status).toEqual({ done: TALLY_SHARDS, blocked: 1 });
  expect(tally.events).toEqual({ done: TALLY_SHARDS });
  expect(openTasks(tally)).toBe(1);
  expect(addTallies(tally, tally).status).toEqual({ done: 2 * TALLY_SHARDS, blocked: 2 });
});

test("mean and spread of runs, kept one by one in any shards, are those of all durations", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(durations, { minLength: 1, maxLength: 4 }), async (byShard) => {
      const store = new MemoryStore();
      for (const [shard, values] of byShard.entries()) {
        for (const value of values) await recordRun(store, shard, "build", value, 1);
      }
      const merged = (await readTally(store, swarmScope)).runs.get("build");
      const all = byShard.flat();
      const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
      const variance = all.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (all.length - 1);
      expect(merged?.count).toBe(all.length);
      expect(merged?.meanMs).toBeCloseTo(mean, 3);
      const spread = merged && spreadMs(merged);
      if (all.length < 2) expect(spread).toBeUndefined();
      else expect(Math.abs((spread ?? 0) - Math.sqrt(variance))).toBeLessThanOrEqual(1e-6 * Math.sqrt(variance) + 1e-3);
    }),
    { numRuns: 50 },
  );
});

function recordRun(store: MemoryStore, shard: number, type: string, durationMs: number, now: number): Promise<void> {
  return store.transact((tx) => {
    const changes = new TallyChanges();
    changes.ranType([swarmScope], type, durationMs, now);
    changes.write(tx, shard);
  });
}

test("a tally knows the runs of so many types and no more: those that ran last", async () => {
  const store = new MemoryStore();
  for (let at = 0; at < 2 * RUN_TYPES_MAX; at++) await recordRun(store, 0, `type ${at}`, 1, at);
  await recordRun(store, 0, `type ${RUN_TYPES_MAX}`, 3, 2 * RUN_TYPES_MAX);
  const { runs } = await readTally(store, swarmScope);
  expect(runs.size).toBe(RUN_TYPES_MAX);
  expect(runs.get(`type ${RUN_TYPES_MAX}`)).toMatchObject({ count: 2, meanMs: 2 });
  expect(runs.has(`type ${RUN_TYPES_MAX - 1}`)).toBe(false);
});
