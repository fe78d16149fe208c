import { AGE_MS, SequenceSource } from "@mcp-swarm/coordination";
import { SwarmError, seededRandom } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Batches } from "../src/batches.ts";
import { RETRY_BACKOFF } from "../src/execution-lifecycle.ts";
import { taskView } from "../src/tools/views.ts";
import type { ClaimedRun } from "../src/worker/work-source.ts";
import { everyKey, everyRow, executionCensus } from "./support/execution-census.ts";
import { failingStore } from "./support/failing-store.ts";
import { hostOn, LEASE_MS, maintain, OFFERED, type QueueHost, queueSwarm } from "./support/queue-swarm.ts";

const DAY_MS = 24 * 3_600_000;
const NEVER = new AbortController().signal;

async function claimed(host: QueueHost, part: Parameters<QueueHost["take"]>[0] = {}): Promise<ClaimedRun> {
  const run = await host.take(part);
  if (!run) throw new Error("Nothing was claimed");
  return run;
}

describe("the order of claiming", () => {
  test("is by priority, then by age, over all queues that a worker serves", async () => {
    verifies("EXEC-09");
    const { host } = queueSwarm();
    const ada = host("ada");
    const low = await ada.submit({ priority: 2 });
    const first = await ada.submit({ environment: "python" });
    const second = await ada.submit();
    const high = await ada.submit({ environment: "bash", priority: 9 });
    const order: string[] = [];
    for (let run = await ada.take(); run; run = await ada.take()) order.push(run.record.id);
    expect(order).toEqual([high.id, first.id, second.id, low.id]);
  });

  test("lets nothing starve: what waits long enough goes before what is more urgent and new", async () => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const old = await ada.submit({ priority: 0, queueTimeout: 7 * 24 * 3_600_000 });
    await clock.advance(AGE_MS * 8);
    const urgent = await ada.submit({ priority: 9 });
    expect((await claimed(ada)).record.id).toBe(urgent.id);
    await clock.advance(AGE_MS * 2);
    await ada.submit({ priority: 9 });
    expect((await claimed(ada)).record.id).toBe(old.id);
  });

  test("matches environment and its version, architecture and labels", async () => {
    verifies("EXEC-10");
    const { host } = queueSwarm();
    const ada = host("ada");
    const gpu = await ada.submit({ requires: { labels: ["gpu", "big"] } });
    const arm = await ada.submit({ requires: { arch: "arm64" } });
    const python = await ada.submit({ environment: "python" });
    expect(gpu.requires).toEqual({ labels: ["big", "gpu"] });
    const old = [{ name: "javascript", version: 0 }];
    expect(await ada.take({ environments: old, labels: ["big", "gpu"] })).toBeUndefined();
    expect(await ada.take({ environments: [{ name: "javascript", version: 1 }], labels: ["gpu"] })).toBeUndefined();
    expect((await claimed(ada, { arch: "arm64", environments: [{ name: "javascript", version: 1 }] })).record.id).toBe(arm.id);
    expect((await claimed(ada, { labels: ["gpu", "x", "big"] })).record.id).toBe(gpu.id);
    expect((await claimed(ada)).record.id).toBe(python.id);
    expect(await ada.take()).toBeUndefined();
  });

  test("a worker without room for a session takes no first task of one", async () => {
    verifies("EXEC-13");
    const { host } = queueSwarm();
    const ada = host("ada");
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript" });
    const task = await ada.submit({ sessionId });
    expect(await ada.take({ takesSessions: false })).toBeUndefined();
    expect((await claimed(ada)).record.id).toBe(task.id);
  });
});

