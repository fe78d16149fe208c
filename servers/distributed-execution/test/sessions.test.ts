/** Sessions and batches through the real queue and real workers; only the sandbox is the test's own. */
import { LeaseKeeper, Maintenance, SequenceSource } from "@mcp-swarm/coordination";
import { manualClock, seededRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { afterEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Batches } from "../src/batches.ts";
import { Environments } from "../src/environments.ts";
import { executionJobs } from "../src/execution-jobs.ts";
import type { ExecutionContext } from "../src/execution-layer.ts";
import { type ExecutionRecord, hasEnded } from "../src/execution-record.ts";
import { ExecutionWork } from "../src/execution-work.ts";
import { Executions } from "../src/executions.ts";
import { NO_OPERATOR_FILE } from "../src/operator-file.ts";
import { endSession } from "../src/session-ending.ts";
import { Sessions } from "../src/sessions.ts";
import { Workplace } from "../src/worker/workplace.ts";
import { FakeDriver } from "./support/fake-driver.ts";

const LEASE_MS = 9_000;
/** Steps of a second that a test waits for something at most. */
const SECONDS_MAX = 60;

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

function swarm() {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const random = seededRandom(7);
  const context: ExecutionContext = { environments: new Environments({ clock }), endSession };
  const options = { store, clock, random, context, sequence: new SequenceSource(random) };
  const [executions, batches, sessions] = [new Executions(options), new Batches(options), new Sessions(options)];
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const maintenance = new Maintenance({ clock, random, onError });
  for (const job of [...sessions.jobs(), ...executionJobs({ store, context })]) maintenance.add(job);
  maintenance.start();
  closers.push(() => maintenance.stop());
  const call = (agentId: string) => plainCall(store, { agentId, verified: false, processId: "p" });

  /** A worker process; `die` is its end by kill -9: nothing of it renews, answers or writes any more. */
  async function worker(workerId: string, slots = 2) {
    let dead = false;
    const own = new Proxy(store, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return dead ? () => new Promise(() => {}) : value.bind(target);
      },
    });
    const driver = new FakeDriver();
    const keeper = new LeaseKeeper({ store: own, clock, leaseMs: LEASE_MS, onError });
    const source = new ExecutionWork({ store: own, context, clock, random, keeper, leaseMs: LEASE_MS, onError });
    const place = new Workplace({
      ...{ workerId, store: own, clock, leaseMs: LEASE_MS, leases: keeper, source, onError },
      ...{ environments: new Environments({ clock }), operator: NO_OPERATOR_FILE },
      settings: { kind: "worker", labels: [], slots, environments: ["javascript"] },
      letGo: (tx, id, by) => sessions.letGo(tx, id, by),
      mayRun: () => true,
      loaders: { quickjs: async () => () => driver },
    });
    await place.lookAtAll();
    await place.start();
    const stop = async () => {
      await place.stop();
      await keeper.releaseAll();
    };
    closers.push(async () => {
      if (!dead) await stop();
    });
    return {
      driver,
      stop,
      die: () => {
        dead = true;
      },
    };
  }

  const submit = async (agentId: string, code: string, more: { sessionId?: string } = {}): Promise<string> => {
    return (await executions.submit(call(agentId), { code, environment: "javascript", ...more })).task.id;
  };
  /** Time goes on until it says so. */
  async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
    for (let second = 0; second < SECONDS_MAX; second++) {
      const found = await what();
      if (found !== undefined) return found;
      await clock.advance(1_000);
    }
    throw new Error(`It did not come about within ${SECONDS_MAX} s of the test's clock: ${JSON.stringify(errors.map(String))}`);
  }
  const done = (id: string): Promise<ExecutionRecord> =>
    until(async () => {
      const task = await executions.get(call("reader"), { taskId: id });
      return hasEnded(task.status) ? task : undefined;
    });
  const running = (id: string) =>
    until(async () => ((await executions.get(call("reader"), { taskId: id })).status === "running" ? true : undefined));
  const session = async (id: string) => {
    const entry = await store.get(`exec-session/${id}`);
    return entry?.value as { over?: { because: string }; worker?: { workerId: string } } | undefined;
  };
  return { clock, store, executions, batches, sessions, call, worker, submit, done, running, session, errors, until };
}

