import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { expect, test } from "vitest";
import { mergeRunStats, recordRun, runStats, spreadMs } from "../src/run-stats.ts";
import { addTallies, openTasks, percentile, readTally, swarmScope, TALLY_SHARDS, TallyChanges } from "../src/tally.ts";

const durations = fc.array(fc.integer({ min: 0, max: 100_000_000 }), { minLength: 1, maxLength: 200 });

test("a percentile from the buckets is within a tenth of the true one", () => {
  fc.assert(
    fc.property(durations, fc.constantFrom(0.5, 0.9, 0.99, 1), (values, fraction) => {
      const changes = new TallyChanges();
      for (const value of values) changes.ran([swarmScope], value);
      const histogram = collect(changes).runMs;
      const truth = values.toSorted((a, b) => a - b)[Math.ceil(fraction * values.length) - 1] ?? 0;
      const read = percentile(histogram, fraction) ?? -1;
      expect(Math.abs(read - truth)).toBeLessThanOrEqual(1 + truth * 0.1);
    }),
  );
  expect(percentile({}, 0.5)).toBeUndefined();
});

/** What the changes alone would write. */
function collect(changes: TallyChanges) {
  let written: unknown;
  changes.write(
    {
      now: 0,
      get: () => undefined,
      scan: () => [],
      pick: () => undefined,
      put: (_, value) => {
        written = value;
      },
      delete: () => {},
    },
    0,
  );
  return written as Awaited<ReturnType<typeof readTally>>;
}

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

test("mean and spread of runs, kept one by one and merged over agents, are those of all durations", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(durations, { minLength: 1, maxLength: 4 }), async (byAgent) => {
      const store = new MemoryStore();
      for (const [at, values] of byAgent.entries()) {
        for (const value of values) await store.transact((tx) => recordRun(tx, "build", `agent-${at}`, value));
      }
      const merged = mergeRunStats(await runStats(store, "build"));
      const all = byAgent.flat();
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
