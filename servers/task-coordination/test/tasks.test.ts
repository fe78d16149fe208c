import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { DEPENDENTS_MAX, HISTORY_MAX, TASKS_PER_CALL_MAX } from "../src/task-record.ts";
import { checkTasks } from "./support/invariants.ts";
import { swarm } from "./support/swarm.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

describe("adding", () => {
  test("a task carries all that it was given, and its id is taken from then on", async () => {
    verifies("TASK-02", "TASK-10");
    const { store, host, clock } = swarm();
    const planner = host("planner");
    const given = {
      id: "Build.1",
      title: "Build",
      description: "Build it",
      type: "build",
      expectedOutput: "a bundle",
      parameters: { target: "es2024" },
      priority: 8,
      deadlineAt: clock.now() + 60_000,
      notBeforeAt: clock.now() + 10_000,
      requiredCapabilities: ["node"],
      maxAttempts: 2,
      backoff: { initialMs: 10, factor: 3, maxMs: 1_000 },
      timeoutMs: 5_000,
      files: ["./src/**", "docs/{a,b}.md"],
    };
    const { task } = await planner.tasks.add(planner.call, given);
    expect(task).toMatchObject({
      ...given,
      files: ["src/**", "docs/a.md", "docs/b.md"],
      status: "delayed",
      createdBy: "planner",
      overdue: false,
    });
    await expect(planner.tasks.add(planner.call, given)).rejects.toEqual(code("already_exists", /Build\.1/));
    await clock.advance(61_000);
    expect((await planner.tasks.get(planner.call, { taskId: "Build.1" })).task.overdue).toBe(true);
    await checkTasks(store);
  });

  test("only a description is needed", async () => {
    const { host } = swarm();
    const planner = host("planner");
    const { task } = await planner.tasks.add(planner.call, { description: "Do it" });
    expect(task).toMatchObject({ status: "available", type: "general", priority: 5, maxAttempts: 3, attempt: 0 });
    expect(task.id).toMatch(/^task-[0-9a-z]{12}$/);
  });

  test.each([
    ["description", { description: "" }],
    ["priority", { description: "x", priority: 10 }],
    ["deadline", { description: "x", deadlineAt: -1 }],
    ["id", { description: "x", id: "a b" }],
    ["dependencies", { description: "x", id: "a", dependencies: ["a"] }],
    ["maxAttempts", { description: "x", maxAttempts: 0 }],
    ["back-off", { description: "x", backoff: { factor: 0.5 } }],
    ["timeoutMs", { description: "x", timeoutMs: 0 }],
    ["glob", { description: "x", files: ["!src"] }],
  ])("what is out of bounds is refused and named: %s", async (name, task) => {
    verifies("TASK-02");
    const { store, host } = swarm();
    const planner = host("planner");
    await expect(planner.tasks.add(planner.call, task)).rejects.toEqual(code("invalid_argument", new RegExp(name)));
    expect(await checkTasks(store)).toEqual([]);
  });

  test("many are added at once with dependencies among them, in any order, all or none", async () => {
    verifies("TASK-03");
    const { store, host } = swarm();
    const planner = host("planner");
    const chain = Array.from({ length: TASKS_PER_CALL_MAX }, (_, at) => ({
      id: `step-${at}`,
      description: "step",
      dependencies: at + 1 < TASKS_PER_CALL_MAX ? [`step-${at + 1}`] : [],
    }));
    const { tasks } = await planner.tasks.addMany(planner.call, { tasks: chain });
    expect(tasks.filter(({ status }) => status === "available").map(({ id }) => id)).toEqual([`step-${TASKS_PER_CALL_MAX - 1}`]);
    const more = [
      { id: "new", description: "x" },
      { id: "other", description: "x", dependencies: ["new", "nowhere"] },
    ];
    await expect(planner.tasks.addMany(planner.call, { tasks: more })).rejects.toEqual(
      code("invalid_argument", /other.*nowhere/),
    );
    await expect(planner.tasks.get(planner.call, { taskId: "new" })).rejects.toEqual(code("not_found"));
    await expect(planner.tasks.addMany(planner.call, { tasks: [...chain, ...more] })).rejects.toEqual(code("invalid_argument"));
    expect(await checkTasks(store)).toHaveLength(TASKS_PER_CALL_MAX);
  });

  test("a circle of dependencies is spelled out", async () => {
    verifies("TASK-03");
    const { host } = swarm();
    const planner = host("planner");
    const tasks = [
      { id: "a", description: "x", dependencies: ["b"] },
      { id: "b", description: "x", dependencies: ["c"] },
      { id: "c", description: "x", dependencies: ["a"] },
    ];
    await expect(planner.tasks.addMany(planner.call, { tasks })).rejects.toEqual(code("invalid_argument", /a → b → c → a/));
  });

  test("so many tasks may wait for one that finishing it is one commit, and no more", async () => {
    const { store, host } = swarm();
    const planner = host("planner");
    await planner.tasks.add(planner.call, { id: "root", description: "x" });
    for (let added = 0; added < DEPENDENTS_MAX; added += 500) {
      const tasks = Array.from({ length: 500 }, () => ({ description: "x", dependencies: ["root"] }));
      await planner.tasks.addMany(planner.call, { tasks });
    }
    const another = { description: "x", dependencies: ["root"] };
    await expect(planner.tasks.add(planner.call, another)).rejects.toEqual(code("limit_exceeded", /root/));
    await planner.claims.claimTask(planner.call, { taskId: "root" });
    await planner.claims.update(planner.call, { taskId: "root", status: "done" });
    await planner.tasks.add(planner.call, another);
    const tasks = await checkTasks(store);
    expect(tasks.filter(({ status }) => status === "available")).toHaveLength(DEPENDENTS_MAX + 1);
  });
});

