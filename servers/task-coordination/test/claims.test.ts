import { AGE_MS } from "@mcp-swarm/coordination";
import { onceCall } from "@mcp-swarm/identity";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { DESCRIPTION_CHARS_MAX, HISTORY_MAX, HISTORY_NOTE_CHARS, NOTE_CHARS_MAX, OUTPUT_BYTES_MAX } from "../src/task-record.ts";
import { checkTasks } from "./support/invariants.ts";
import { LEASE_MS, swarm } from "./support/swarm.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

describe("claiming", () => {
  test("of many that claim one task at once one wins, and the others learn who holds it and until when", async () => {
    verifies("TASK-05");
    const { store, host, clock } = swarm();
    const workers = Array.from({ length: 8 }, (_, at) => host(`worker-${at}`));
    await workers[0]?.tasks.add(workers[0].call, { id: "a", description: "x" });
    const outcomes = await Promise.allSettled(workers.map((worker) => worker.claims.claimTask(worker.call, { taskId: "a" })));
    const won = outcomes.filter((outcome) => outcome.status === "fulfilled").map(({ value }) => value);
    expect(won).toHaveLength(1);
    expect(won[0]).toMatchObject({ fencingToken: 1, leaseExpiresAt: clock.now() + LEASE_MS, context: [], task: { attempt: 1 } });
    const until = new Date(clock.now() + LEASE_MS).toISOString().replaceAll(".", "\\.");
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") {
        expect(outcome.reason).toEqual(code("conflict", new RegExp(`${won[0]?.task.claimedBy}.*${until}`)));
      }
    }
    await checkTasks(store);
  });

  test("the winner gets the results of what the task depends on, long ones cut", async () => {
    verifies("TASK-05", "TASK-14");
    const { host } = swarm();
    const worker = host("worker");
    await worker.tasks.addMany(worker.call, {
      tasks: [
        { id: "a", title: "First", description: "x" },
        { id: "b", description: "x" },
        { id: "c", description: "x", dependencies: ["a", "b"] },
      ],
    });
    for (const [taskId, output] of [
      ["a", { rows: 3 }],
      ["b", "é".repeat(10_000)],
    ] as const) {
      await worker.claims.claimTask(worker.call, { taskId });
      await worker.claims.update(worker.call, { taskId, status: "done", output });
    }
    const { context } = await worker.claims.claimTask(worker.call, { taskId: "c" });
    expect(context[0]).toEqual({ taskId: "a", title: "First", by: "worker", output: { rows: 3 } });
    expect(context[1]).toMatchObject({ taskId: "b", output: "é".repeat(4_000), cut: expect.stringMatching(/get_task b/) });
  });

  test("an agent speaks for its subagents and for no one else", async () => {
    verifies("TASK-05", "TASK-08");
    const { host } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "a", description: "x" });
    const { task } = await worker.claims.claimTask(worker.call, { taskId: "a", workerId: "left" });
    expect(task.claimedBy).toBe("worker/left");
    const asAnother = worker.claims.update(worker.call, { taskId: "a", status: "done", workerId: "right" });
    await expect(asAnother).rejects.toEqual(code("failed_precondition", /held by worker\/left/));
    const asStranger = worker.claims.update(worker.call, { taskId: "a", status: "done", workerId: "stranger/left" });
    await expect(asStranger).rejects.toEqual(code("permission_denied"));
    await worker.claims.update(worker.call, { taskId: "a", status: "done", workerId: "worker/left" });
  });

  test("a task is claimed only after all its dependencies, and then in the same commit that finished the last", async () => {
    verifies("TASK-08");
    const { store, host } = swarm();
    const worker = host("worker");
    await worker.tasks.addMany(worker.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x" },
        { id: "c", description: "x", dependencies: ["a", "b"] },
      ],
    });
    const statuses: string[] = [];
    for (const taskId of ["a", "b"]) {
      await expect(worker.claims.claimTask(worker.call, { taskId: "c" })).rejects.toEqual(code("failed_precondition", /blocked/));
      await worker.claims.claimTask(worker.call, { taskId });
      await worker.claims.update(worker.call, { taskId, status: "done" });
      statuses.push((await worker.tasks.get(worker.call, { taskId: "c" })).task.status);
    }
    expect(statuses).toEqual(["blocked", "available"]);
    await checkTasks(store);
  });

  test("a waiting worker gets the task that another adds, and one that becomes due", async () => {
    verifies("TASK-06");
    const { host, clock } = swarm();
    const worker = host("worker");
    const planner = host("planner");
    const waiting = worker.claims.claimNext(worker.call, {}, { waitMs: 50_000 });
    await clock.advance(100);
    await planner.tasks.add(planner.call, { id: "a", description: "x" });
    await clock.advance(20);
    expect((await waiting)?.task.id).toBe("a");

    await planner.tasks.add(planner.call, { id: "b", description: "x", notBeforeAt: clock.now() + 5_000 });
    const delayed = worker.claims.claimNext(worker.call, {}, { waitMs: 50_000 });
    await clock.advance(4_000);
    expect(await Promise.race([delayed, Promise.resolve("not yet")])).toBe("not yet");
    await clock.advance(1_100);
    expect((await delayed)?.task.id).toBe("b");

    const inVain = worker.claims.claimNext(worker.call, {}, { waitMs: 1_000 });
    await clock.advance(1_000);
    expect(await inVain).toBeUndefined();
  });

  test("of many that wait, none begins a transaction before there is something for it", async () => {
    verifies("TASK-06");
    const { store, host, clock } = swarm();
    const planner = host("planner");
    const workers = Array.from({ length: 8 }, (_, at) => host(`worker-${at}`));
    let transactions = 0;
    const abort = new AbortController();
    const waits = workers.map(({ claims, call }) => {
      const counted: typeof call = {
        ...call,
        transact: (plan, options) => {
          transactions++;
          return call.transact(plan, options);
        },
      };
      return claims.claimNext(counted, { type: "build" }, { waitMs: 50_000, signal: abort.signal });
    });
    const settled = Promise.allSettled(waits);
    await clock.advance(1_000);
    expect(transactions).toBe(workers.length); // the first look is for keeps
    for (let at = 0; at < 5; at++) {
      await planner.tasks.add(planner.call, { description: "x", type: "test" });
      await clock.advance(1_000);
    }
    expect(transactions).toBe(workers.length);
    await planner.tasks.add(planner.call, { description: "x", type: "build" });
    await clock.advance(1_000);
    abort.abort(new Error("enough"));
    expect((await settled).filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    await checkTasks(store);
  });

  test("a type with a star at the end takes what begins so, and nothing else", async () => {
    verifies("TASK-06");
    const { store, host } = swarm();
    const worker = host("worker");
    await worker.tasks.addMany(worker.call, {
      tasks: [
        { id: "other", description: "x", type: "researching" },
        { id: "plain", description: "x" },
        { id: "facts", description: "x", type: "research:verify_facts" },
        { id: "news", description: "x", type: "research:current_information" },
      ],
    });
    const claimed: (string | undefined)[] = [];
    for (let at = 0; at < 3; at++) claimed.push((await worker.claims.claimNext(worker.call, { type: "research:*" }))?.task.id);
    expect(claimed.sort()).toEqual(["facts", "news", undefined]);
    expect((await worker.claims.claimNext(worker.call, { type: "research" }))?.task.id).toBeUndefined();
    await checkTasks(store);
  });

  test("a cancelled wait claims nothing", async () => {
    const { store, host, clock } = swarm();
    const worker = host("worker");
    const planner = host("planner");
    const abort = new AbortController();
    const waiting = worker.claims.claimNext(worker.call, {}, { waitMs: 50_000, signal: abort.signal });
    const outcome = expect(waiting).rejects.toThrow("enough");
    await clock.advance(100);
    abort.abort(new Error("enough"));
    await planner.tasks.add(planner.call, { id: "a", description: "x" });
    await outcome;
    await clock.advance(1_000);
    expect((await checkTasks(store))[0]?.status).toBe("available");
  });

  test("each ten minutes of waiting weigh as one level of priority, so old work is not starved", async () => {
    verifies("TASK-06");
    const { host, clock } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "old", description: "x", priority: 0 });
    await clock.advance(AGE_MS * 8);
    await worker.tasks.add(worker.call, { id: "urgent", description: "x", priority: 9 });
    expect((await worker.claims.claimNext(worker.call, {}))?.task.id).toBe("urgent");
    await clock.advance(AGE_MS * 2);
    await worker.tasks.add(worker.call, { id: "more", description: "x", priority: 9 });
    expect((await worker.claims.claimNext(worker.call, {}))?.task.id).toBe("old");
  });
});

