import { manualClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { expiredRowsJob, passJob } from "../src/index.ts";

test("a pass goes on where its batch ended, waits its time after the end, and begins anew", async () => {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const seen: (string | undefined)[] = [];
  const ends = ["b", "d", undefined, "b", "d", undefined];
  const job = passJob("look", store, 1_000, async (after) => {
    seen.push(after);
    return ends[seen.length - 1];
  });
  expect(await job.run()).toBe(1_000);
  await clock.advance(1_000);
  expect([await job.run(), await job.run(), await job.run(), await job.run()]).toEqual([0, 0, 1_000, 1_000]);
  await clock.advance(1_000);
  expect([await job.run(), await job.run(), await job.run()]).toEqual([0, 0, 1_000]);
  expect(seen).toEqual([undefined, "b", "d", undefined, "b", "d"]);
});

test("expired rows leave the store in the background, and living ones stay", async () => {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  await store.transact((tx) => {
    for (let i = 0; i < 1_500; i++) tx.put(`idem/${i}`, i, { ttlMs: 1_000 });
    tx.put("idem/lives", 1, { ttlMs: 86_400_000 });
  });
  const job = expiredRowsJob(store);
  await job.run();
  await clock.advance(300_000);
  expect(await job.run()).toBe(0); // there is more
  expect(await job.run()).toBeGreaterThan(0);
  expect(await store.sweep(10)).toBe(0);
  expect(await store.get("idem/lives")).toBeDefined();
});
