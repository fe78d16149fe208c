import type { Json } from "@mcp-swarm/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Claim, keepTask, type StoredTask, TASK_STATUSES, type TaskChange, taskOf } from "../src/tasks/index.ts";

const agents = fc.constantFrom("ann", "bob/helper", "swarm");
const counts = fc.constantFrom(0, 1, 5, 7);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const status = fc.constantFrom(...TASK_STATUSES);
const change: fc.Arbitrary<TaskChange> = fc.record(
  {
    at: fc.integer({ min: 1_000, max: 1_000_000 }),
    by: agents,
    event: fc.constantFrom("added", "claimed", "done", "lease_expired"),
    from: status,
    to: status,
    attempt: counts,
    note: fc.constantFrom("", "why", ":tagged"),
  },
  { requiredKeys: ["at", "by", "event", "to", "attempt"] },
);
/** A history as tasks have it: only the first change may come from nowhere. */
const history = fc
  .array(change, { maxLength: 5 })
  .map((changes) => changes.map((one, at) => (at === 0 ? one : { ...one, from: one.from ?? changes[at - 1]?.to ?? one.to })));
const claim: fc.Arbitrary<Claim> = fc.record(
  { by: agents, processId: agents, workerSlot: counts, at: counts, leaseMs: counts, leaseExpiresAt: counts },
  { requiredKeys: ["by", "at", "leaseMs", "leaseExpiresAt"] },
);
const task: fc.Arbitrary<StoredTask> = fc.record({
  id: fc.constant("t1"),
  description: fc.string(),
  type: fc.constantFrom("general", "build"),
  status,
  priority: counts,
  createdAt: fc.constantFrom(0, 500_000),
  createdBy: agents,
  dependencies: fc.array(agents, { maxLength: 2 }),
  open: fc.array(agents, { maxLength: 2 }),
  requiredCapabilities: fc.array(agents, { maxLength: 2 }),
  maxAttempts: fc.constantFrom(1, 3),
  backoff: fc.record({
    initialMs: fc.constantFrom(1_000, 1),
    factor: fc.constantFrom(2, 1),
    maxMs: fc.constantFrom(300_000, 1),
  }),
  attempt: counts,
  fencingToken: counts,
  historyDropped: counts,
  history,
  seq: fc.constant("1"),
  readyAt: optional(counts),
  ...Object.fromEntries(["dueAt", "startedAt", "endedAt", "deadlineAt"].map((name) => [name, optional(counts)])),
  output: fc.constantFrom<Json>(null, 0, [], {}, "x"),
  claim: optional(claim),
  held: optional(fc.constant(true as const)),
});

test("a task reads from the store as it was, whatever is unusual about it", () => {
  fc.assert(
    fc.property(task, (stored) => {
      const read = taskOf(JSON.parse(JSON.stringify(keepTask(stored))));
      expect(read).toEqual(stored);
      expect(taskOf(keepTask(read))).toEqual(read);
    }),
  );
});

test("what is stored of an ordinary task is short", () => {
  const done: StoredTask = {
    id: "t1",
    description: "x",
    type: "general",
    status: "done",
    priority: 5,
    createdAt: 1_750_000_000_000,
    createdBy: "planner",
    dependencies: [],
    open: [],
    requiredCapabilities: [],
    maxAttempts: 3,
    backoff: { initialMs: 1_000, factor: 2, maxMs: 300_000 },
    attempt: 1,
    fencingToken: 1,
    historyDropped: 0,
    history: [
      { at: 1_750_000_000_000, by: "planner", event: "added", to: "available", attempt: 0 },
      { at: 1_750_000_000_100, by: "worker", event: "claimed", from: "available", to: "claimed", attempt: 1 },
      { at: 1_750_000_000_900, by: "worker", event: "done", from: "claimed", to: "done", attempt: 1 },
    ],
    seq: "1",
  };
  expect(JSON.stringify(keepTask(done)).length).toBeLessThan(JSON.stringify(done).length / 2);
});
