/** Calls that wait: woken by another process, heard from meanwhile, and gone without a trace when cancelled. */
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { RawHost, startServerHttp } from "../support/bin.ts";
import { ERAS, eventually, Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

const WAIT_MS = 50_000;
/** Cancellations that race with the work that is waited for. */
const RACES = process.env.SWARM_TEST_LONG ? 500 : 20;

interface Claim {
  task: { id: string } | null;
}

const cancel = (id: number) =>
  `${JSON.stringify({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: id } })}\n`;
const waitingClaim = (id: number) =>
  `${JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params: { name: "claim_next_task", arguments: { waitMs: WAIT_MS } } })}\n`;

describe.each(["sqlite", "postgres"])("on %s a waiting call", (engine) => {
  const storeOf = async (folder: { store: string }) =>
    engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));

  test("wakes when another process commits what it waits for, whatever its client", async () => {
    verifies("CORE-10", "TASK-06");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using giver = await Host.start({ store, agent: "giver" });
    await using serving = await startServerHttp("task-coordination", { SWARM_STORE: store });
    const waiters = [
      ...(await Promise.all(ERAS.map((era) => Host.start({ store, era, agent: `stdio-${era}` })))),
      ...(await Promise.all(ERAS.map((era) => Host.http(`${serving.url}/mcp`, { era, agent: `http-${era}` })))),
    ];
    try {
      for (const [index, waiter] of waiters.entries()) {
        const waiting = waiter.call<Claim>("claim_next_task", { waitMs: WAIT_MS });
        await waiter.call("get_all_tasks"); // the waiting call is in the server's hands
        await giver.call("add_task", { id: `work-${index}`, description: "Work" });
        expect((await waiting).task?.id).toBe(`work-${index}`);
      }
    } finally {
      await Promise.all(waiters.map((waiter) => waiter.close()));
    }
  });

  test("one of several waiters gets one task, and each of several tasks wakes one", async () => {
    verifies("CORE-10", "TASK-05");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using giver = await Host.start({ store, agent: "giver" });
    const waiters = await Promise.all([1, 2, 3].map((index) => Host.start({ store, agent: `waiter-${index}` })));
    try {
      const waiting = waiters.map((waiter) => waiter.call<Claim>("claim_next_task", { waitMs: WAIT_MS }));
      await Promise.all(waiters.map((waiter) => waiter.call("get_all_tasks")));
      for (const id of ["a", "b", "c"]) await giver.call("add_task", { id, description: "Work" });
      const got = (await Promise.all(waiting)).map(({ task }) => task?.id);
      expect(got.toSorted()).toEqual(["a", "b", "c"]);
    } finally {
      await Promise.all(waiters.map((waiter) => waiter.close()));
    }
  });

  test("that is cancelled claims nothing afterwards and is not answered", async () => {
    verifies("CORE-10");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using giver = await Host.start({ store, agent: "giver" });
    await using other = await Host.start({ store, agent: "other" });
    await using raw = new RawHost("task-coordination", { SWARM_STORE: store, SWARM_AGENT: "leaver" });
    await raw.initialize();
    raw.write(waitingClaim(700));
    await raw.callText("get_all_tasks", "{}");
    raw.write(cancel(700));
    await raw.callText("get_all_tasks", "{}"); // answered after the cancellation was read
    const waiting = other.call<Claim>("claim_next_task", { waitMs: WAIT_MS });
    await other.call("get_all_tasks");
    await giver.call("add_tasks", {
      tasks: [
        { id: "a", description: "Work" },
        { id: "b", description: "Work" },
      ],
    });
    expect((await waiting).task?.id).toBe("a"); // both would have been woken by the same commit
    await raw.callText("get_all_tasks", "{}");
    const { tasks } = await giver.call<{ tasks: { id: string }[] }>("get_available_tasks");
    expect(tasks.map(({ id }) => id)).toEqual(["b"]);
    expect(raw.messages.filter(({ id }) => id === 700)).toEqual([]);
  });

  test("whose cancellation races with its wake-up either answers or leaves the task to others", async () => {
    verifies("CORE-10");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using giver = await Host.start({ store, agent: "giver" });
    await using raw = new RawHost("task-coordination", { SWARM_STORE: store, SWARM_AGENT: "leaver", SWARM_LEASE_MS: "600000" });
    await raw.initialize();
    let answered = 0;
    for (let race = 0; race < RACES; race++) {
      const call = 1_000 + race;
      raw.write(waitingClaim(call));
      await raw.callText("get_all_tasks", "{}");
      const adding = giver.call("add_task", { id: `r${race}`, description: "Work" });
      if (race % 3 === 1) await adding;
      for (let turn = 0; turn < race % 5; turn++) await new Promise(setImmediate);
      raw.write(cancel(call));
      await adding;
      await eventually(`race ${race}: the task is with whoever was answered, or with nobody`, async () => {
        const { task } = await giver.call<{ task: { status: string; claimedBy?: string } }>("get_task", { taskId: `r${race}` });
        const told = raw.messages.some(({ id, result }) => id === call && result !== undefined && result.isError !== true);
        return told ? task.claimedBy === "leaver" : task.status === "available" && task.claimedBy === undefined;
      });
      const told = raw.messages.some(({ id }) => id === call);
      if (told) answered += 1;
      await giver.call("cancel_task", { taskId: `r${race}` });
    }
    expect(answered).toBeLessThanOrEqual(RACES);
    const { tasks } = await giver.call<{ tasks: unknown[] }>("get_all_tasks", { claimedBy: "leaver" });
    expect(tasks).toEqual([]);
  });
});