describe("reading", () => {
  test("a task is read with its attempts, its history and the results of what it depends on", async () => {
    verifies("TASK-04", "TASK-11", "TASK-14");
    const { host } = swarm();
    const planner = host("planner");
    const worker = host("worker");
    await planner.tasks.addMany(planner.call, {
      tasks: [
        { id: "a", title: "First", description: "x" },
        { id: "b", description: "x", dependencies: ["a"] },
      ],
    });
    await worker.claims.claimTask(worker.call, { taskId: "a" });
    await worker.claims.update(worker.call, { taskId: "a", status: "failed", error: "no luck" });
    await expect(worker.tasks.reset(worker.call, { taskId: "a" })).rejects.toEqual(code("failed_precondition", /delayed/));
    const failed = await planner.tasks.get(planner.call, { taskId: "a" });
    expect(failed.task).toMatchObject({
      status: "delayed",
      attempt: 1,
      error: { code: "failed", message: "no luck", by: "worker" },
    });
    expect(failed.history.map(({ event, by, from, to }) => ({ event, by, from, to }))).toEqual([
      { event: "added", by: "planner", from: undefined, to: "available" },
      { event: "claimed", by: "worker", from: "available", to: "claimed" },
      { event: "attempt_failed", by: "worker", from: "claimed", to: "delayed" },
    ]);
    const blocked = await planner.tasks.get(planner.call, { taskId: "b" });
    expect(blocked.task).toMatchObject({ status: "blocked", blockedBy: [{ taskId: "a", status: "delayed" }] });
    expect(blocked.context).toEqual([]);
  });

  test("the history keeps the latest changes and counts the others", async () => {
    verifies("TASK-11");
    const { host } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "a", description: "x" });
    await worker.claims.claimTask(worker.call, { taskId: "a" });
    for (let percent = 1; percent <= 60; percent++) {
      await worker.claims.update(worker.call, { taskId: "a", status: "working", progress: { percent } });
    }
    const { task, history, historyDropped } = await worker.tasks.get(worker.call, { taskId: "a" });
    expect(task.progress).toMatchObject({ percent: 60 });
    expect(history).toHaveLength(HISTORY_MAX);
    expect(historyDropped).toBe(62 - HISTORY_MAX);
  });

  test("lists page through every task of a filter exactly once", async () => {
    verifies("TASK-04");
    const { host } = swarm();
    const planner = host("planner");
    const tasks = Array.from({ length: 30 }, (_, at) => ({
      id: `t${at}`,
      description: "x",
      type: at % 3 === 0 ? "odd" : "even",
    }));
    await planner.tasks.addMany(planner.call, { tasks });
    for (const id of ["t3", "t4", "t5"]) {
      await planner.claims.claimTask(planner.call, { taskId: id });
      if (id !== "t5") await planner.claims.update(planner.call, { taskId: id, status: "done" });
    }
    const collect = async (filter: Parameters<typeof planner.tasks.list>[1]) => {
      const ids: string[] = [];
      for (let cursor: string | undefined, pages = 0; pages < 50; pages++) {
        const page = await planner.tasks.list(planner.call, { ...filter, limit: 4, cursor });
        ids.push(...page.tasks.map(({ id }) => id));
        cursor = page.nextCursor;
        if (cursor === undefined) return ids;
      }
      throw new Error("The list does not end");
    };
    const all = tasks.map(({ id }) => id);
    expect(await collect({})).toEqual(all);
    expect(await collect({ type: "odd" })).toEqual(all.filter((_, at) => at % 3 === 0));
    expect((await collect({ status: "available" })).toSorted()).toEqual(
      all.filter((id) => !["t3", "t4", "t5"].includes(id)).toSorted(),
    );
    expect((await collect({ status: "done" })).toSorted()).toEqual(["t3", "t4"]);
    expect(await collect({ status: "claimed" })).toEqual(["t5"]);
    expect(await collect({ status: "working" })).toEqual([]);
    expect(await collect({ claimedBy: "planner" })).toEqual(["t5"]);
    const { nextCursor } = await planner.tasks.list(planner.call, { limit: 4 });
    await expect(planner.tasks.list(planner.call, { status: "done", cursor: nextCursor })).rejects.toEqual(
      code("invalid_argument"),
    );
  });

  test("available tasks come in the order in which they would be claimed, over all types", async () => {
    verifies("TASK-04", "TASK-06");
    const { host, clock } = swarm();
    const planner = host("planner");
    const soon = clock.now() + 1_000;
    await planner.tasks.addMany(planner.call, {
      tasks: [
        { id: "low", description: "x", priority: 1 },
        { id: "old", description: "x", type: "a" },
        { id: "new", description: "x", type: "b" },
        { id: "due", description: "x", type: "c", deadlineAt: soon },
        { id: "high", description: "x", type: "d", priority: 9 },
        { id: "gpu", description: "x", requiredCapabilities: ["gpu"], priority: 9 },
      ],
    });
    const ids = async (query: Parameters<typeof planner.tasks.available>[1]) =>
      (await planner.tasks.available(planner.call, query)).tasks.map(({ id }) => id);
    expect(await ids({})).toEqual(["high", "due", "old", "new", "low"]);
    expect(await ids({ capabilities: ["gpu"] })).toEqual(["high", "gpu", "due", "old", "new", "low"]);
    expect(await ids({ type: "b" })).toEqual(["new"]);
    const first = await planner.tasks.available(planner.call, { limit: 2 });
    const second = await planner.tasks.available(planner.call, { limit: 10, cursor: first.nextCursor });
    expect([...first.tasks, ...second.tasks].map(({ id }) => id)).toEqual(["high", "due", "old", "new", "low"]);
    const claimed: (string | undefined)[] = [];
    for (let at = 0; at < 6; at++) claimed.push((await planner.claims.claimNext(planner.call, {}))?.task.id);
    expect(claimed).toEqual(["high", "due", "old", "new", "low", undefined]);
  });
});