describe("leases", () => {
  test("a live process keeps its claims, one task only as long as its timeoutMs", async () => {
    verifies("TASK-07");
    const { host, clock } = swarm();
    const worker = host("worker");
    await worker.tasks.addMany(worker.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x", timeoutMs: 60_000, backoff: { initialMs: 0 } },
      ],
    });
    for (const taskId of ["a", "b"]) await worker.claims.claimTask(worker.call, { taskId });
    for (let second = 0; second < 59; second++) {
      await clock.advance(1_000);
      await worker.maintain();
    }
    const status = async (taskId: string) => (await worker.tasks.get(worker.call, { taskId })).task;
    expect(await status("b")).toMatchObject({ status: "claimed", attempt: 1 });
    await clock.advance(1_000);
    await worker.maintain();
    expect(await status("a")).toMatchObject({ status: "claimed", attempt: 1, fencingToken: 1 });
    expect(await status("b")).toMatchObject({ status: "available", error: { code: "timed_out" } });
  });

  test("when a holder dies its task is available within the lease and a second, and the next attempt is counted", async () => {
    verifies("TASK-07");
    const { store, host, clock } = swarm();
    const dead = host("dead", { remote: true, remoteLeaseMs: LEASE_MS });
    const worker = host("worker");
    await dead.tasks.add(dead.call, { id: "a", description: "x" });
    await dead.claims.claimTask(dead.call, { taskId: "a" });
    const before = await worker.claims.claimNext(worker.call, {});
    expect(before).toBeUndefined();
    await clock.advance(LEASE_MS);
    await worker.maintain();
    expect((await checkTasks(store))[0]).toMatchObject({ status: "available", attempt: 1 });
    const next = await worker.claims.claimNext(worker.call, {});
    expect(next).toMatchObject({ fencingToken: 2, task: { attempt: 2 } });
    const late = dead.claims.update(dead.call, { taskId: "a", status: "done", fencingToken: 1 });
    await expect(late).rejects.toEqual(code("failed_precondition", /stale.*worker/));
  });

  test("a claim needs no background job to take over what a dead worker left", async () => {
    verifies("TASK-07");
    const { host, clock } = swarm();
    const dead = host("dead", { remote: true, remoteLeaseMs: 1_000 });
    const worker = host("worker");
    await dead.tasks.addMany(dead.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x" },
      ],
    });
    for (const taskId of ["a", "b"]) await dead.claims.claimTask(dead.call, { taskId });
    await clock.advance(1_000);
    expect((await worker.claims.claimTask(worker.call, { taskId: "a" })).task.attempt).toBe(2);
    expect((await worker.claims.claimNext(worker.call, {}))?.task.id).toBe("b");
  });

  test("a process that lost its claim is refused without a token too, even when the same agent has the task again", async () => {
    verifies("TASK-08");
    const { host, clock, store } = swarm();
    const paused = host("builder");
    const other = host("builder");
    await paused.tasks.add(paused.call, { id: "a", description: "x" });
    await paused.claims.claimTask(paused.call, { taskId: "a" });
    await paused.tasks.reset(other.call, { taskId: "a" });
    await other.claims.claimTask(other.call, { taskId: "a" });
    await clock.advance(LEASE_MS / 3); // its renewal finds the claim lost
    expect(paused.claims.held()).toEqual([]);
    await expect(paused.claims.update(paused.call, { taskId: "a", status: "done" })).rejects.toEqual(
      code("failed_precondition", /stale/),
    );
    await other.claims.update(other.call, { taskId: "a", status: "done" });
    await checkTasks(store);
  });

  test("who has no process renews by itself", async () => {
    verifies("TASK-07");
    const { host, clock } = swarm();
    const remote = host("remote", { remote: true });
    await remote.tasks.add(remote.call, { id: "a", description: "x", timeoutMs: 10_000 });
    await remote.tasks.add(remote.call, { id: "b", description: "x" });
    const a = await remote.claims.claimTask(remote.call, { taskId: "a" });
    const b = await remote.claims.claimTask(remote.call, { taskId: "b" });
    expect([a.leaseExpiresAt, b.leaseExpiresAt]).toEqual([clock.now() + 10_000, clock.now() + 300_000]);
    await clock.advance(5_000);
    expect((await remote.claims.renew(remote.call, { taskId: "a" })).leaseExpiresAt).toBe(a.leaseExpiresAt);
    expect((await remote.claims.renew(remote.call, { taskId: "b" })).leaseExpiresAt).toBe(clock.now() + 300_000);
    await expect(remote.claims.renew(remote.call, { taskId: "b", fencingToken: 7 })).rejects.toEqual(code("failed_precondition"));
  });

  test("a process that ends gives back what it holds, and the attempt does not count", async () => {
    const { host, store } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "a", description: "x" });
    await worker.claims.claimTask(worker.call, { taskId: "a" });
    await worker.slots.claim(worker.call);
    await worker.keeper.releaseAll();
    expect((await checkTasks(store))[0]).toMatchObject({ status: "available", attempt: 0 });
    expect((await worker.slots.workers(worker.call)).workers).toEqual([]);
  });
});

