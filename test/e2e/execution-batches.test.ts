/** Batches and sessions of distributed-execution: the real bin, real workers and real sandboxes, over each engine. */
import { randomUUID } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { ENGINES, type Meeting } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { eventually, Host } from "../support/host.ts";
import { descendantsOf, processesWith, stillThere, type WorkerOptions, WorkerProcess } from "../support/workers.ts";

const SERVER = "distributed-execution";
/** What a call waits for a batch or a task that must end. */
const WAIT_MS = 50_000;
const LEASE_MS = 3_000;

interface BatchAnswer {
  batch: {
    ended: boolean;
    tasks: number;
    counts: Record<string, number>;
    groups: { environment: string; tasks: number; slots: number; utilisation?: number; counts: Record<string, number> }[];
    failures: { key: string; taskId: string; status: string; failure?: string; exitCode?: number }[];
    slots: number;
    utilisation?: number;
    elapsedMs: number;
    busyMs: number;
  };
  results: { key: string; status: string; value?: unknown; stdout?: string; files?: number }[];
  nextCursor?: string;
}

interface TaskAnswer {
  task: { id: string; status: string; because?: string; workerId?: string };
  result?: { stdout: string; value?: unknown };
}

interface SessionAnswer {
  session: { id: string; status: string; because?: string };
}

const open: AsyncDisposable[] = [];
const meetings: Disposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
  for (const one of meetings.splice(0)) one[Symbol.dispose]();
});

async function host(store: string, agent: string, slots = 0): Promise<Host> {
  const started = await Host.start({ server: SERVER, agent, store, env: { SWARM_EXEC_SLOTS: String(slots) } });
  open.unshift(started);
  return started;
}

async function worker(options: WorkerOptions): Promise<WorkerProcess> {
  const started = await WorkerProcess.start({ leaseMs: LEASE_MS, ...options });
  open.unshift(started);
  return started;
}

/** So long that nobody waits for it, and no other process sleeps as long. */
function uniqueSeconds(): string {
  return `${100_000 + Math.floor(Math.random() * 1_000_000)}`;
}

async function run(agent: Host, code: string, more: Record<string, unknown> = {}): Promise<TaskAnswer> {
  return await agent.call<TaskAnswer>("submit_task", { code, environment: "bash", waitMs: WAIT_MS, ...more });
}

