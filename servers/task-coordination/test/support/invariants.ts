import { fromOrdered, prefixRange, type Store, segment } from "@mcp-swarm/store";
import { expect } from "vitest";
import { readTally, swarmScope, type Tally, workflowScope } from "../../src/tally.ts";
import { type IndexEntry, taskKey } from "../../src/task-layer.ts";
import { queueName, queueOf } from "../../src/task-queue.ts";
import { hasEnded, isHeld, type StoredTask, TASK_STATUSES } from "../../src/task-record.ts";

/** More rows than any test of this makes under one prefix. */
const ROWS = 1_000;

async function rows(store: Store, prefix: string): Promise<{ key: string; value: unknown }[]> {
  const found: { key: string; value: unknown }[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange(prefix, ROWS, after === undefined ? {} : { after }));
    found.push(...page);
    after = page.at(-1)?.key;
    if (page.length < ROWS || after === undefined) return found;
  }
}

async function idsUnder(store: Store, prefix: string): Promise<string[]> {
  return (await rows(store, prefix)).map(({ value }) => (value as IndexEntry).id).sort();
}

/** Reads all there is of tasks and finds every index, count and lease in agreement with the records. */
export async function checkTasks(store: Store): Promise<StoredTask[]> {
  const tasks = (await rows(store, "task/")).map(({ value }) => value as StoredTask);
  const ids = (matches: (task: StoredTask) => boolean) =>
    tasks
      .filter(matches)
      .map(({ id }) => id)
      .sort();

  expect(await idsUnder(store, "task-all/"), "task-all").toEqual(ids(() => true));
  expect(await idsUnder(store, "task-ready/"), "task-ready").toEqual(ids((task) => task.status === "available"));
  expect(await idsUnder(store, "task-wready/"), "task-wready").toEqual(
    ids((task) => task.status === "available" && task.workflowId !== undefined),
  );
  expect(await idsUnder(store, "task-lease/"), "task-lease").toEqual(ids(isHeld));
  expect(await idsUnder(store, "task-mine/"), "task-mine").toEqual(ids(isHeld));
  expect(await idsUnder(store, "task-delay/"), "task-delay").toEqual(ids((task) => task.status === "delayed"));
  expect(await idsUnder(store, "task-blocked/"), "task-blocked").toEqual(ids((task) => task.status === "blocked"));
  expect(await idsUnder(store, "task-held/"), "task-held").toEqual(ids((task) => task.held === true));
  for (const status of ["done", "failed", "cancelled"] as const) {
    expect(await idsUnder(store, `task-ended/${status}/`), status).toEqual(ids((task) => task.status === status));
  }
  expect(await idsUnder(store, "task-deadline/"), "task-deadline").toEqual(
    ids((task) => !hasEnded(task) && task.deadlineAt !== undefined),
  );

  const byId = new Map(tasks.map((task) => [task.id, task]));
  const waiting = new Map<string, number>();
  const dependents: string[] = [];
  const queues = new Set((await rows(store, "task-queue/")).map(({ key }) => key.split("/")[1]));
  for (const task of tasks) {
    if (!hasEnded(task)) {
      const waits = task.open.length > 0 || task.held === true;
      expect(task.status === "blocked", `${task.id} is blocked if and only if it waits`).toBe(waits);
    }
    if (!hasEnded(task)) {
      for (const id of task.open) waiting.set(id, (waiting.get(id) ?? 0) + 1);
      for (const id of task.dependencies) dependents.push(`task-dependents/${segment(id)}/${segment(task.id)}`);
      const notDone = task.dependencies.filter((id) => byId.get(id)?.status !== "done");
      expect(task.open.toSorted(), `open dependencies of ${task.id}`).toEqual(notDone.toSorted());
    }
    if (isHeld(task)) {
      expect(task.open, `${task.id} is held after its dependencies`).toEqual([]);
      const [lease] = (await rows(store, "task-lease/")).filter(({ value }) => (value as IndexEntry).id === task.id);
      expect(fromOrdered(lease?.key.split("/")[1] ?? ""), `lease of ${task.id}`).toBe(task.claim?.leaseExpiresAt);
      expect(await store.get(`task-mine/${segment(task.claim?.by ?? "")}/${segment(task.id)}`)).toBeDefined();
    }
    if (task.status === "available") expect(queues).toContain(queueName(queueOf(task)));
    expect(task.attempt).toBeGreaterThanOrEqual(0);
    expect(task.attempt).toBeLessThanOrEqual(task.maxAttempts);
    expect(task.history.length + task.historyDropped).toBeGreaterThan(0);
  }
  expect((await rows(store, "task-dependents/")).map(({ key }) => key).sort(), "task-dependents").toEqual(dependents.sort());
  expect(new Map((await rows(store, "task-fanout/")).map(({ key, value }) => [key, value])), "task-fanout").toEqual(
    new Map([...waiting].map(([id, count]) => [`task-fanout/${segment(id)}`, count])),
  );

  checkTally(await readTally(store, swarmScope), tasks);
  const workflows = new Set(tasks.flatMap(({ workflowId }) => (workflowId === undefined ? [] : [workflowId])));
  for (const workflow of workflows) {
    checkTally(
      await readTally(store, workflowScope(workflow)),
      tasks.filter(({ workflowId }) => workflowId === workflow),
    );
  }
  for (const task of tasks) expect((await store.get(taskKey(task.id)))?.value).toEqual(task);
  return tasks;
}

function checkTally(tally: Tally, tasks: readonly StoredTask[]): void {
  for (const status of TASK_STATUSES) {
    expect(tally.status[status] ?? 0, `tally of ${status}`).toBe(tasks.filter((task) => task.status === status).length);
  }
}