describe("processes", () => {
  test("a repeated call that answers an old claim does not end the renewal of the new one", async () => {
    verifies("CORE-12", "TASK-07");
    const { store, host, clock } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "a", description: "x" });
    const call = () => onceCall({ store, caller: worker.call.caller }, { key: "k", fingerprint: "f" });
    const first = await worker.claims.claimTask(call(), { taskId: "a" });
    await worker.claims.update(worker.call, { taskId: "a", status: "available" });
    await worker.claims.claimTask(worker.call, { taskId: "a" });
    expect(await worker.claims.claimTask(call(), { taskId: "a" })).toEqual(first);
    await clock.advance(LEASE_MS * 3);
    await worker.maintain();
    expect((await checkTasks(store))[0]).toMatchObject({ status: "claimed", fencingToken: 2 });
    await worker.claims.update(worker.call, { taskId: "a", status: "done" });
  });

  test("a claim that is made while its process ends is given back at once", async () => {
    const { store, host } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "a", description: "x" });
    await worker.keeper.releaseAll();
    await expect(worker.claims.claimTask(worker.call, { taskId: "a" })).rejects.toEqual(code("unavailable", /shutting down/));
    await expect(worker.claims.claimNext(worker.call, {})).rejects.toEqual(code("unavailable", /shutting down/));
    await expect(worker.slots.claim(worker.call)).rejects.toEqual(code("unavailable", /shutting down/));
    expect((await checkTasks(store))[0]).toMatchObject({ status: "available", attempt: 0 });
    expect(await worker.slots.workers(worker.call)).toMatchObject({ workers: [] });
  });
});

