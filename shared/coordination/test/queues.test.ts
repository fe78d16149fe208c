import { manualClock, seededRandom } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { counted } from "../../../test/support/counted-store.ts";
import { AGE_MS, QueueDirectory, queueNameOf, rankAt, SequenceSource, sequenceAt } from "../src/queues.ts";

const directory = () =>
  new QueueDirectory<{ type: string }>({ prefix: "q/", versionKey: "qs/version", nameOf: ({ type }) => queueNameOf(type) });

test("a rank puts the urgent first, then what has a deadline, and lifts what waits by a level each AGE_MS", () => {
  verifies("TASK-05", "EXEC-09");
  const now = 1_750_000_000_000;
  expect(rankAt(0, now) < rankAt(1, now)).toBe(true);
  expect(rankAt(4, now, now + 1) < rankAt(4, now, now + 2)).toBe(true);
  expect(rankAt(4, now, now + 2) < rankAt(4, now)).toBe(true);
  expect(rankAt(9, now) < rankAt(0, now + 9 * AGE_MS)).toBe(false);
  expect(rankAt(9, now) < rankAt(0, now + 10 * AGE_MS)).toBe(true);
});

test("sequences of one process keep the order in which they were asked for, within a millisecond too", () => {
  const source = new SequenceSource(seededRandom(1));
  const made = Array.from({ length: 100 }, () => sequenceAt(5, source.next()));
  expect([...made].sort()).toEqual(made);
  expect(new Set(made).size).toBe(100);
});

test("what a process knows of the queues costs one row to confirm, and a queue that came or went is noticed", async () => {
  const { store, touched } = counted(new MemoryStore({ clock: manualClock() }));
  const queues = directory();
  await store.transact((tx) => {
    for (const type of ["a", "b", "c"]) queues.keep(tx, { type });
  });
  const known = await queues.read(store);
  expect(known.queues.map(({ type }) => type).sort()).toEqual(["a", "b", "c"]);
  const before = touched();
  expect(await store.transact((tx) => queues.in(tx, known))).toEqual({ queues: known.queues, changed: false });
  expect(await queues.read(store, known)).toBe(known);
  expect(touched() - before).toBe(2);
  await store.transact((tx) => queues.keep(tx, { type: "a" })); // it is there: nothing changes
  expect(await queues.read(store, known)).toBe(known);
  await store.transact((tx) => queues.keep(tx, { type: "d" }));
  expect((await store.transact((tx) => queues.in(tx, known))).changed).toBe(true);
  expect((await queues.read(store, known)).queues).toHaveLength(4);
  await queues.dropEmpty(store, { after: undefined, limit: 10, isEmpty: (_, { type }) => type !== "b" });
  expect((await queues.read(store)).queues).toEqual([{ type: "b" }]);
});
