import { onceCall } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { REMOTE_LEASE_MS_DEFAULT } from "../src/task-coordination.ts";
import { MOVED_MAX } from "../src/workflow-moving.ts";
import type { NewWorkflow } from "../src/workflows.ts";
import { type Host, swarm } from "./support/swarm.ts";
import { checkWorkflow, readWorkflow } from "./support/workflow-invariants.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

/** A swarm with one workflow `flow`, and two agents. */
async function started(input: Partial<NewWorkflow>) {
  const { store, clock, host } = swarm();
  const planner = host("planner");
  const worker = host("worker");
  await planner.workflows.create(planner.call, { id: "flow", name: "Flow", tasks: [], execute: true, ...input });
  return { store, clock, host, planner, worker };
}

async function finish(worker: Host, taskId: string, status: "done" | "failed" = "done"): Promise<void> {
  await worker.claims.claimTask(worker.call, { taskId });
  await worker.claims.update(worker.call, { taskId, status, ...(status === "done" ? { output: `${taskId} is done` } : {}) });
}

const statusOf = async (host: Host) => (await host.workflows.status(host.call, { workflowId: "flow" })).workflow;
const taskStatus = async (host: Host, taskId: string) => (await host.tasks.get(host.call, { taskId })).task.status;

describe("a workflow", () => {
  test("is created with all its tasks, waits for its start, follows its dependencies and ends with its last task", async () => {
    verifies("TASK-13", "TASK-14");
    const { store, clock, planner, worker } = await started({
      execute: false,
      tasks: [
        { id: "build", description: "Build" },
        { id: "test", description: "Test", dependencies: ["build"] },
        { id: "ship", description: "Ship" },
      ],
      dependencies: { ship: ["test"] },
      metadata: { version: "1.2" },
    });
    expect(await statusOf(planner)).toMatchObject({ status: "created", onFailure: "fail_fast", byStatus: { blocked: 3 } });
    expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
    await expect(worker.claims.claimTask(worker.call, { taskId: "flow.build" })).rejects.toEqual(
      code("failed_precondition", /flow/),
    );
    await clock.advance(100);
    await planner.workflows.execute(planner.call, { workflowId: "flow" });
    for (const id of ["flow.build", "flow.test", "flow.ship"]) {
      await clock.advance(100);
      const claim = await worker.claims.claimNext(worker.call, { workflowId: "flow" });
      expect(claim?.task.id).toBe(id);
      if (id === "flow.ship") expect(claim?.context).toMatchObject([{ taskId: "flow.test", output: "flow.test is done" }]);
      await worker.claims.update(worker.call, { taskId: id, status: "done", output: `${id} is done` });
    }
    const { workflow, results, waiting } = await planner.workflows.status(planner.call, { workflowId: "flow" });
    expect(workflow).toMatchObject({
      status: "completed",
      success: true,
      totalTasks: 3,
      completedTasks: 3,
      failedTasks: 0,
      progress: 100,
      durationMs: 300,
      metadata: { version: "1.2" },
    });
    expect(results).toMatchObject(
      ["flow.build", "flow.test", "flow.ship"].map((taskId) => ({ taskId, by: "worker", output: `${taskId} is done` })),
    );
    expect(waiting).toEqual([]);
    await checkWorkflow(store, "flow");
  });

  test("is made whole or not at all, and what is wrong is named", async () => {
    verifies("TASK-13");
    const { store, host } = swarm();
    const { workflows, call } = host("planner");
    const make = (input: Partial<NewWorkflow>) => workflows.create(call, { id: "flow", name: "Flow", ...input });
    const task = { id: "a", description: "x" };
    await expect(make({ tasks: [] })).rejects.toEqual(code("invalid_argument", /1 to 500/));
    await expect(make({ tasks: [task, task] })).rejects.toEqual(code("invalid_argument", /flow\.a/));
    await expect(make({ tasks: [task], dependencies: { b: [] } })).rejects.toEqual(code("invalid_argument", /task b/));
    await expect(make({ tasks: [{ ...task, dependencies: ["nowhere"] }] })).rejects.toEqual(
      code("invalid_argument", /flow\.a.*nowhere/),
    );
    await expect(
      make({ tasks: [task, { id: "b", description: "x", dependencies: ["a"] }], dependencies: { a: ["b"] } }),
    ).rejects.toEqual(code("invalid_argument", /flow\.a → flow\.b → flow\.a/));
    await expect(make({ tasks: [{ ...task, rollback: { description: "undo" } }] })).rejects.toEqual(
      code("invalid_argument", /rollback/),
    );
    await expect(make({ tasks: [{ ...task, id: "a".repeat(60) }] })).rejects.toEqual(code("invalid_argument"));
    await expect(make({ id: "a.b", tasks: [task] })).rejects.toEqual(code("invalid_argument", /workflow id/));
    for (const prefix of ["task/", "workflow/", "workflow-all/", "task-all/"]) {
      expect(await store.scan(prefixRange(prefix, 1)), prefix).toEqual([]);
    }
    await make({ tasks: [task] });
    await expect(make({ tasks: [task] })).rejects.toEqual(code("already_exists", /flow/));
  });

  test("keeps the ids behind its own for its tasks", async () => {
    const { planner } = await started({
      onFailure: "compensate",
      tasks: [{ id: "a", description: "x", rollback: { description: "undo" } }],
    });
    for (const id of ["flow.a.rollback", "flow.b"]) {
      await expect(planner.tasks.add(planner.call, { id, description: "x" })).rejects.toEqual(code("invalid_argument", /flow/));
    }
    await planner.tasks.add(planner.call, { id: "other.a.rollback", description: "x" });
    await expect(
      planner.workflows.create(planner.call, {
        id: "other",
        name: "Other",
        onFailure: "compensate",
        tasks: [{ id: "a", description: "x", rollback: { description: "undo" } }],
      }),
    ).rejects.toEqual(code("already_exists", /other\.a\.rollback/));
  });

  test("a pause stops new claims at once and leaves running work alone; resuming lets the rest go", async () => {
    verifies("TASK-13");
    const { store, planner, worker } = await started({
      tasks: ["a", "b", "c"].map((id) => ({ id, description: "x" })),
    });
    await worker.claims.claimTask(worker.call, { taskId: "flow.a" });
    await planner.workflows.pause(planner.call, { workflowId: "flow" });
    await expect(worker.claims.claimTask(worker.call, { taskId: "flow.b" })).rejects.toEqual(code("failed_precondition"));
    expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
    await worker.claims.update(worker.call, { taskId: "flow.a", status: "done" });
    expect(await statusOf(planner)).toMatchObject({ status: "paused", completedTasks: 1 });
    await checkWorkflow(store, "flow");
    await planner.workflows.resume(planner.call, { workflowId: "flow" });
    await finish(worker, "flow.b");
    await finish(worker, "flow.c");
    expect(await statusOf(planner)).toMatchObject({ status: "completed", success: true });
  });

  test("cancelling ends its open tasks, and who works on one learns it at the next write", async () => {
    verifies("TASK-13");
    const { store, planner, worker } = await started({
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x" },
        { id: "c", description: "x", dependencies: ["b"] },
      ],
    });
    await finish(worker, "flow.a");
    await worker.claims.claimTask(worker.call, { taskId: "flow.b" });
    await planner.workflows.cancel(planner.call, { workflowId: "flow" });
    await expect(worker.claims.update(worker.call, { taskId: "flow.b", status: "done" })).rejects.toEqual(
      code("failed_precondition", /cancelled/),
    );
    expect(await statusOf(planner)).toMatchObject({
      status: "cancelled",
      success: false,
      completedTasks: 1,
      byStatus: { done: 1, cancelled: 2 },
    });
    await expect(planner.workflows.resume(planner.call, { workflowId: "flow" })).rejects.toEqual(code("failed_precondition"));
    const { tasks } = await checkWorkflow(store, "flow");
    const failed = tasks.find(({ status }) => status === "failed");
    expect(failed).toBeUndefined();
  });

  test("each step may be repeated, and one that does not fit is refused with what does", async () => {
    const { planner } = await started({ execute: false, tasks: [{ id: "a", description: "x" }] });
    const { workflows, call } = planner;
    const step = async (name: "execute" | "pause" | "resume" | "cancel") =>
      (await workflows[name](call, { workflowId: "flow" })).workflow.status;
    await expect(step("pause")).rejects.toEqual(code("failed_precondition", /created/));
    await expect(step("resume")).rejects.toEqual(code("failed_precondition", /created/));
    expect([await step("execute"), await step("execute")]).toEqual(["running", "running"]);
    expect([await step("pause"), await step("pause")]).toEqual(["paused", "paused"]);
    await expect(step("execute")).rejects.toEqual(code("failed_precondition", /paused/));
    expect([await step("resume"), await step("resume")]).toEqual(["running", "running"]);
    expect([await step("cancel"), await step("cancel")]).toEqual(["cancelled", "cancelled"]);
    await expect(step("execute")).rejects.toEqual(code("failed_precondition", /cancelled/));
    await expect(workflows.execute(call, { workflowId: "nothing" })).rejects.toEqual(code("not_found", /nothing/));
  });

  test("takes more tasks until it ends, which may name its own by their short ids", async () => {
    verifies("TASK-13");
    const { store, planner, worker } = await started({ execute: false, tasks: [{ id: "a", description: "x" }] });
    const more = (tasks: { id: string; description: string; dependencies?: string[] }[]) =>
      planner.workflows.addTasks(planner.call, { workflowId: "flow", tasks });
    const added = await more([
      { id: "b", description: "x", dependencies: ["a"] },
      { id: "c", description: "x", dependencies: ["b", "flow.a"] },
    ]);
    expect(added.tasks).toEqual(["flow.b", "flow.c"].map((id) => ({ id, status: "blocked" })));
    await planner.workflows.execute(planner.call, { workflowId: "flow" });
    expect((await more([{ id: "d", description: "x" }])).tasks).toEqual([{ id: "flow.d", status: "available" }]);
    for (const id of ["flow.d", "flow.a", "flow.b", "flow.c"]) await finish(worker, id);
    expect(await statusOf(planner)).toMatchObject({ status: "completed", totalTasks: 4 });
    await expect(more([{ id: "e", description: "x" }])).rejects.toEqual(code("failed_precondition", /completed/));
    await checkWorkflow(store, "flow");
  });

  test("one whose tasks were all cancelled before its start waits for it, and then is over at once without success", async () => {
    const { store, planner } = await started({ execute: false, tasks: [{ id: "a", description: "x" }] });
    await planner.tasks.cancel(planner.call, { taskId: "flow.a" });
    expect(await statusOf(planner)).toMatchObject({ status: "created", byStatus: { cancelled: 1 } });
    const { workflow } = await planner.workflows.execute(planner.call, { workflowId: "flow" });
    expect(workflow.status).toBe("completed");
    expect(await statusOf(planner)).toMatchObject({ status: "completed", success: false, completedTasks: 0 });
    await checkWorkflow(store, "flow");
  });

  test("a repeated create with one idempotency key makes one workflow", async () => {
    const { host } = swarm();
    const { call, workflows } = host("planner");
    const once = () => onceCall(call, { key: "k", fingerprint: "f" });
    const input = { name: "Flow", tasks: [{ description: "x" }] };
    const first = await workflows.create(once(), input);
    expect(await workflows.create(once(), input)).toEqual(first);
    expect((await workflows.list(call, {})).workflows).toHaveLength(1);
  });

  test("workflows are listed in pages, the newest first, by their status", async () => {
    verifies("TASK-13");
    const { clock, host } = swarm();
    const { call, workflows } = host("planner");
    for (const id of ["a", "b", "c", "d"]) {
      await workflows.create(call, { id, name: id, tasks: [{ description: "x" }], execute: id !== "b" });
      await clock.advance(1);
    }
    const first = await workflows.list(call, { status: "running", limit: 2 });
    expect(first.workflows.map(({ id }) => id)).toEqual(["d", "c"]);
    const rest = await workflows.list(call, { status: "running", limit: 2, cursor: first.nextCursor });
    expect(rest.workflows.map(({ id }) => id)).toEqual(["a"]);
    expect((await workflows.list(call, {})).workflows.map(({ id }) => id)).toEqual(["d", "c", "b", "a"]);
    await expect(workflows.list(call, { cursor: first.nextCursor })).rejects.toEqual(code("invalid_argument", /cursor/));
  });

  test("results come in pages, each done task once", async () => {
    verifies("TASK-14");
    const ids = Array.from({ length: 7 }, (_, at) => `t${at}`);
    const { planner, worker } = await started({ tasks: ids.map((id) => ({ id, description: "x" })) });
    for (const id of ids) if (id !== "t3") await finish(worker, `flow.${id}`);
    const found: string[] = [];
    for (let cursor: string | undefined, pages = 0; pages < ids.length; pages++) {
      const page = await planner.workflows.status(planner.call, { workflowId: "flow", limit: 2, cursor });
      found.push(...page.results.map(({ taskId }) => taskId));
      cursor = page.nextCursor;
      if (cursor === undefined) break;
    }
    expect(found).toEqual(ids.filter((id) => id !== "t3").map((id) => `flow.${id}`));
  });
});