describe("updating", () => {
  test("giving back leaves a checkpoint for the next worker and costs no attempt", async () => {
    verifies("TASK-08");
    const { host } = swarm();
    const first = host("first");
    const second = host("second");
    await first.tasks.add(first.call, { id: "a", description: "x" });
    await first.claims.claimTask(first.call, { taskId: "a" });
    await first.claims.update(first.call, { taskId: "a", status: "available", checkpoint: "half of it is in a.ts" });
    const { task, fencingToken } = await second.claims.claimTask(second.call, { taskId: "a" });
    expect(task).toMatchObject({ attempt: 1, checkpoint: "half of it is in a.ts" });
    expect(fencingToken).toBe(2);
  });

  test("failed attempts are retried with exponential back-off, then the task has failed, and can be reset", async () => {
    verifies("TASK-09");
    const { host, clock, store } = swarm();
    const worker = host("worker");
    await worker.tasks.add(worker.call, { id: "a", description: "x", maxAttempts: 3, backoff: { initialMs: 1_000, factor: 2 } });
    const waits: (number | undefined)[] = [];
    for (let attempt = 1; attempt <= 3; attempt++) {
      await worker.claims.claimTask(worker.call, { taskId: "a" });
      const { task } = await worker.claims.update(worker.call, { taskId: "a", status: "failed", error: "no" });
      waits.push(task.availableAt === undefined ? undefined : task.availableAt - clock.now());
      await clock.advance(2_000);
    }
    expect(waits).toEqual([1_000, 2_000, undefined]);
    expect((await checkTasks(store))[0]).toMatchObject({
      status: "failed",
      error: { code: "failed", message: "no", attempt: 3 },
    });
    expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
    const { task } = await worker.tasks.reset(worker.call, { taskId: "a" });
    expect(task).toMatchObject({ status: "available", attempt: 0 });
    expect((await worker.claims.claimTask(worker.call, { taskId: "a" })).fencingToken).toBe(4);
  });

  test("a stuck claim is reset, and the old holder's token is stale", async () => {
    verifies("TASK-09", "TASK-08");
    const { host } = swarm();
    const stuck = host("stuck");
    const planner = host("planner");
    await planner.tasks.add(planner.call, { id: "a", description: "x" });
    await stuck.claims.claimTask(stuck.call, { taskId: "a" });
    await planner.tasks.reset(planner.call, { taskId: "a" });
    const { fencingToken } = await planner.claims.claimTask(planner.call, { taskId: "a" });
    expect(fencingToken).toBe(2);
    await expect(stuck.claims.update(stuck.call, { taskId: "a", status: "done" })).rejects.toEqual(
      code("failed_precondition", /claimed again by planner/),
    );
  });

  test("attempts that ended with their lease are used up like others", async () => {
    verifies("TASK-09");
    const { host, clock } = swarm();
    const remote = host("remote", { remote: true, remoteLeaseMs: 1_000 });
    await remote.tasks.add(remote.call, { id: "a", description: "x", maxAttempts: 2 });
    for (let attempt = 1; attempt <= 2; attempt++) {
      await remote.claims.claimTask(remote.call, { taskId: "a" });
      await clock.advance(1_000);
      await remote.maintain();
    }
    expect((await remote.tasks.get(remote.call, { taskId: "a" })).task).toMatchObject({
      status: "failed",
      error: { code: "lease_expired", attempt: 2 },
    });
  });
});