describe("a run", () => {
  test("is seen by whoever looks for demand, however many queues there are beside", async () => {
    verifies("EXEC-10");
    const { host } = queueSwarm();
    const ada = host("ada");
    const labels = Array.from({ length: 300 }, (_, at) => `label-${at}`);
    for (const label of labels) await ada.submit({ requires: { labels: [label] } });
    const seen = (await ada.work.demand()).flatMap(({ requires }) => requires.labels ?? []);
    expect(seen.sort()).toEqual(labels.sort());
  });

  test("is waited for, and begins as soon as something is handed over", async () => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const [ada, worker] = [host("ada"), host("worker")];
    const waiting = worker.work.next(worker.profile(), { waitMs: 30_000, signal: NEVER });
    await clock.advance(100);
    const { id } = await ada.submit();
    await clock.advance(100);
    expect((await waiting)?.record).toMatchObject({ id, status: "running", attempt: 1, worker: { workerId: "worker" } });
    const stop = new AbortController();
    const more = worker.work.next(worker.profile(), { waitMs: 30_000, signal: stop.signal });
    await clock.advance(10);
    stop.abort();
    expect(await more).toBeUndefined();
  });

  test("ends in the same commit that claims the next", async () => {
    verifies("EXEC-09");
    const { host } = queueSwarm();
    const ada = host("ada");
    const [a, b] = [await ada.submit(), await ada.submit()];
    const run = await claimed(ada);
    expect(run.record.id).toBe(a.id);
    const { accepted, next } = await ada.finish(run, {}, ada.profile());
    expect(accepted).toBe(true);
    expect(next?.record.id).toBe(b.id);
    if (next) expect(await ada.finish(next, {}, ada.profile())).toEqual({ accepted: true });
  });

  test.each([
    { what: "exit code 0", ending: { kind: "exit", code: 0 }, status: "succeeded" },
    { what: "another exit code", ending: { kind: "exit", code: 3 }, status: "failed" },
    { what: "a signal", ending: { kind: "signal", signal: "SIGSEGV" }, status: "failed" },
    { what: "a limit", ending: { kind: "limit", limit: "memoryMiB" }, status: "failed" },
  ] as const)("that ends by $what is $status, and is never repeated", async ({ ending, status }) => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id } = await ada.submit();
    await ada.finish(await claimed(ada), { ending });
    await clock.advance(10 * LEASE_MS);
    await maintain(ada.jobs);
    expect(await ada.take()).toBeUndefined();
    expect(await ada.executions.get(ada.call, { taskId: id })).toMatchObject({ status, attempt: 1, result: { ending } });
  });

  test("is renewed for as long as its worker lives", async () => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    await ada.submit();
    const run = await claimed(ada);
    await clock.advance(20 * LEASE_MS);
    await maintain(bob.jobs);
    expect(await bob.take()).toBeUndefined();
    expect(run.signal.aborted).toBe(false);
    expect((await ada.finish(run)).accepted).toBe(true);
  });

  test("of a dead worker goes to another, and the dead one's late result changes nothing", async () => {
    verifies("EXEC-09", "EXEC-10");
    const { clock, store, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id } = await ada.submit();
    const lost = await claimed(ada);
    ada.die();
    await clock.advance(LEASE_MS - 1);
    await maintain(bob.jobs);
    expect(await bob.take()).toBeUndefined();
    await clock.advance(2);
    await maintain(bob.jobs);
    expect(await bob.take()).toBeUndefined(); // a pause before the next attempt
    await clock.advance(RETRY_BACKOFF.maxMs);
    await maintain(bob.jobs);
    const run = await claimed(bob);
    expect(run.record).toMatchObject({ id, attempt: 2, spent: 1 });
    await ada.work.output(lost, [{ stream: "stdout", bytes: Buffer.from("late") }]);
    expect(await ada.finish(lost, { value: "late" })).toEqual({ accepted: false });
    expect((await bob.finish(run, { value: "mine" })).accepted).toBe(true);
    expect((await bob.executions.get(bob.call, { taskId: id })).result).toMatchObject({ value: "mine", stdout: { chars: 0 } });
    expect((await executionCensus(store)).problems).toEqual([]);
    expect(await everyKey(store, "exec-output")).toEqual([]);
  });

  test("of a worker that cannot ask the store is killed by its own clock", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    await ada.submit();
    const run = await claimed(ada);
    const transact = store.transact.bind(store);
    store.transact = () => Promise.reject(new Error("The store is away"));
    await clock.advance(LEASE_MS + 1);
    expect(run.signal.aborted).toBe(true);
    store.transact = transact;
    expect((await ada.finish(run)).accepted).toBe(false);
  });

  test("fails for good when workers that died used its attempts up", async () => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const keeper = host("keeper");
    const { id } = await keeper.submit({ maxAttempts: 2 });
    for (const name of ["w1", "w2"]) {
      const worker = host(name);
      await claimed(worker);
      worker.die();
      await clock.advance(LEASE_MS + RETRY_BACKOFF.maxMs);
      await maintain(keeper.jobs);
      await clock.advance(RETRY_BACKOFF.maxMs);
      await maintain(keeper.jobs);
    }
    expect(await keeper.executions.get(keeper.call, { taskId: id })).toMatchObject({
      status: "failed",
      failure: "worker_lost",
      attempt: 2,
      spent: 2,
    });
  });

  test("given back by a worker that stops is queued again at its old rank, and costs no attempt", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id } = await ada.submit({ maxAttempts: 1 });
    await clock.advance(5);
    await ada.submit();
    await ada.work.giveBack(await claimed(ada));
    const run = await claimed(bob);
    expect(run.record).toMatchObject({ id, attempt: 2, spent: 0 });
    await bob.keeper.releaseAll(); // as at the end of a process
    expect((await claimed(ada)).record).toMatchObject({ id, attempt: 3, spent: 0 });
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("whose sandbox could not be started is tried again after a pause, and fails when its attempts are used up", async () => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id } = await ada.submit({ maxAttempts: 2 });
    await ada.work.giveBack(await claimed(ada), "sandbox");
    expect(await ada.take()).toBeUndefined();
    await clock.advance(RETRY_BACKOFF.initialMs + 1);
    await maintain(ada.jobs);
    await ada.work.giveBack(await claimed(ada), "sandbox", `There is no disk. ${"x".repeat(1_000)}`);
    const failed = await ada.executions.get(ada.call, { taskId: id });
    expect(failed).toMatchObject({ status: "failed", failure: "sandbox" });
    expect(failed.failureReason).toHaveLength(500);
    expect(taskView(failed).because).toMatch(/^No worker could start a sandbox for it, .* allows\. There is no disk\. x/);
  });

  test("that was ended by its session is refused to its worker, which then kills it", async () => {
    verifies("EXEC-13");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript" });
    const [first, second] = [await ada.submit({ sessionId }), await ada.submit({ sessionId })];
    const run = await claimed(ada);
    expect(run.record.id).toBe(first.id);
    expect(await ada.take()).toBeUndefined(); // one at a time
    await ada.sessions.end(ada.call, { sessionId });
    await clock.advance(LEASE_MS);
    expect(run.signal.aborted).toBe(true);
    expect((await ada.finish(run)).accepted).toBe(false);
    for (const { id } of [first, second]) {
      const task = await ada.executions.get(ada.call, { taskId: id });
      expect(task).toMatchObject({ status: "failed", failure: "session_lost" });
    }
  });

  test("of a session goes where its first one went, and nowhere else", async () => {
    verifies("EXEC-13");
    const { host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript" });
    const first = await ada.submit({ sessionId });
    const second = await ada.submit({ sessionId, priority: 9 });
    const run = await claimed(bob);
    expect(run.record.id).toBe(first.id);
    await bob.finish(run);
    expect(await ada.take()).toBeUndefined();
    expect(await bob.work.demand()).toEqual([expect.objectContaining({ workerId: "bob" })]);
    expect((await claimed(bob)).record.id).toBe(second.id);
  });

  test("of a session whose time is up is not begun, whether or not a job has come by", async () => {
    verifies("EXEC-13");
    const { clock, store, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript", ttlMs: 1_000 });
    const { id: taskId } = await ada.submit({ sessionId });
    await clock.advance(1_000);
    expect(await bob.take()).toBeUndefined();
    expect(await ada.executions.get(ada.call, { taskId })).toMatchObject({
      status: "failed",
      failure: "session_lost",
      attempt: 0,
    });
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("whose end was written but not heard of is accepted when it is told again, and changes nothing", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    for (let at = 1; ; at++) {
      const failing = failingStore(store, "unheard", at);
      const bob = hostOn(failing.store, "bob", { clock, seed: 100 + at });
      const { id: taskId } = await ada.submit();
      const run = await bob.take().catch(() => undefined);
      if (!run) {
        await ada.executions.cancel(ada.call, { taskId });
        await clock.advance(LEASE_MS + 1);
        await maintain(ada.jobs);
        continue;
      }
      const told = await bob.finish(run, { value: 1 }).catch(() => bob.finish(run, { value: 2 }));
      expect(told.accepted).toBe(true);
      expect((await ada.executions.get(ada.call, { taskId })).result?.value).toBe(1);
      if (!failing.failed()) return;
    }
  });

  test("of a session whose worker died is not run again: it says that the session is lost", async () => {
    verifies("EXEC-13");
    const { clock, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript" });
    const tasks = [await ada.submit({ sessionId }), await ada.submit({ sessionId })];
    await claimed(bob);
    bob.die();
    await clock.advance(LEASE_MS + 1);
    await maintain(ada.jobs);
    for (const { id } of tasks) {
      const task = await ada.executions.get(ada.call, { taskId: id });
      expect(task).toMatchObject({ status: "failed", failure: "session_lost" });
    }
    await expect(ada.submit({ sessionId })).rejects.toMatchObject({ code: "failed_precondition" });
  });
});

describe("cancelling", () => {
  test("ends what waits at once", async () => {
    verifies("EXEC-09");
    const { store, host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    expect((await ada.executions.cancel(ada.call, { taskId })).task.status).toBe("cancelled");
    expect(await ada.take()).toBeUndefined();
    expect((await ada.executions.cancel(ada.call, { taskId })).task.status).toBe("cancelled");
    await expect(ada.executions.cancel(ada.call, { taskId: "exec-none" })).rejects.toMatchObject({ code: "not_found" });
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("reaches the worker of what runs without waiting for a renewal, and what came out so far is kept", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: taskId } = await ada.submit();
    const run = await claimed(bob);
    const other = await ada.submit().then(() => claimed(bob));
    await clock.advance(100);
    await ada.executions.cancel(ada.call, { taskId });
    await clock.advance(100);
    expect(run.signal.aborted).toBe(true);
    expect(other.signal.aborted).toBe(false);
    await bob.finish(run, { ending: { kind: "killed" }, stdout: Buffer.from("so far") });
    expect(await ada.executions.get(ada.call, { taskId })).toMatchObject({
      status: "cancelled",
      result: { ending: { kind: "killed" }, stdout: { head: "so far" } },
    });
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("is looked for again when the store could not be asked", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    let failing = false;
    const own: Store = new Proxy(store, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (failing && name === "scan") return () => Promise.reject(new SwarmError("unavailable", "The store does not answer."));
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const bob = hostOn(own, "bob", { clock, seed: 99 });
    const { id: taskId } = await ada.submit();
    const run = await claimed(bob);
    await clock.advance(100);
    failing = true;
    await ada.executions.cancel(ada.call, { taskId });
    await clock.advance(100);
    expect([bob.errors.length > 0, run.signal.aborted]).toEqual([true, false]);
    failing = false;
    await clock.advance(1_100);
    expect(run.signal.aborted).toBe(true);
  });

  test("of what ended by itself meanwhile keeps its result; of what ended before is refused", async () => {
    verifies("EXEC-09");
    const { host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    const run = await claimed(ada);
    expect((await ada.executions.cancel(ada.call, { taskId })).task.status).toBe("running");
    await ada.finish(run, { value: 1 });
    expect(await ada.executions.get(ada.call, { taskId })).toMatchObject({ status: "succeeded", result: { value: 1 } });
    await expect(ada.executions.cancel(ada.call, { taskId })).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("of what a worker had that died is not run again", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: taskId } = await ada.submit();
    await claimed(bob);
    bob.die();
    await ada.executions.cancel(ada.call, { taskId });
    await clock.advance(LEASE_MS + 1);
    await maintain(ada.jobs);
    expect((await ada.executions.get(ada.call, { taskId })).status).toBe("cancelled");
    expect((await executionCensus(store)).problems).toEqual([]);
  });
});

describe("in the background", () => {
  test("what waited too long for a worker expires, counted anew after each attempt", async () => {
    verifies("EXEC-09");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit({ queueTimeout: 1_000 });
    const { id: other } = await ada.submit({ queueTimeout: 1_000, environment: "python" });
    const run = await claimed(ada, { environments: [{ name: "python", version: 1 }] });
    await clock.advance(1_001);
    await maintain(ada.jobs);
    expect((await ada.executions.get(ada.call, { taskId })).status).toBe("expired");
    await ada.work.giveBack(run);
    await maintain(ada.jobs);
    expect((await ada.executions.get(ada.call, { taskId: other })).status).toBe("queued");
    await clock.advance(1_001);
    await maintain(ada.jobs);
    expect((await ada.executions.get(ada.call, { taskId: other })).status).toBe("expired");
  });

  test("what waits for an environment that was deleted fails, and says so", async () => {
    verifies("EXEC-03");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    const { environments } = ada.context;
    if (!("create" in environments && "delete" in environments)) throw new Error("These are the real environments");
    const { create, delete: remove } = environments as import("../src/environments.ts").Environments;
    await create.call(environments, ada.call, { name: "mine", runtime: "javascript", drivers: ["quickjs"] });
    const { id: taskId } = await ada.submit({ environment: "mine" });
    const stays = await ada.submit();
    await maintain(ada.jobs);
    await remove.call(environments, ada.call, { name: "mine" });
    await clock.advance(6_000);
    await maintain(ada.jobs);
    expect(await ada.executions.get(ada.call, { taskId })).toMatchObject({ status: "failed", failure: "environment_gone" });
    expect((await ada.executions.get(ada.call, { taskId: stays.id })).status).toBe("queued");
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("what ended long ago is forgotten with every row of it, and files only with the last task that has them", async () => {
    verifies("EXEC-12");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    await ada.submit({ code: "x".repeat(100_000), stdin: "y".repeat(100_000), files: [{ path: "in", text: "z" }], dedupe: "d" });
    const run = await claimed(ada);
    const stdout = Buffer.from("out ".repeat(100_000));
    await ada.work.output(run, [{ stream: "stdout", bytes: stdout.subarray(0, 1_000) }]);
    const files = [
      { path: "a", bytes: Buffer.from("a") },
      { path: "big", bytes: Buffer.alloc(2_500_000, 1) },
    ];
    await ada.finish(run, { files, stdout, value: "v".repeat(20_000) });
    const { result } = await ada.executions.get(ada.call, { taskId: run.record.id });
    const artifactId = result?.files[0]?.artifactId ?? "";
    await clock.advance(DAY_MS / 2);
    const user = await ada.submit({ files: [{ path: "x", artifactId }], queueTimeout: 7 * DAY_MS });
    await maintain(ada.jobs);
    await clock.advance(DAY_MS / 2 + 1);
    await maintain(ada.jobs);
    const { records, problems } = await executionCensus(store);
    expect(problems).toEqual([]);
    expect([...records.keys()]).toEqual([user.id]);
    expect((await everyRow(store, "artifact")).map(({ value }) => (value as { id: string }).id)).toEqual([artifactId]);
    for (const empty of ["exec-output", "exec-text", "exec-value"]) expect(await everyKey(store, empty)).toEqual([]);
    expect(Buffer.from((await claimed(ada)).contents[0] ?? []).toString()).toBe("a");
  });

  test("members of a batch or session stay while another of them is open", async () => {
    verifies("EXEC-12");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript", ttlMs: 8 * 3_600_000 });
    const first = await ada.submit({ sessionId });
    await ada.finish(await claimed(ada));
    const second = await ada.submit({ sessionId, queueTimeout: 7 * DAY_MS });
    await clock.advance(2 * DAY_MS);
    const forget = ada.jobs.filter(({ name }) => name === "forget old executions");
    await maintain(forget);
    await clock.advance(700_000);
    await maintain(forget);
    expect((await ada.executions.get(ada.call, { taskId: first.id })).status).toBe("succeeded");
    await ada.executions.cancel(ada.call, { taskId: second.id });
    await clock.advance(700_000);
    await maintain(forget);
    await expect(ada.executions.get(ada.call, { taskId: first.id })).rejects.toMatchObject({ code: "not_found" });
  });

  test("code that a batch shares goes with the last of its members, and the batch with them", async () => {
    verifies("EXEC-11");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    const sequence = new SequenceSource(seededRandom(9));
    const batches = new Batches({ clock, context: ada.context, random: seededRandom(8), sequence });
    const keys = ["a", "b", "c"];
    const defaults = { code: "x".repeat(50_000), environment: "javascript", queueTimeout: 7 * DAY_MS };
    const { id: batchId } = await batches.submit(ada.call, { tasks: keys.map((key) => ({ key })), defaults, maxConcurrency: 1 });
    expect(await everyKey(store, "exec-text")).toHaveLength(1);
    const forget = ada.jobs.filter(({ name }) => name === "forget old executions");
    for (const _ of keys) {
      const run = await claimed(ada);
      expect(run.input.code).toBe(defaults.code);
      await ada.finish(run);
      await maintain(forget);
      await clock.advance(2 * DAY_MS);
      await maintain(forget);
      expect((await executionCensus(store)).problems).toEqual([]);
    }
    await clock.advance(700_000);
    await maintain(forget);
    for (const namespace of ["exec", "exec-text", "exec-text-ref", "exec-group", "exec-batch", "exec-batches"]) {
      expect(await everyKey(store, namespace)).toEqual([]);
    }
    await expect(batches.get(ada.call, { batchId })).rejects.toMatchObject({ code: "not_found" });
  });

  test("bytes that were written ahead of a commit that never came are removed", async () => {
    verifies("EXEC-12");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    await ada.submit();
    const run = await claimed(ada);
    const transact = store.transact.bind(store);
    let commits = 0;
    store.transact = (plan) => {
      commits += 1;
      return commits > 2 ? Promise.reject(new Error("The process ends here")) : transact(plan);
    };
    await expect(ada.finish(run, { files: [{ path: "big", bytes: Buffer.alloc(3_000_000, 7) }] })).rejects.toThrow();
    store.transact = transact;
    ada.die();
    expect((await everyRow(store, "artifact-chunk")).length).toBeGreaterThan(0);
    const bob = host("bob");
    await clock.advance(3_600_001);
    await maintain(bob.jobs);
    expect(await everyKey(store, "artifact-chunk")).toEqual([]);
    expect(await everyKey(store, "artifact-pending")).toEqual([]);
  });

  test("queues that hold nothing go, and come again with the next task", async () => {
    verifies("EXEC-09");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    for (const environment of OFFERED) await ada.submit({ environment });
    for (let run = await ada.take(); run; run = await ada.take()) await ada.finish(run);
    await maintain(ada.jobs);
    await clock.advance(700_000);
    await maintain(ada.jobs);
    expect(await everyKey(store, "exec-queue")).toEqual([]);
    const { id } = await ada.submit();
    expect((await claimed(ada)).record.id).toBe(id);
  });
});