const attempts = { maxAttempts: 1 };

describe("when a task fails for good", () => {
  const diamond = [
    { id: "a", description: "x", ...attempts },
    { id: "b", description: "x", dependencies: ["a"], ...attempts },
    { id: "c", description: "x", ...attempts },
    { id: "d", description: "x", dependencies: ["b", "c"], ...attempts },
    { id: "e", description: "x", ...attempts },
  ];

  test("fail_fast: the workflow fails at once, and what is open is cancelled, running work too", async () => {
    verifies("TASK-15");
    const { store, planner, worker } = await started({ tasks: diamond });
    await worker.claims.claimTask(worker.call, { taskId: "flow.c" });
    await finish(worker, "flow.a", "failed");
    expect(await statusOf(planner)).toMatchObject({
      status: "failed",
      success: false,
      error: { taskId: "flow.a", code: "failed" },
    });
    expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
    await planner.maintain();
    expect(await statusOf(planner)).toMatchObject({ byStatus: { failed: 1, cancelled: 4 }, progress: 100 });
    await expect(worker.claims.update(worker.call, { taskId: "flow.c", status: "done" })).rejects.toEqual(
      code("failed_precondition"),
    );
    await checkWorkflow(store, "flow");
  });

  test("continue: what depends on it is cancelled for that cause, all else is done, and the results are partial", async () => {
    verifies("TASK-15", "TASK-14");
    const { store, planner, worker } = await started({ tasks: diamond, onFailure: "continue" });
    await finish(worker, "flow.a", "failed");
    for (let round = 0; round < 3; round++) await planner.maintain();
    const { task } = await planner.tasks.get(planner.call, { taskId: "flow.d" });
    expect(task).toMatchObject({ status: "cancelled", error: { code: "dependency_failed" } });
    await finish(worker, "flow.c");
    expect(await statusOf(planner)).toMatchObject({ status: "running", error: { taskId: "flow.a" }, failedTasks: 1 });
    await finish(worker, "flow.e");
    const { workflow, results } = await planner.workflows.status(planner.call, { workflowId: "flow" });
    expect(workflow).toMatchObject({ status: "failed", success: false, completedTasks: 2, error: { taskId: "flow.a" } });
    expect(results.map(({ taskId }) => taskId)).toEqual(["flow.c", "flow.e"]);
    await checkWorkflow(store, "flow");
  });

  test("a reset takes the workflow back to running, and what the failure cancelled with it", async () => {
    verifies("TASK-09", "TASK-15");
    for (const onFailure of ["fail_fast", "continue"] as const) {
      const { store, planner, worker } = await started({ tasks: diamond, onFailure });
      if (onFailure === "continue") await finish(worker, "flow.e");
      await finish(worker, "flow.a", "failed");
      for (let round = 0; round < 3; round++) await planner.maintain();
      expect(await taskStatus(planner, "flow.d")).toBe("cancelled");
      await planner.tasks.reset(planner.call, { taskId: "flow.a" });
      expect(await statusOf(planner)).toMatchObject({ status: "running", failedTasks: 0 });
      for (let round = 0; round < 3; round++) await planner.maintain();
      expect(await taskStatus(planner, "flow.d")).toBe("blocked");
      for (const id of ["flow.a", "flow.b", "flow.c", "flow.d"]) await finish(worker, id);
      if (onFailure === "fail_fast") await finish(worker, "flow.e");
      expect(await statusOf(planner)).toMatchObject({ status: "completed", success: true, completedTasks: 5 });
      await checkWorkflow(store, "flow");
    }
  });

  test("with two failures one reset is not enough: the other still cuts off what depends on it", async () => {
    const { store, planner, worker } = await started({ tasks: diamond, onFailure: "continue" });
    await finish(worker, "flow.a", "failed");
    await finish(worker, "flow.c", "failed");
    await finish(worker, "flow.e");
    for (let round = 0; round < 3; round++) await planner.maintain();
    expect(await statusOf(planner)).toMatchObject({ status: "failed", failedTasks: 2 });
    await planner.tasks.reset(planner.call, { taskId: "flow.a" });
    for (let round = 0; round < 4; round++) await planner.maintain();
    expect(await taskStatus(planner, "flow.b")).toBe("blocked");
    expect(await taskStatus(planner, "flow.d")).toBe("cancelled");
    for (const id of ["flow.a", "flow.b"]) await finish(worker, id);
    expect(await statusOf(planner)).toMatchObject({ status: "failed", error: { taskId: "flow.c" }, completedTasks: 3 });
    await checkWorkflow(store, "flow");
  });

  test("a task that is added behind one that failed, or was given up, is given up too", async () => {
    const { store, planner, worker } = await started({ tasks: diamond, onFailure: "continue" });
    await finish(worker, "flow.a", "failed");
    for (let round = 0; round < 3; round++) await planner.maintain();
    const behind = ["a", "b", "e"].map((id) => ({ id: `behind-${id}`, description: "x", dependencies: [id] }));
    await planner.workflows.addTasks(planner.call, { workflowId: "flow", tasks: behind });
    expect(await taskStatus(planner, "flow.behind-a")).toBe("cancelled");
    expect(await taskStatus(planner, "flow.behind-b")).toBe("cancelled");
    for (const id of ["flow.c", "flow.e", "flow.behind-e"]) await finish(worker, id);
    expect(await statusOf(planner)).toMatchObject({ status: "failed", completedTasks: 3, byStatus: { cancelled: 4 } });
    await checkWorkflow(store, "flow");
  });

  test("a task of a workflow that was cancelled cannot be reset", async () => {
    const { planner, worker } = await started({ tasks: diamond, onFailure: "continue" });
    await finish(worker, "flow.a", "failed");
    await planner.workflows.cancel(planner.call, { workflowId: "flow" });
    await expect(planner.tasks.reset(planner.call, { taskId: "flow.a" })).rejects.toEqual(
      code("failed_precondition", /cancelled/),
    );
  });

  test("a task that is cancelled by hand takes what depends on it with it, and the rest completes", async () => {
    const { store, planner, worker } = await started({ tasks: diamond });
    await planner.tasks.cancel(planner.call, { taskId: "flow.a" });
    for (let round = 0; round < 3; round++) await planner.maintain();
    for (const id of ["flow.c", "flow.e"]) await finish(worker, id);
    const { task } = await planner.tasks.get(planner.call, { taskId: "flow.d" });
    expect(task.error?.code).toBe("dependency_cancelled");
    expect(await statusOf(planner)).toMatchObject({ status: "completed", success: false, completedTasks: 2 });
    await checkWorkflow(store, "flow");
  });
});