describe.each(ENGINES)("on $name", ({ meet }) => {
  const meeting = async (): Promise<Meeting> => {
    const made = await meet();
    meetings.push(made);
    return made;
  };

  test("a batch runs on all workers in the order of its dependencies, files go from task to task, and one answer tells of all", async () => {
    verifies("EXEC-11", "EXEC-12");
    const { store } = await meeting();
    await worker({ store, args: ["--environments", "bash,python3"] });
    const ada = await host(store, "ada", 2);
    const parts = Array.from({ length: 12 }, (_, n) => ({ key: `part${n}`, args: [String(n)] }));
    const submitted = await ada.call<{ batch: { id: string; queued: number; blocked: number } }>("submit_batch", {
      name: "squares",
      defaults: { environment: "bash", code: 'echo $(( $1 * $1 )) > out/square.txt; echo "did $1"' },
      tasks: [
        ...parts,
        {
          key: "sum",
          environment: "python3",
          code: "import glob\nprint(sum(int(open(f).read()) for f in glob.glob('in/*')))",
          files: parts.map(({ key }) => ({ path: `in/${key}`, from: key, output: "square.txt" })),
        },
        { key: "wrong", code: "exit 3" },
        { key: "after-wrong", dependencies: ["wrong"], code: "echo never" },
        { key: "cleanup", dependencies: ["wrong"], after: "any", code: "echo cleaned" },
      ],
    });
    expect(submitted.batch).toMatchObject({ queued: 13, blocked: 3 });
    const batchId = submitted.batch.id;
    const { batch, results } = await ada.call<BatchAnswer>("get_batch", { batchId, waitMs: WAIT_MS });
    expect(batch).toMatchObject({ ended: true, tasks: 16, counts: { succeeded: 14, failed: 2 } });
    expect(results.find(({ key }) => key === "sum")).toMatchObject({ status: "succeeded", stdout: "506\n" });
    expect(results.find(({ key }) => key === "cleanup")).toMatchObject({ stdout: "cleaned\n" });
    expect(results.find(({ key }) => key === "part7")).toMatchObject({ stdout: "did 7\n", files: 1 });
    expect(batch.failures).toMatchObject([
      { key: "wrong", status: "failed", exitCode: 3 },
      { key: "after-wrong", status: "failed", failure: "dependency" },
    ]);
    expect(batch.groups.map(({ environment, tasks }) => ({ environment, tasks }))).toEqual([
      { environment: "bash", tasks: 15 },
      { environment: "python3", tasks: 1 },
    ]);
    for (const used of [batch, batch.groups[0]]) {
      expect(used?.slots).toBeGreaterThanOrEqual(1);
      expect(used?.slots).toBeLessThanOrEqual(4);
      expect(used?.utilisation).toBeGreaterThan(0);
      expect(used?.utilisation).toBeLessThanOrEqual(1);
    }
  });

  test("two workers share 300 small tasks: each runs once, on a child that each worker keeps warm", async () => {
    verifies("EXEC-14", "EXEC-09", "EXEC-11");
    const { store } = await meeting();
    const args = ["--environments", "javascript", "--slots", "1"];
    const workers = [await worker({ store, args }), await worker({ store, args })];
    const ada = await host(store, "ada");
    const count = 300;
    const { batch } = await ada.call<{ batch: { id: string } }>("submit_batch", {
      defaults: { environment: "javascript", code: "Number(args[0]) * 2" },
      tasks: Array.from({ length: count }, (_, n) => ({ key: `n${n}`, args: [String(n)] })),
    });
    const children = workers.map(() => new Set<string>());
    const standing = async () => {
      workers.forEach(({ pid }, at) => {
        for (const child of descendantsOf(pid)) children[at]?.add(child);
      });
      return (await ada.call<BatchAnswer>("get_batch", { batchId: batch.id, limit: 1 })).batch;
    };
    await eventually("all have ended", async () => (await standing()).ended);
    expect(await standing()).toMatchObject({ tasks: count, counts: { succeeded: count }, slots: 2 });
    const values = new Map<string, unknown>();
    let cursor: string | undefined;
    do {
      const page = await ada.call<BatchAnswer>("get_batch", { batchId: batch.id, limit: 200, ...(cursor ? { cursor } : {}) });
      for (const { key, value } of page.results) values.set(key, value);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    expect(values).toEqual(new Map(Array.from({ length: count }, (_, n) => [`n${n}`, n * 2])));
    for (const seen of children) expect([...seen].length, "a child is not started for each task").toBeLessThan(count / 20);
  });

  test("a batch that is wrong anywhere is refused with what is wrong, and nothing of it is queued", async () => {
    verifies("EXEC-11");
    const { store } = await meeting();
    const ada = await host(store, "ada");
    const good = { key: "a", code: "true", environment: "bash" };
    for (const [tasks, says] of [
      [[good, { key: "b", code: "true", environment: "bash", dependencies: ["c"] }], /b depends on c, which is not in the batch/],
      [
        [
          { ...good, dependencies: ["b"] },
          { key: "b", code: "true", environment: "bash", dependencies: ["a"] },
        ],
        /circle: a → b → a/,
      ],
      [[good, good], /have the id a\b/],
      [[good, { key: "b", code: "true" }], /b has no environment/],
      [[good, { key: "b", code: "true", environment: "cobol" }], /no environment cobol/],
      [[good, { ...good, key: "b", files: [{ path: "../x", text: "" }] }], /Task b: A path/],
    ] as const) {
      const answer = await ada.try("submit_batch", { tasks });
      expect(answer).toMatchObject({ isError: true, text: expect.stringMatching(says) });
    }
    expect(await ada.call("list_tasks")).toMatchObject({ tasks: [] });
  });

  test("a cancelled batch leaves nothing that waits and no process that runs", async () => {
    verifies("EXEC-11");
    const { store } = await meeting();
    await worker({ store, args: ["--environments", "bash"] });
    const ada = await host(store, "ada");
    const seconds = uniqueSeconds();
    const { batch: begun } = await ada.call<{ batch: { id: string } }>("submit_batch", {
      tasks: ["a", "b", "c", "d"].map((key) => ({ key })),
      defaults: { environment: "bash", code: `sleep ${seconds}`, timeout: 60_000 },
    });
    const batchId = begun.id;
    await eventually("two of them run", () => processesWith(seconds).length >= 2 || undefined);
    expect(await ada.call("cancel_batch", { batchId })).toMatchObject({ open: 4 });
    const { batch } = await ada.call<BatchAnswer>("get_batch", { batchId, waitMs: WAIT_MS });
    expect(batch).toMatchObject({ ended: true, counts: { cancelled: 4 } });
    await eventually("no process of them is left", () => processesWith(seconds).length === 0 || undefined);
  });

  test("a session of files keeps them between its tasks, for its own agent alone", async () => {
    verifies("EXEC-13");
    const { store } = await meeting();
    await worker({ store, args: ["--environments", "bash"] });
    const [ada, bob] = [await host(store, "ada"), await host(store, "bob")];
    const { session } = await ada.call<SessionAnswer>("start_session", { environment: "bash" });
    const sessionId = session.id;
    await run(ada, "echo 42 > kept.txt", { sessionId });
    expect((await run(ada, "cat kept.txt", { sessionId })).result?.stdout).toBe("42\n");
    expect(await run(ada, "cat kept.txt")).toMatchObject({ task: { status: "failed" } });
    const others = await bob.call<SessionAnswer>("start_session", { environment: "bash" });
    expect(await run(bob, "cat kept.txt", { sessionId: others.session.id })).toMatchObject({ task: { status: "failed" } });
    for (const [tool, args] of [
      ["submit_task", { code: "cat kept.txt", environment: "bash", sessionId }],
      ["end_session", { sessionId }],
    ] as const) {
      expect(await bob.try(tool, args)).toMatchObject({
        isError: true,
        text: expect.stringMatching(/^permission_denied: Session/),
      });
    }
    expect(await bob.call("list_sessions")).toMatchObject({ sessions: [{ id: others.session.id }] });
    expect(await ada.call("end_session", { sessionId })).toMatchObject({ session: { status: "over", because: "ended" } });
    expect(await ada.try("submit_task", { code: "true", environment: "bash", sessionId })).toMatchObject({
      isError: true,
      text: expect.stringMatching(/is over: it was ended/),
    });
  });

  test("a session of state keeps variables between its tasks, and another's has none of them", async () => {
    verifies("EXEC-13");
    const { store } = await meeting();
    const [ada, bob] = [await host(store, "ada", 2), await host(store, "bob", 2)];
    const js = (agent: Host, sessionId: string, code: string, more = {}) =>
      run(agent, code, { environment: "javascript", sessionId, ...more });
    const [hers, his] = [
      (await ada.call<SessionAnswer>("start_session", { environment: "javascript" })).session.id,
      (await bob.call<SessionAnswer>("start_session", { environment: "javascript" })).session.id,
    ];
    await js(ada, hers, "globalThis.seen = [1]; var count = 1");
    await js(bob, his, "globalThis.seen = ['bob']");
    const ids = [];
    for (let n = 0; n < 5; n++) ids.push((await js(ada, hers, "seen.push(++count); count", { waitMs: 0 })).task.id);
    for (const taskId of ids) await ada.call("get_result", { taskId, waitMs: WAIT_MS });
    expect((await js(ada, hers, "seen")).result?.value).toEqual([1, 2, 3, 4, 5, 6]);
    expect((await js(bob, his, "seen")).result?.value).toEqual(["bob"]);
    expect((await run(ada, "typeof seen", { environment: "javascript" })).result?.value).toBe("undefined");
    const limited = await js(ada, hers, "for (;;);", { timeout: 500 });
    expect(limited.task.status).toBe("failed");
    expect(await ada.call("list_sessions")).toMatchObject({ sessions: [{ id: hers, status: "over", because: "limit" }] });
    expect((await js(bob, his, "seen")).result?.value).toEqual(["bob"]);
  });

  test("a session is lost with kill -9 of its worker: its tasks fail at once, nothing of it goes on", async () => {
    verifies("EXEC-13");
    const { store } = await meeting();
    const doomed = await worker({ store, args: ["--environments", "bash"] });
    const ada = await host(store, "ada");
    const { session } = await ada.call<SessionAnswer>("start_session", { environment: "bash" });
    const sessionId = session.id;
    expect((await run(ada, "echo 42 > kept.txt", { sessionId })).task).toMatchObject({ status: "succeeded" });
    const marker = randomUUID();
    const busy = await run(ada, `: ${marker}; trap '' TERM; while :; do :; done`, { sessionId, waitMs: 0, timeout: 60_000 });
    const behind = await run(ada, "cat kept.txt", { sessionId, waitMs: 0 });
    await eventually(
      "it runs",
      async () => (await ada.call<TaskAnswer>("get_result", { taskId: busy.task.id })).task.status === "running" || undefined,
    );
    const left = descendantsOf(doomed.pid);
    await doomed.kill();
    await worker({ store, args: ["--environments", "bash"] });
    for (const { task } of [busy, behind]) {
      const ended = await ada.call<TaskAnswer>("get_result", { taskId: task.id, waitMs: WAIT_MS });
      expect(ended.task).toMatchObject({ status: "failed", because: expect.stringMatching(/session/) });
    }
    expect(await ada.call("list_sessions")).toMatchObject({ sessions: [{ status: "over", because: "worker_lost" }] });
    await eventually("no process of it is left", () => stillThere(left).length === 0 || undefined);
  });

  test("a session ends with its time limit, in the middle of a task", async () => {
    verifies("EXEC-13");
    const { store } = await meeting();
    await worker({ store, args: ["--environments", "bash"] });
    const ada = await host(store, "ada");
    const seconds = uniqueSeconds();
    const { session } = await ada.call<SessionAnswer>("start_session", { environment: "bash", ttlMs: 2_500 });
    const sessionId = session.id;
    const { task } = await run(ada, `sleep ${seconds}`, { sessionId, timeout: 60_000 });
    expect(task).toMatchObject({ status: "failed", because: expect.stringMatching(/session/) });
    await eventually("its sandbox is gone", () => processesWith(seconds).length === 0 || undefined);
    const over = await eventually("the session is over", async () => {
      const { sessions } = await ada.call<{ sessions: SessionAnswer["session"][] }>("list_sessions");
      return sessions[0]?.status === "over" ? sessions[0] : undefined;
    });
    expect(over).toMatchObject({ id: sessionId, because: "expired" });
  });
});