describe("ending", () => {
  test("cancelling one task leaves its dependents blocked, and they say why", async () => {
    verifies("TASK-12", "TASK-09");
    const { store, host } = swarm();
    const planner = host("planner");
    await planner.tasks.addMany(planner.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x", dependencies: ["a"] },
      ],
    });
    const { task } = await planner.tasks.cancel(planner.call, { taskId: "a", reason: "not needed" });
    expect(task.status).toBe("cancelled");
    const b = await planner.tasks.get(planner.call, { taskId: "b" });
    expect(b.task).toMatchObject({ status: "blocked", blockedBy: [{ taskId: "a", status: "cancelled" }] });
    expect(b.task.blockedReason).toMatch(/a \(cancelled\)/);
    await expect(planner.tasks.cancel(planner.call, { taskId: "a" })).rejects.toEqual(code("failed_precondition"));
    await checkTasks(store);
  });

  test("cancelling with dependents reaches all that wait, however far, and no other", async () => {
    verifies("TASK-12");
    const { store, host } = swarm();
    const planner = host("planner");
    await planner.tasks.addMany(planner.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x", dependencies: ["a"] },
        { id: "c", description: "x", dependencies: ["b", "other"] },
        { id: "d", description: "x", dependencies: ["a", "c"] },
        { id: "other", description: "x" },
      ],
    });
    const { cancelled } = await planner.tasks.cancel(planner.call, { taskId: "a", withDependents: true });
    expect(cancelled.toSorted()).toEqual(["a", "b", "c", "d"]);
    const tasks = await checkTasks(store);
    expect(tasks.find(({ id }) => id === "other")?.status).toBe("available");
  });

  test("the worker of a cancelled task is told at its next write", async () => {
    verifies("TASK-12");
    const { host } = swarm();
    const planner = host("planner");
    const worker = host("worker");
    await planner.tasks.add(planner.call, { id: "a", description: "x" });
    await worker.claims.claimTask(worker.call, { taskId: "a" });
    await planner.tasks.cancel(planner.call, { taskId: "a" });
    const done = worker.claims.update(worker.call, { taskId: "a", status: "done" });
    await expect(done).rejects.toEqual(code("failed_precondition", /cancelled/));
  });

  test("old ended tasks are swept, but not what an open task depends on", async () => {
    const { store, host, clock } = swarm();
    const planner = host("planner");
    await planner.tasks.addMany(planner.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x", dependencies: ["a"] },
        { id: "c", description: "x" },
      ],
    });
    for (const taskId of ["a", "c"]) {
      await planner.claims.claimTask(planner.call, { taskId });
      await planner.claims.update(planner.call, { taskId, status: "done" });
    }
    const sweep = () => planner.tasks.sweepEnded(store, { olderThanMs: 1_000, limit: 10 });
    expect((await sweep()).removed).toBe(0);
    await clock.advance(2_000);
    expect((await sweep()).removed).toBe(1);
    expect((await checkTasks(store, { swept: true })).map(({ id }) => id)).toEqual(["a", "b"]);
    await planner.claims.claimTask(planner.call, { taskId: "b" });
    await planner.claims.update(planner.call, { taskId: "b", status: "done" });
    expect((await sweep()).removed).toBe(1);
  });
});