describe("files", () => {
  test("a claim reserves the task's files; an overlapping claim is told whose they are, and claim_next_task goes on", async () => {
    verifies("TASK-22");
    const { host, store } = swarm();
    const one = host("one");
    const two = host("two");
    await one.tasks.addMany(one.call, {
      tasks: [
        { id: "a", description: "x", files: ["src/**"], priority: 9 },
        { id: "b", description: "x", files: ["src/main.ts"], priority: 8 },
        { id: "c", description: "x", files: ["docs/**"] },
      ],
    });
    await one.claims.claimTask(one.call, { taskId: "a" });
    await expect(two.claims.claimTask(two.call, { taskId: "b" })).rejects.toEqual(
      code("conflict", /src\/\*\* by one for task a/),
    );
    expect((await two.claims.claimNext(two.call, {}))?.task.id).toBe("c");
    expect(await two.claims.claimNext(two.call, {})).toBeUndefined();
    await one.claims.update(one.call, { taskId: "a", status: "done" });
    expect((await two.claims.claimNext(two.call, {}))?.task.id).toBe("b");
    await checkTasks(store);
  });

  test("the files are renewed with the lease and free when it ends", async () => {
    verifies("TASK-22");
    const { host, clock } = swarm();
    const one = host("one");
    const two = host("two");
    const dead = host("dead", { remote: true, remoteLeaseMs: LEASE_MS });
    await one.tasks.addMany(one.call, {
      tasks: ["a", "b", "c", "d"].map((id, at) => ({ id, description: "x", files: [at < 2 ? "src/x.ts" : "src/y.ts"] })),
    });
    await one.claims.claimTask(one.call, { taskId: "a" });
    await dead.claims.claimTask(dead.call, { taskId: "c" });
    await clock.advance(LEASE_MS * 3);
    await expect(two.claims.claimTask(two.call, { taskId: "b" })).rejects.toEqual(code("conflict"));
    await two.claims.claimTask(two.call, { taskId: "d" });
  });

  test("a waiting worker gets a task when the files that stood in its way are free", async () => {
    verifies("TASK-22");
    const { host, clock } = swarm();
    const one = host("one");
    const two = host("two");
    await one.tasks.addMany(one.call, {
      tasks: ["a", "b"].map((id) => ({ id, description: "x", files: ["src/**"] })),
    });
    await one.claims.claimTask(one.call, { taskId: "a" });
    const waiting = two.claims.claimNext(two.call, {}, { waitMs: 50_000 });
    await clock.advance(1_000);
    await one.claims.update(one.call, { taskId: "a", status: "done" });
    await clock.advance(50);
    expect((await waiting)?.task.id).toBe("b");
  });
});

