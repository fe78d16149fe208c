/** What a task goes through, in real server processes on both engines: the rules are tested closely beside the domain. */
import { beforeEach, describe, expect, test } from "vitest";
import { ENGINES, type Meeting } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { eventually, Host } from "../support/host.ts";

interface Task {
  id: string;
  status: string;
  attempt: number;
  priority: number;
  overdue?: boolean;
  blockedReason?: string;
  checkpoint?: string;
}
interface Change {
  event: string;
  by: string;
  at: number;
  from?: string;
  to: string;
  note?: string;
}

const SOON_MS = 300;
/** Long enough to be seen waiting, on a busy machine too. */
const BACKOFF_MS = 2_000;

describe.each(ENGINES)("tasks over $name", ({ meet }) => {
  let meeting: Meeting;
  const host = (agent: string) => Host.start({ agent, store: meeting.store });
  const read = (from: Host, taskId: string) => from.call<{ task: Task; history: Change[] }>("get_task", { taskId });
  const ids = (listed: { tasks: Task[] }) => listed.tasks.map(({ id }) => id);
  beforeEach(async () => {
    meeting = await meet();
    return () => meeting[Symbol.dispose]();
  });

  test("a task keeps all it was added with, in another process too; its id is taken once", async () => {
    verifies("TASK-02", "TASK-04");
    await using ann = await host("ann");
    await using bob = await host("bob");
    const given = {
      title: "Build",
      type: "code",
      parameters: { target: ["x", 1, null] },
      priority: 8,
      requiredCapabilities: ["rust"],
      maxAttempts: 7,
      timeoutMs: 60_000,
      files: ["src/**"],
    };
    const deadline = Date.now() + 3_600_000;
    await ann.call("add_task", { ...given, id: "build", description: "Build it", output: "a tarball", deadline });
    const held = { ...given, id: "build", description: "Build it", expectedOutput: "a tarball", deadlineAt: deadline };
    expect((await read(bob, "build")).task).toMatchObject({ ...held, status: "available", createdBy: "ann" });
    const again = await bob.try("add_task", { id: "build", description: "Something else" });
    expect(again).toMatchObject({ isError: true, text: expect.stringMatching(/^already_exists: .*build/) });
    expect((await read(ann, "build")).task).toMatchObject({ description: "Build it" });
  });

  test("five hundred tasks with dependencies are added in one call; a cycle or an unknown dependency adds none", async () => {
    verifies("TASK-03", "TASK-04");
    await using ann = await host("ann");
    const chain = Array.from({ length: 500 }, (_, i) => ({
      id: `t-${i}`,
      description: "one of many",
      ...(i === 0 ? {} : { dependencies: [`t-${Math.floor((i - 1) / 2)}`] }),
    }));
    expect(await ann.call("add_tasks", { tasks: chain })).toMatchObject({ count: 500, byStatus: { available: 1, blocked: 499 } });
    const cycle = await ann.try("add_tasks", {
      tasks: [
        { id: "fine", description: "fine" },
        { id: "x", description: "x", dependencies: ["y"] },
        { id: "y", description: "y", dependencies: ["x"] },
      ],
    });
    expect(cycle).toMatchObject({ isError: true, text: expect.stringMatching(/^invalid_argument: .*x.*y/) });
    const unknown = await ann.try("add_tasks", {
      tasks: [
        { id: "fine", description: "fine" },
        { id: "z", description: "z", dependencies: ["nowhere"] },
      ],
    });
    expect(unknown).toMatchObject({ isError: true, text: expect.stringMatching(/^invalid_argument: .*nowhere/) });
    for (const taskId of ["fine", "x", "y", "z"]) expect((await ann.try("get_task", { taskId })).text).toMatch(/^not_found: /);
    expect(ids(await ann.call<{ tasks: Task[] }>("get_available_tasks"))).toEqual(["t-0"]);
  });

  test("the next task is the one of highest priority, then of earliest deadline, then the oldest", async () => {
    verifies("TASK-06", "TASK-10");
    await using ann = await host("ann");
    const later = Date.now() + 7_200_000;
    await ann.call("add_tasks", {
      tasks: [
        { id: "old", description: "no deadline" },
        { id: "young", description: "no deadline" },
        { id: "late", description: "due later", deadline: later },
        { id: "soon", description: "due soon", deadline: later - 3_600_000 },
        { id: "urgent", description: "of priority 9", priority: 9 },
        { id: "idle", description: "of priority 0", priority: 0 },
      ],
    });
    const order: (string | undefined)[] = [];
    for (let i = 0; i < 7; i++) {
      order.push((await ann.call<{ task: Task | null }>("claim_next_task")).task?.id);
    }
    expect(order).toEqual(["urgent", "soon", "late", "old", "young", "idle", undefined]);
  });

  test("a failed attempt waits and comes again until there are no more; reset revives it, and dependents say why they wait", async () => {
    verifies("TASK-08", "TASK-09", "TASK-11");
    await using ann = await host("ann");
    await using bob = await host("bob");
    await ann.call("add_tasks", {
      tasks: [
        { id: "flaky", description: "fails", maxAttempts: 2, backoff: { initialMs: BACKOFF_MS, factor: 1, maxMs: BACKOFF_MS } },
        { id: "after", description: "waits", dependencies: ["flaky"] },
      ],
    });
    await ann.call("claim_task", { taskId: "flaky" });
    await ann.call("update_task", { taskId: "flaky", status: "failed", error: "first" });
    expect((await read(bob, "flaky")).task).toMatchObject({ status: "delayed", attempt: 1 });
    await bob.call("claim_next_task", { waitMs: 20_000 });
    await bob.call("update_task", { taskId: "flaky", status: "failed", error: "second" });
    expect((await read(ann, "flaky")).task).toMatchObject({
      status: "failed",
      attempt: 2,
      error: { message: "second", by: "bob" },
    });
    expect((await read(ann, "after")).task).toMatchObject({
      status: "blocked",
      blockedReason: expect.stringContaining("flaky (failed)"),
    });
    await ann.call("reset_failed_task", { taskId: "flaky" });
    await ann.call("claim_task", { taskId: "flaky" });
    await ann.call("update_task", { taskId: "flaky", status: "available", checkpoint: "half of it is in the branch" });
    expect(await bob.call("claim_task", { taskId: "flaky" })).toMatchObject({
      task: { checkpoint: "half of it is in the branch" },
    });
    await bob.call("update_task", { taskId: "flaky", status: "done", output: { ok: true } });
    expect((await read(ann, "after")).task).toMatchObject({ status: "available" });

    const { history } = await read(ann, "flaky");
    expect(history.map(({ event, by }) => `${event} ${by}`)).toEqual([
      "added ann",
      "claimed ann",
      "attempt_failed ann",
      "due swarm",
      "claimed bob",
      "attempt_failed bob",
      "reset ann",
      "claimed ann",
      "given_back ann",
      "claimed bob",
      "done bob",
    ]);
    expect(history.map(({ at }) => at)).toEqual(history.map(({ at }) => at).toSorted((a, b) => a - b));
    expect(history.find(({ event }) => event === "attempt_failed")).toMatchObject({
      note: "first",
      from: "claimed",
      to: "delayed",
    });
  });

  test("a task past its deadline is marked and counted", async () => {
    verifies("TASK-10");
    await using ann = await host("ann");
    await ann.call("add_task", { id: "due", description: "due at once", deadline: Date.now() + SOON_MS });
    await eventually("the mark", async () => (await read(ann, "due")).task.overdue);
    expect(JSON.stringify(await ann.call("get_metrics", { scope: "swarm" }))).toMatch(/"overdue":(1|\{"count":1)/);
  });

  test("cancelling ends a task alone or with all that wait for it, and its holder is told", async () => {
    verifies("TASK-12");
    await using ann = await host("ann");
    await using bob = await host("bob");
    await ann.call("add_tasks", {
      tasks: [
        { id: "a", description: "a" },
        { id: "b", description: "b", dependencies: ["a"] },
        { id: "c", description: "c", dependencies: ["b"] },
        { id: "other", description: "other" },
      ],
    });
    await bob.call("claim_task", { taskId: "a" });
    await ann.call("cancel_task", { taskId: "c" });
    expect((await read(ann, "b")).task.status).toBe("blocked");
    const { cancelled } = await ann.call<{ cancelled: string[] }>("cancel_task", { taskId: "a", withDependents: true });
    expect(cancelled.toSorted()).toEqual(["a", "b"]);
    expect((await bob.try("update_task", { taskId: "a", status: "done" })).text).toMatch(/^failed_precondition: .*cancelled/);
    expect(ids(await bob.call<{ tasks: Task[] }>("get_all_tasks", { status: "cancelled" })).toSorted()).toEqual(["a", "b", "c"]);
    expect(ids(await bob.call<{ tasks: Task[] }>("get_available_tasks"))).toEqual(["other"]);
  });
});