test.concurrent.each(ERAS)(
  "with client %s: progress comes while a call waits, and aborting it ends the wait on the server",
  async (era) => {
    verifies("CORE-10");
    using folder = temporaryFolder();
    await using giver = await Host.start({ store: folder.store, agent: "giver" });
    await using waiter = await Host.start({ store: folder.store, era, agent: "waiter" });
    const heard: { progress: number; message?: string | undefined }[] = [];
    const stop = new AbortController();
    const waiting = waiter.try(
      "claim_next_task",
      { waitMs: WAIT_MS },
      { signal: stop.signal, onprogress: (progress) => heard.push(progress), timeout: WAIT_MS },
    );
    const outcome = waiting.then(
      () => "answered",
      () => "aborted",
    );
    await eventually("progress is reported", () => heard.length > 0);
    expect(heard[0]).toMatchObject({ progress: 1, message: expect.stringMatching(/^No task yet after \d+ s$/) });
    stop.abort();
    expect(await outcome).toBe("aborted");
    await waiter.call("get_all_tasks");
    await giver.call("add_task", { id: "a", description: "Work" });
    await waiter.call("get_all_tasks");
    expect((await giver.call<{ task: { status: string } }>("get_task", { taskId: "a" })).task.status).toBe("available");
  },
);

test("a remote host that goes away while it waits claims nothing", async () => {
  verifies("CORE-10");
  using folder = temporaryFolder();
  await using serving = await startServerHttp("task-coordination", { SWARM_STORE: folder.store });
  await using giver = await Host.start({ store: folder.store, agent: "giver" });
  await using witness = await Host.http(`${serving.url}/mcp`, { agent: "witness" });
  for (const era of ERAS) {
    const stop = new AbortController();
    const leaver = await Host.http(`${serving.url}/mcp`, { era, agent: "leaver" });
    const outcome = leaver.try("claim_next_task", { waitMs: WAIT_MS }, { signal: stop.signal }).then(
      () => "answered",
      () => "gone",
    );
    await leaver.call("get_all_tasks");
    stop.abort();
    await leaver.close();
    expect(await outcome).toBe("gone");
    for (const _ of [1, 2, 3]) await witness.call("get_all_tasks"); // the server has heard of the end of the connection
    await giver.call("add_task", { id: `task-${era}`, description: "Work" });
    await witness.call("get_all_tasks");
    const { task } = await witness.call<Claim & { fencingToken: number }>("claim_task", { taskId: `task-${era}` });
    expect(task).toMatchObject({ id: `task-${era}`, attempt: 1 });
  }
});

test("a wait is over when its time is, with no task and no error", async () => {
  verifies("CORE-10", "TASK-06");
  using folder = temporaryFolder();
  await using host = await Host.start({ store: folder.store, agent: "a" });
  expect((await host.call<Claim>("claim_next_task", { waitMs: 50 })).task).toBeNull();
  expect((await host.call<Claim>("claim_next_task", {})).task).toBeNull();
  const tooLong = await host.try("claim_next_task", { waitMs: 50_001 });
  expect(tooLong).toMatchObject({ isError: true, text: expect.stringMatching(/^invalid_argument: .*waitMs/) });
});