describe("size", () => {
  test("500 tasks with the longest descriptions are added under an idempotency key", async () => {
    verifies("TASK-03", "CORE-12");
    const { store, host } = swarm();
    const planner = host("planner");
    const tasks = Array.from({ length: 500 }, () => ({ description: "é".repeat(DESCRIPTION_CHARS_MAX) }));
    const call = () => onceCall({ store, caller: planner.call.caller }, { key: "k", fingerprint: "f" });
    const first = await planner.tasks.addMany(call(), { tasks });
    expect(await planner.tasks.addMany(call(), { tasks })).toEqual(first);
    expect(await checkTasks(store)).toHaveLength(500);
  });

  test("a record with the most of everything fits, and its history keeps the beginning of each note", async () => {
    const { host } = swarm();
    const worker = host("worker");
    const most = "é".repeat(OUTPUT_BYTES_MAX / 2 - 10);
    await worker.tasks.add(worker.call, { id: "a", description: "é".repeat(DESCRIPTION_CHARS_MAX), parameters: { most } });
    await worker.claims.claimTask(worker.call, { taskId: "a" });
    const checkpoint = "é".repeat(NOTE_CHARS_MAX);
    for (let at = 0; at < HISTORY_MAX; at++)
      await worker.claims.update(worker.call, { taskId: "a", status: "working", checkpoint });
    await worker.claims.update(worker.call, { taskId: "a", status: "done", output: most });
    const { task, history } = await worker.tasks.get(worker.call, { taskId: "a" });
    expect(task).toMatchObject({ output: most, checkpoint });
    expect(history[0]?.note).toBe("é".repeat(HISTORY_NOTE_CHARS));
    await worker.tasks.add(worker.call, { id: "b", description: "x" });
    await worker.claims.claimTask(worker.call, { taskId: "b" });
    const tooMuch = worker.claims.update(worker.call, { taskId: "b", status: "done", output: `${most}${most}` });
    await expect(tooMuch).rejects.toEqual(code("invalid_argument", /bytes/));
  });
});
