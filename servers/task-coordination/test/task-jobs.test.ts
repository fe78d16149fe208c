import { Maintenance } from "@mcp-swarm/coordination";
import { seededRandom } from "@mcp-swarm/core";
import { prefixRange } from "@mcp-swarm/store";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { dropEmptyQueues } from "../src/task-jobs.ts";
import { QUEUES_MAX } from "../src/task-queue.ts";
import { checkTasks } from "./support/invariants.ts";
import { LEASE_MS, swarm } from "./support/swarm.ts";

const DAY_MS = 24 * 3_600_000;

test("in the background of any process, a dead holder's task is free within its lease and a second", async () => {
  verifies("TASK-07");
  const { store, host, clock } = swarm();
  const dead = host("dead", { remote: true, remoteLeaseMs: LEASE_MS });
  const errors: unknown[] = [];
  const maintenances = ["one", "two", "three"].map((name, seed) => {
    const maintenance = new Maintenance({ clock, random: seededRandom(seed), onError: (error) => errors.push(error) });
    for (const job of host(name).jobs) maintenance.add(job);
    maintenance.start();
    return maintenance;
  });
  const ids = Array.from({ length: 250 }, (_, at) => `t${at}`);
  await dead.tasks.addMany(dead.call, { tasks: ids.map((id) => ({ id, description: "x" })) });
  for (const taskId of ids) await dead.claims.claimTask(dead.call, { taskId });
  await clock.advance(LEASE_MS - 1);
  expect((await checkTasks(store)).every(({ status }) => status === "claimed")).toBe(true);
  await clock.advance(1_001);
  expect((await checkTasks(store)).every(({ status }) => status === "available")).toBe(true);
  for (const maintenance of maintenances) await maintenance.stop();
  expect(errors).toEqual([]);
});

test("queues without tasks are dropped, so that the number of kinds in use is bounded, not of those ever used", async () => {
  const { store, host } = swarm();
  const worker = host("worker");
  const kinds = (from: number) =>
    Array.from({ length: QUEUES_MAX / 2 }, (_, at) => ({ description: "x", type: `kind-${from + at}` }));
  await worker.tasks.addMany(worker.call, { tasks: kinds(0) });
  await worker.tasks.addMany(worker.call, { tasks: kinds(QUEUES_MAX / 2) });
  await expect(worker.tasks.addMany(worker.call, { tasks: kinds(QUEUES_MAX) })).rejects.toMatchObject({ code: "limit_exceeded" });
  for (let at = 0; at < QUEUES_MAX / 2; at++)
    expect(await worker.claims.claimNext(worker.call, { type: `kind-${at}` })).toBeDefined();
  for (let after: string | undefined, more = true; more; more = after !== undefined) after = await dropEmptyQueues(store, after);
  expect(await store.scan(prefixRange("task-queue/", 1_000))).toHaveLength(QUEUES_MAX / 2);
  await worker.tasks.addMany(worker.call, { tasks: kinds(QUEUES_MAX) });
  const returned = await worker.claims.update(worker.call, {
    taskId: (await worker.tasks.list(worker.call, { status: "claimed" })).tasks[0]?.id ?? "",
    status: "available",
  });
  expect((await worker.claims.claimNext(worker.call, { type: returned.task.type }))?.task.id).toBe(returned.task.id);
  await checkTasks(store);
});

test("ended tasks are forgotten after their days of retention, also behind ones that must stay", async () => {
  const { store, host, clock } = swarm();
  const worker = host("worker", { retentionDays: 2 });
  const finish = async (taskId: string) => {
    await worker.claims.claimTask(worker.call, { taskId });
    await worker.claims.update(worker.call, { taskId, status: "done" });
  };
  await worker.maintain(); // the first round only sets the time of the next
  const kept = Array.from({ length: 120 }, (_, at) => `kept-${at}`);
  await worker.tasks.addMany(worker.call, { tasks: kept.map((id) => ({ id, description: "x" })) });
  await worker.tasks.addMany(worker.call, {
    tasks: [{ id: "gone", description: "x" }, ...kept.map((id) => ({ id: `after-${id}`, description: "x", dependencies: [id] }))],
  });
  for (const id of kept) await finish(id);
  await clock.advance(DAY_MS);
  await finish("gone");
  await clock.advance(DAY_MS);
  for (let round = 0; round < 3; round++) await worker.maintain();
  expect((await checkTasks(store)).filter(({ status }) => status === "done")).toHaveLength(121);
  await clock.advance(DAY_MS + 1);
  for (let round = 0; round < 3; round++) await worker.maintain();
  const left = (await checkTasks(store, { swept: true })).filter(({ status }) => status === "done").map(({ id }) => id);
  expect(left.toSorted()).toEqual(kept.toSorted());
});