describe("a session at work", () => {
  test("runs its tasks one at a time, in order, where the first of them ran, and keeps what they made", async () => {
    verifies("EXEC-13");
    const swarms = swarm();
    const { sessions, call, submit, done, worker, session } = swarms;
    const workers = [await worker("w1"), await worker("w2")];
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    const ids: string[] = [];
    for (let n = 0; n < 10; n++) ids.push(await submit("ada", `get x\nset x ${n}`, { sessionId: id }));
    const tasks: ExecutionRecord[] = [];
    for (const one of ids) tasks.push(await done(one));
    expect(tasks.map(({ result }) => result?.value)).toEqual([null, "0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    const holder = (await session(id))?.worker?.workerId;
    expect(new Set(tasks.map((task) => task.worker?.workerId))).toEqual(new Set([holder]));
    expect(workers.map(({ driver }) => driver.open).sort()).toEqual([0, 1]);
    expect(Math.max(...workers.map(({ driver }) => driver.most))).toBe(1);
  });

  test("sees nothing of another's, and no task without a session sees anything of it", async () => {
    verifies("EXEC-13");
    const { sessions, call, submit, done, worker } = swarm();
    await worker("w1");
    const [a, b] = [
      await sessions.start(call("ada"), { environment: "javascript" }),
      await sessions.start(call("bob"), { environment: "javascript" }),
    ];
    await done(await submit("ada", "set secret 42", { sessionId: a.id }));
    expect((await done(await submit("bob", "get secret", { sessionId: b.id }))).result?.value).toBeNull();
    expect((await done(await submit("ada", "get secret"))).result?.value).toBeNull();
    await expect(submit("bob", "get secret", { sessionId: a.id })).rejects.toMatchObject({ code: "permission_denied" });
    await expect(submit("ada/sub", "get secret", { sessionId: a.id })).rejects.toMatchObject({ code: "permission_denied" });
    expect((await done(await submit("ada", "get secret", { sessionId: a.id }))).result?.value).toBe("42");
  });

  test("is lost with its worker: the task that ran and those that waited fail at once, and no other worker takes them", async () => {
    verifies("EXEC-13");
    const { sessions, call, submit, done, running, worker, session, clock } = swarm();
    const first = await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    const hanging = await submit("ada", "hang", { sessionId: id });
    const waiting = await submit("ada", "get x", { sessionId: id });
    await running(hanging);
    const second = await worker("w2");
    first.die();
    expect(await done(hanging)).toMatchObject({ status: "failed", failure: "session_lost", attempt: 1 });
    expect(await done(waiting)).toMatchObject({ status: "failed", failure: "session_lost", attempt: 0 });
    expect(await session(id)).toMatchObject({ over: { because: "worker_lost" } });
    await clock.advance(LEASE_MS);
    expect(second.driver.begun).toEqual([]);
    await expect(submit("ada", "get x", { sessionId: id })).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("whose idle worker died is found out by the worker's lease: a task handed in before that fails", async () => {
    verifies("EXEC-13");
    const { sessions, call, submit, done, worker, session, clock } = swarm();
    const first = await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await done(await submit("ada", "set x 1", { sessionId: id }));
    first.die();
    const late = await submit("ada", "get x", { sessionId: id });
    expect(await done(late)).toMatchObject({ status: "failed", failure: "session_lost", attempt: 0 });
    await clock.advance(LEASE_MS);
    expect(await session(id)).toMatchObject({ over: { because: "worker_lost" } });
  });

  test("ends with its time limit in the middle of a task", async () => {
    verifies("EXEC-13");
    const { sessions, call, submit, done, running, worker } = swarm();
    const one = await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript", ttlMs: 5_000 });
    const hanging = await submit("ada", "hang", { sessionId: id });
    await running(hanging);
    const task = await done(hanging);
    expect(task).toMatchObject({ status: "failed", failure: "session_lost" });
    expect((task.endedAt ?? 0) - task.createdAt).toBeLessThan(7_000);
    expect(one.driver).toMatchObject({ open: 0, running: 0 });
  });

  test("ends at once when its agent says so, with what ran", async () => {
    const { sessions, call, submit, done, running, worker, clock } = swarm();
    const one = await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    const hanging = await submit("ada", "hang", { sessionId: id });
    await running(hanging);
    await sessions.end(call("ada"), { sessionId: id });
    expect(await done(hanging)).toMatchObject({ status: "failed", failure: "session_lost" });
    await clock.advance(1_000);
    expect(one.driver).toMatchObject({ open: 0, running: 0 });
  });

  test.each([
    { what: "a limit that was hit", code: "limit memoryMiB", status: "failed", because: "limit" },
    { what: "a sandbox found dead", code: "die", status: "failed", because: "sandbox" },
  ])("ends with $what, and the task says what it came to itself", async ({ code, status, because }) => {
    const { sessions, call, submit, done, worker, session } = swarm();
    const one = await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await done(await submit("ada", "set x 1", { sessionId: id }));
    const [killer, behind] = [await submit("ada", code, { sessionId: id }), await submit("ada", "get x", { sessionId: id })];
    expect(await done(killer)).toMatchObject({ status });
    expect(await done(behind)).toMatchObject({ status: "failed", failure: "session_lost" });
    expect(await session(id)).toMatchObject({ over: { because } });
    expect(one.driver.open).toBe(0);
  });

  test("ends when a running task of it is cancelled; a waiting one is cancelled alone", async () => {
    const { sessions, call, submit, done, running, worker, session, executions } = swarm();
    await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    const hanging = await submit("ada", "hang", { sessionId: id });
    const waiting = await submit("ada", "get x", { sessionId: id });
    await running(hanging);
    await executions.cancel(call("ada"), { taskId: waiting });
    expect((await session(id))?.over).toBeUndefined();
    await executions.cancel(call("ada"), { taskId: hanging });
    expect(await done(hanging)).toMatchObject({ status: "cancelled" });
    expect(await session(id)).toMatchObject({ over: { because: "cancelled" } });
  });

  test("outlives a task that fails by itself", async () => {
    const { sessions, call, submit, done, worker } = swarm();
    await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    expect(await done(await submit("ada", "set x 1\nexit 3", { sessionId: id }))).toMatchObject({ status: "failed" });
    expect((await done(await submit("ada", "get x", { sessionId: id }))).result?.value).toBe("1");
  });

  test("of a worker that is stopped is over before the process ends", async () => {
    const { sessions, call, submit, done, worker, session } = swarm();
    const one = await worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await done(await submit("ada", "set x 1", { sessionId: id }));
    await one.stop();
    expect(await session(id)).toMatchObject({ over: { because: "worker_lost" } });
    expect(one.driver.open).toBe(0);
  });
});

describe("a batch at work", () => {
  test("runs on all workers, hands files on, and its compiled result tells how well the slots were used", async () => {
    verifies("EXEC-11");
    const { batches, call, worker, until } = swarm();
    const workers = [await worker("w1"), await worker("w2")];
    const parts = Array.from({ length: 20 }, (_, n) => ({ key: `p${n}`, code: `file part.txt n${n}` }));
    const { id: batchId } = await batches.submit(call("ada"), {
      tasks: [
        ...parts,
        {
          key: "sum",
          code: "cat p7/part.txt",
          files: parts.map(({ key }) => ({ path: `${key}/part.txt`, from: key, output: "part.txt" })),
        },
      ],
      defaults: { environment: "javascript" },
    });
    const standing = await until(async () => {
      const now = await batches.get(call("ada"), { batchId });
      return now.compiled.ended ? now : undefined;
    });
    expect(standing.compiled).toMatchObject({ counts: { succeeded: 21 }, tasks: 21, failures: [], wallMs: 21, cpuMs: 21 });
    expect(standing.page.find(({ key }) => key === "sum")?.record.result?.value).toBe("n7");
    expect(workers.reduce((sum, { driver }) => sum + driver.begun.length, 0)).toBe(21);
    expect(standing.compiled.slots).toBeGreaterThanOrEqual(1);
    expect(standing.compiled.slots).toBeLessThanOrEqual(4);
  });

  test("is brought to its end though a worker dies in the middle of it", async () => {
    verifies("EXEC-11");
    const { batches, call, worker, until } = swarm();
    const first = await worker("w1");
    const { id: batchId } = await batches.submit(call("ada"), {
      tasks: Array.from({ length: 30 }, (_, n) => ({
        key: `t${n}`,
        ...(n > 0 ? { dependencies: [`t${Math.floor((n - 1) / 2)}`] } : {}),
      })),
      defaults: { environment: "javascript", code: "args", args: ["1"] },
      maxConcurrency: 3,
    });
    const look = async () => (await batches.get(call("ada"), { batchId })).compiled;
    await until(async () => (((await look()).counts.succeeded ?? 0) > 3 ? true : undefined));
    first.die();
    await worker("w2");
    await until(async () => ((await look()).ended ? true : undefined));
    expect(await look()).toMatchObject({ counts: { succeeded: 30 } });
  });
});
