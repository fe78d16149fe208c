import { keepTask, type StoredTask, taskOf } from "@mcp-swarm/coordination/tasks";
import type { JsonObject } from "@mcp-swarm/core";
import { beforeEach, describe, expect, test } from "vitest";
import { type Swarm, swarm } from "../../servers/task-coordination/test/support/swarm.ts";
import { taskCensus } from "./task-invariants.ts";

/** What no record implies: slots, and queues that may be empty for a while. */
const IMPLIED_BY_NOTHING = /^(worker-slot|task-queues?)\//;

let there: Swarm;

/** One task in each status, with files, a deadline, dependencies, and a slot. */
beforeEach(async () => {
  there = swarm();
  const host = there.host("builder");
  const backoff = { initialMs: 1_000 };
  await host.tasks.addMany(host.call, {
    tasks: [
      { id: "available", description: "waits", deadlineAt: there.clock.now() + 60_000 },
      { id: "claimed", description: "held", files: ["src/a/**", "docs/*.md"] },
      { id: "working", description: "held" },
      { id: "delayed", description: "failed once", backoff },
      { id: "failed", description: "failed for good", maxAttempts: 1 },
      { id: "cancelled", description: "not wanted" },
      { id: "done", description: "finished" },
      { id: "blocked", description: "waits for another", dependencies: ["available", "done"] },
    ],
  });
  for (const taskId of ["claimed", "working", "delayed", "failed", "done"]) await host.claims.claimTask(host.call, { taskId });
  await host.claims.update(host.call, { taskId: "working", status: "working" });
  await host.claims.update(host.call, { taskId: "delayed", status: "failed" });
  await host.claims.update(host.call, { taskId: "failed", status: "failed" });
  await host.claims.update(host.call, { taskId: "done", status: "done", output: 1 });
  await host.tasks.cancel(host.call, { taskId: "cancelled" });
  await host.slots.claim(host.call);
});

async function keys(): Promise<string[]> {
  return await there.store.snapshot(async (view) => {
    const found: string[] = [];
    for (const namespace of await view.namespaces()) {
      const range = { from: `${namespace}/`, before: `${namespace}0`, limit: 1_000 };
      for (const { key } of await view.scan(range)) if (/^(task|resv|worker-slot)/.test(key)) found.push(key);
    }
    return found;
  });
}

const problems = async () => (await taskCensus(there.store)).problems;

async function change(id: string, patch: Partial<StoredTask>): Promise<void> {
  await there.store.transact((tx) => {
    const task = taskOf(tx.get(`task/${id}`)?.value ?? null);
    tx.put(`task/${id}`, keepTask({ ...task, ...patch }));
  });
}

describe("the census of a store of tasks", () => {
  test("finds nothing wrong with what the domain writes, in every status", async () => {
    const census = await taskCensus(there.store);
    expect(census.problems).toEqual([]);
    expect([...census.tasks.values()].map(({ id, status }) => [id, status])).toEqual(
      [...census.tasks.keys()].map((id) => [id, id]),
    );
    expect([...census.slots]).toEqual([[1, "builder"]]);
    expect(census.reservations).toHaveLength(1);
  });

  test("notices the loss of any one row", async () => {
    for (const key of await keys()) {
      if (IMPLIED_BY_NOTHING.test(key)) continue;
      const row = await there.store.get(key);
      await there.store.transact((tx) => tx.delete(key));
      expect(await problems(), `without ${key}`).not.toEqual([]);
      const ttl = row?.expiresAt === undefined ? {} : { ttlMs: row.expiresAt - there.clock.now() };
      await there.store.transact((tx) => tx.put(key, row?.value ?? null, ttl));
      expect(await problems(), `with ${key} again`).toEqual([]);
    }
  });

  test("notices a lease that is said to be another's", async () => {
    const [lease] = (await keys()).filter((key) => key.startsWith("task-live/lease/"));
    const row = await there.store.get(lease ?? "");
    await there.store.transact((tx) => tx.put(lease ?? "", { ...(row?.value as JsonObject), by: "another" }));
    expect(await problems()).not.toEqual([]);
  });

  test.each<[string, Partial<StoredTask>]>([
    ["available", { status: "done" }],
    ["available", { attempt: 1 }],
    ["available", { fencingToken: 1 }],
    ["available", { deadlineAt: 1 }],
    ["claimed", { fencingToken: 2 }],
    ["claimed", { attempt: 2 }],
    ["blocked", { open: [] }],
    ["done", { history: [] }],
    ["delayed", { dueAt: 1 }],
  ])("notices that the record of task %s says %j", async (id, patch) => {
    await change(id, patch);
    expect(await problems()).not.toEqual([]);
  });

  test("notices an index, a reservation and a count that no record asks for", async () => {
    for (const [key, value] of [
      ["task-ready/q/1/2/ghost", { id: "ghost", refs: [] }],
      ["task-live/lease/1/available", { id: "available", by: "builder", refs: [] }],
      ["task-live/fanout/ghost", 1],
      ["task-live/tally/03", { status: [0, 0, 0, 0, 0, 1] }],
      ["task-live/tally/04", { events: [0, 1] }],
      ["task-live/agent/ghost", { events: [0, 0, 1] }],
      ["resv/at/~/ghost/0", { glob: "x", id: "ghost", holder: "a", mode: "exclusive" }],
    ] as const) {
      const before = await there.store.get(key);
      await there.store.transact((tx) => tx.put(key, value));
      expect(await problems(), key).not.toEqual([]);
      await there.store.transact((tx) => (before ? tx.put(key, before.value) : tx.delete(key)));
      expect(await problems(), key).toEqual([]);
    }
  });
});