describe("compensation", () => {
  const undo = (id: string) => ({ description: `Undo ${id}`, maxAttempts: 1 });
  const steps = [
    { id: "z", description: "x", rollback: undo("z") },
    { id: "b", description: "x", dependencies: ["z"], rollback: undo("b") },
    { id: "c", description: "x", dependencies: ["b"] },
    { id: "d", description: "x", ...attempts },
    { id: "e", description: "x", rollback: undo("e") },
    { id: "f", description: "x" },
  ];

  test("running work may finish, then each rollback runs in reverse order with the result that it undoes", async () => {
    verifies("TASK-15");
    const { store, clock, planner, worker } = await started({ tasks: steps, onFailure: "compensate" });
    // all in one millisecond: what depends on another is still undone before it
    for (const id of ["flow.z", "flow.b", "flow.c"]) await finish(worker, id);
    await clock.advance(1);
    await worker.claims.claimTask(worker.call, { taskId: "flow.e" });
    await finish(worker, "flow.d", "failed");
    await planner.maintain();
    expect(await statusOf(planner)).toMatchObject({
      status: "compensating",
      byStatus: { done: 3, failed: 1, claimed: 1, cancelled: 1 },
    });
    expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
    await worker.claims.update(worker.call, { taskId: "flow.e", status: "done", output: "flow.e is done" });
    const order: string[] = [];
    for (const done of ["e", "b", "z"]) {
      const claim = await worker.claims.claimNext(worker.call, {});
      expect(claim?.task).toMatchObject({ description: `Undo ${done}`, rollbackOf: `flow.${done}`, workflowId: "flow" });
      expect(claim?.context).toMatchObject([{ taskId: `flow.${done}`, output: `flow.${done} is done` }]);
      expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
      order.push(claim?.task.id ?? "");
      await worker.claims.update(worker.call, { taskId: claim?.task.id ?? "", status: "done" });
    }
    expect(order).toEqual(["flow.e.rollback", "flow.b.rollback", "flow.z.rollback"]);
    expect(await statusOf(planner)).toMatchObject({
      status: "compensated",
      success: false,
      rolledBack: 3,
      totalTasks: 6,
      completedTasks: 4,
      error: { taskId: "flow.d" },
    });
    await checkWorkflow(store, "flow");
  });

  test("running work that fails, is given back or is lost while compensating is not tried again", async () => {
    verifies("TASK-15");
    const { store, clock, host, planner, worker } = await started({ tasks: steps, onFailure: "compensate" });
    for (const id of ["flow.z", "flow.e"]) await worker.claims.claimTask(worker.call, { taskId: id });
    const lost = host("lost", { remote: true });
    await lost.claims.claimTask(lost.call, { taskId: "flow.f" });
    await finish(worker, "flow.d", "failed");
    await planner.maintain();
    expect(await statusOf(planner)).toMatchObject({ status: "compensating", byStatus: { claimed: 3, cancelled: 2 } });
    await worker.claims.update(worker.call, { taskId: "flow.z", status: "failed" });
    await worker.claims.update(worker.call, { taskId: "flow.e", status: "available" });
    await clock.advance(REMOTE_LEASE_MS_DEFAULT + 1);
    await planner.maintain();
    for (const id of ["flow.z", "flow.e", "flow.f"]) expect(await taskStatus(planner, id), id).toBe("cancelled");
    expect(await statusOf(planner)).toMatchObject({ status: "compensated", rolledBack: 0 });
    await checkWorkflow(store, "flow");
  });

  test("a rollback that fails for good ends it as failed; resetting that rollback goes on", async () => {
    verifies("TASK-15");
    const { store, planner, worker } = await started({ tasks: steps, onFailure: "compensate" });
    for (const id of ["flow.z", "flow.b"]) await finish(worker, id);
    await finish(worker, "flow.d", "failed");
    await planner.maintain();
    await finish(worker, "flow.b.rollback", "failed");
    expect(await statusOf(planner)).toMatchObject({
      status: "failed",
      error: { taskId: "flow.d" },
      rollbackError: { taskId: "flow.b.rollback" },
      rolledBack: 0,
    });
    expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
    await expect(planner.tasks.reset(planner.call, { taskId: "flow.d" })).rejects.toEqual(
      code("failed_precondition", /rolled back/),
    );
    await planner.tasks.reset(planner.call, { taskId: "flow.b.rollback" });
    await finish(worker, "flow.b.rollback");
    await finish(worker, "flow.z.rollback");
    expect(await statusOf(planner)).toMatchObject({ status: "compensated", rolledBack: 2 });
    await checkWorkflow(store, "flow");
  });
});

describe("retention", () => {
  const DAY_MS = 24 * 3_600_000;

  test("a workflow keeps its tasks while it is under way, and is forgotten with them when it ended long ago", async () => {
    const { store, clock, host } = swarm();
    const planner = host("planner", { retentionDays: 2 });
    const tasks = ["a", "b"].map((id) => ({ id, description: "x" }));
    await planner.workflows.create(planner.call, { id: "flow", name: "Flow", tasks, execute: true });
    const maintain = async () => {
      for (let round = 0; round < 4; round++) {
        await clock.advance(DAY_MS / 4);
        await planner.maintain();
      }
    };
    await finish(planner, "flow.a");
    for (let day = 0; day < 4; day++) await maintain();
    expect(await statusOf(planner)).toMatchObject({ status: "running", completedTasks: 1, totalTasks: 2 });
    await finish(planner, "flow.b");
    await maintain();
    expect(await statusOf(planner)).toMatchObject({ status: "completed", completedTasks: 2 });
    for (let day = 0; day < 3; day++) await maintain();
    await expect(statusOf(planner)).rejects.toEqual(code("not_found", /flow/));
    for (const prefix of ["task/", "task-workflow/", "workflow/", "workflow-all/", "workflow-state/", "workflow-undo/"]) {
      expect(await store.scan(prefixRange(prefix, 1)), prefix).toEqual([]);
    }
    expect(await store.scan(prefixRange("task-tally/wf.flow/", 1))).toEqual([]);
    await planner.workflows.create(planner.call, { id: "flow", name: "Again", tasks });
    await checkWorkflow(store, "flow", { swept: true });
  });
});

describe("many tasks", () => {
  const SIZE = MOVED_MAX * 3 + 50;

  /** The store of a process that is killed when it begins a commit after so many. */
  function mortal(store: Store, commits: number): Store {
    let left = commits;
    return new Proxy(store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== "function") return member;
        if (name === "transact" && left-- <= 0) return () => Promise.reject(new Error("killed"));
        return member.bind(target);
      },
    });
  }

  async function large() {
    const { store, host } = swarm();
    const planner = host("planner");
    const tasks = Array.from({ length: SIZE }, (_, at) => ({ id: `t${at}`, description: "x" }));
    await planner.workflows.create(planner.call, { id: "flow", name: "Flow", tasks: tasks.slice(0, 500) });
    await planner.workflows.addTasks(planner.call, { workflowId: "flow", tasks: tasks.slice(500) });
    return { store, host, planner };
  }

  test.each([1, 2, 3, 4])(
    "start, pause, resume and cancel lose nothing when the process is killed after %i commits: another goes on",
    async (commits) => {
      verifies("TASK-13", "CORE-09");
      const { store, host, planner } = await large();
      const expected = { execute: "available", pause: "blocked", resume: "available", cancel: "cancelled" } as const;
      for (const [step, status] of Object.entries(expected) as [keyof typeof expected, string][]) {
        const doomed = { ...planner.call, store: mortal(store, commits - 1) };
        await expect(planner.workflows[step](doomed, { workflowId: "flow" })).rejects.toThrow("killed");
        const half = (await statusOf(planner)).byStatus;
        expect(half[status as "available"] ?? 0, `${step} is half done`).toBeLessThan(SIZE);
        const other = host(`other-${step}`);
        if (step === "pause" || step === "cancel") expect(await other.claims.claimNext(other.call, {})).toBeUndefined();
        for (let round = 0; round < SIZE / MOVED_MAX + 1; round++) await other.maintain();
        expect((await statusOf(planner)).byStatus, step).toEqual({ [status]: SIZE });
        await checkWorkflow(store, "flow");
      }
      expect((await readWorkflow(store, "flow")).state).toBe("cancelled");
      expect(await store.scan(prefixRange("workflow-moving/", 1))).toEqual([]);
    },
  );
});
