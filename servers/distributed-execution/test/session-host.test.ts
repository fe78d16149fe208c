import { LeaseKeeper } from "@mcp-swarm/coordination";
import { manualClock, seededRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { BUILTIN_ENVIRONMENTS } from "../src/builtin-environments.ts";
import { Environments } from "../src/environments.ts";
import { inExecutions } from "../src/execution-groups.ts";
import type { ExecutionContext } from "../src/execution-layer.ts";
import type { RunHooks, SandboxTask } from "../src/sandbox/driver.ts";
import { endSession } from "../src/session-ending.ts";
import {
  bindSession,
  readSession,
  SESSIONS_PER_AGENT_MAX,
  SESSIONS_PER_WORKER_MAX,
  usableSession,
} from "../src/session-layer.ts";
import { Sessions } from "../src/sessions.ts";
import { SessionHost } from "../src/worker/session-host.ts";
import { FakeDriver } from "./support/fake-driver.ts";

const LEASE_MS = 9_000;

/** One store with sessions, and workers that hold them. */
function swarm() {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const errors: unknown[] = [];
  const context: ExecutionContext = { environments: new Environments({ clock }), endSession };
  const sessions = new Sessions({ store, context, random: seededRandom(1) });
  const call = (agentId: string) => plainCall(store, { agentId, verified: false, processId: "p" });
  const worker = (workerId: string) => {
    const leases = new LeaseKeeper({ store, clock, leaseMs: LEASE_MS, onError: (error) => errors.push(error) });
    const driver = new FakeDriver();
    const host = new SessionHost({
      ...{ store, clock, leases, workerId, onError: (error: unknown) => errors.push(error) },
      letGo: (tx, id, by) => sessions.letGo(tx, id, by),
    });
    const claim = (id: string) => store.transact((tx) => bindSession(tx, id, { workerId, leaseExpiresAt: tx.now + LEASE_MS }));
    /** As a worker does it: claimed, run, and what a kill takes with it written down. */
    const run = async (id: string, code: string, signal = new AbortController().signal) => {
      if (!(await claim(id))) return "not mine" as const;
      const hooks: RunHooks = { signal, onOutput: () => {} };
      return await host.run(id, () => driver.openSession(), taskOf(code), hooks);
    };
    return { host, driver, leases, claim, run };
  };
  return {
    clock,
    store,
    sessions,
    call,
    worker,
    errors,
    context,
    state: (id: string) => store.transact((tx) => readSession(tx, id)),
  };
}

function taskOf(code: string): SandboxTask {
  const environment = BUILTIN_ENVIRONMENTS.find(({ name }) => name === "javascript");
  if (!environment) throw new Error("javascript is there from the start");
  const { runtime, limits, env, network, mounts, packages, options } = environment;
  const input = { runId: "run", code, args: [], stdin: new Uint8Array(), files: [] };
  return { ...input, runtime, limits, env, network, mounts, packages, options };
}

describe("a session", () => {
  test("keeps what its tasks made, apart from every other's", async () => {
    verifies("EXEC-13");
    const { sessions, call, worker } = swarm();
    const [first, second] = [worker("w1"), worker("w2")];
    const a = await sessions.start(call("ada"), { environment: "javascript" });
    const b = await sessions.start(call("bob"), { environment: "javascript" });
    await first.run(a.id, "set x 42");
    expect(await first.run(b.id, "get x")).toMatchObject({ value: null });
    expect(await first.run(a.id, "get x")).toMatchObject({ value: "42" });
    expect(first.driver.open).toBe(2);
    expect(await second.run(a.id, "get x")).toBe("not mine");
    expect(second.driver.open).toBe(0);
  });

  test("is for the very agent that began it: no other, no subagent, no parent", async () => {
    verifies("EXEC-13");
    const { sessions, call, store } = swarm();
    const { id } = await sessions.start(call("ada/one"), { environment: "javascript" });
    const use = (agentId: string) => store.transact((tx) => usableSession(tx, id, agentId).id);
    expect(await use("ada/one")).toBe(id);
    for (const other of ["ada", "ada/two", "bob"]) {
      await expect(use(other)).rejects.toMatchObject({ code: "permission_denied" });
      await expect(sessions.end(call(other), { sessionId: id })).rejects.toMatchObject({ code: "permission_denied" });
      expect((await sessions.list(call(other), {})).sessions).toEqual([]);
    }
  });

  test("is over when its time is up, on the worker as well, to the ms and whether or not a job has come by", async () => {
    verifies("EXEC-13");
    const { clock, sessions, call, worker, store, state } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript", ttlMs: 20_000 });
    const running = one.run(id, "hang");
    await clock.advance(19_999);
    expect(one.driver.open).toBe(1);
    await store.transact((tx) => usableSession(tx, id, "ada"));
    await clock.advance(1);
    expect(await running).toMatchObject({ ending: { kind: "killed" } });
    expect(one.driver.open).toBe(0);
    expect(one.host.ids()).toEqual([]);
    await expect(store.transact((tx) => usableSession(tx, id, "ada"))).rejects.toThrow(/its time was up/);
    await Promise.all(sessions.jobs().map((job) => job.run()));
    expect(await state(id)).toMatchObject({ over: { because: "expired" } });
  });

  test("whose time was up is expired, whoever comes first to write its end", async () => {
    const { clock, store, sessions, call, worker, state } = swarm();
    const { id } = await sessions.start(call("ada"), { environment: "javascript", ttlMs: 1_000 });
    await worker("w1").claim(id);
    await clock.advance(1_000);
    await store.transact((tx) => sessions.letGo(tx, id, "w1"));
    expect(await state(id)).toMatchObject({ over: { because: "expired" } });
  });

  test("that is ended is closed where it is held at once, and its tasks are lost once", async () => {
    const { clock, sessions, call, worker, state } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await one.run(id, "set x 1");
    await sessions.end(call("ada"), { sessionId: id });
    await sessions.end(call("ada"), { sessionId: id });
    await clock.advance(0);
    expect(one.driver.open).toBe(0);
    expect(await state(id)).toMatchObject({ over: { because: "ended" } });
    expect(await one.claim(id)).toBe(false);
  });

  test("lives as long as its worker renews it, and is lost with the worker's lease", async () => {
    verifies("EXEC-13");
    const { clock, sessions, call, worker, state } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await one.run(id, "set x 1");
    await clock.advance(10 * LEASE_MS);
    await Promise.all(sessions.jobs().map((job) => job.run()));
    expect((await state(id))?.over).toBeUndefined();
    const { id: orphan } = await sessions.start(call("ada"), { environment: "javascript" });
    const dead = worker("w2");
    await dead.claim(orphan); // and died: nothing renews it
    await clock.advance(LEASE_MS);
    await Promise.all(sessions.jobs().map((job) => job.run()));
    expect(await state(orphan)).toMatchObject({ over: { because: "worker_lost" } });
    expect(await one.claim(orphan)).toBe(false);
  });

  test("a worker whose lease on it was lost while it was paused closes its sandbox", async () => {
    const { clock, sessions, call, worker, store } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await one.run(id, "set x 1");
    await store.transact((tx) => sessions.letGo(tx, id, "w1")); // as the job does it once the lease is over
    await clock.advance(LEASE_MS);
    expect(one.driver.open).toBe(0);
  });

  test("of a worker that stops is over at once", async () => {
    const { sessions, call, worker, state } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await one.run(id, "set x 1");
    await one.host.close();
    await one.leases.releaseAll();
    expect(one.driver.open).toBe(0);
    expect(await state(id)).toMatchObject({ over: { because: "worker_lost" } });
  });

  test.each(["limit memoryMiB", "hang"])("loses its sandbox with a run that was killed (%s)", async (code) => {
    const { clock, sessions, call, worker, store, state, context } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await one.run(id, "set x 1");
    const kill = new AbortController();
    const running = one.run(id, code, kill.signal);
    await clock.advance(0);
    kill.abort();
    await running;
    await clock.advance(0);
    expect(one.driver.open).toBe(0);
    expect((await state(id))?.over).toBeUndefined(); // until the commit that records the run's end
    await store.transact((tx) => inExecutions(tx, context, (executions) => endSession(executions, id, "limit")));
    expect(await state(id)).toMatchObject({ over: { because: "limit" } });
  });

  test("whose sandbox is found dead says so to whoever runs its task", async () => {
    const { clock, sessions, call, worker, errors } = swarm();
    const one = worker("w1");
    const { id } = await sessions.start(call("ada"), { environment: "javascript" });
    await expect(one.run(id, "die")).rejects.toMatchObject({ code: "unavailable" });
    await clock.advance(0);
    expect(one.driver.open).toBe(0);
    expect(errors).toEqual([]);
  });

  test("is one of so many that an agent may have open, and an ended one makes room", async () => {
    const { sessions, call } = swarm();
    const started = [];
    for (let n = 0; n < SESSIONS_PER_AGENT_MAX; n++)
      started.push(await sessions.start(call("ada"), { environment: "javascript" }));
    await expect(sessions.start(call("ada"), { environment: "javascript" })).rejects.toMatchObject({ code: "limit_exceeded" });
    await sessions.start(call("bob"), { environment: "javascript" });
    await sessions.end(call("ada"), { sessionId: started[3]?.id ?? "" });
    await sessions.start(call("ada"), { environment: "javascript" });
  });

  test.each([
    { what: "an environment that is not there", input: { environment: "cobol" }, code: "not_found" },
    { what: "one that keeps nothing", input: { environment: "mcp" }, code: "failed_precondition" },
    { what: "a time too short", input: { environment: "javascript", ttlMs: 999 }, code: "invalid_argument" },
    { what: "a time too long", input: { environment: "javascript", ttlMs: 8 * 3_600_000 + 1 }, code: "invalid_argument" },
  ])("cannot be begun with $what", async ({ input, code }) => {
    const { sessions, call } = swarm();
    await expect(sessions.start(call("ada"), input)).rejects.toMatchObject({ code });
    expect((await sessions.list(call("ada"), {})).sessions).toEqual([]);
  });

  test("is one of so many that a worker holds; it tells when it has no more room, and when it has again", async () => {
    verifies("EXEC-13");
    const { clock, sessions, call, worker } = swarm();
    const one = worker("w1");
    const told: boolean[] = [];
    using _watch = one.host.onRoom(() => told.push(one.host.hasRoom));
    const ids: string[] = [];
    for (let at = 0; at < SESSIONS_PER_WORKER_MAX; at++) {
      expect(told).toEqual([]);
      const { id } = await sessions.start(call(`agent-${at}`), { environment: "javascript" });
      await one.run(id, "set x 1");
      ids.push(id);
    }
    expect(told).toEqual([false]);
    await sessions.end(call("agent-3"), { sessionId: ids[3] ?? "" });
    await clock.advance(100);
    expect(told).toEqual([false, true]);
  });

  test("is listed page by page, the latest first, and forgotten a day after it was over", async () => {
    const { clock, sessions, call } = swarm();
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) {
      ids.unshift((await sessions.start(call("ada"), { environment: "javascript" })).id);
      await clock.advance(1);
    }
    const first = await sessions.list(call("ada"), { limit: 3 });
    const second = await sessions.list(call("ada"), { limit: 3, cursor: first.nextCursor });
    expect([...first.sessions, ...second.sessions].map(({ id }) => id)).toEqual(ids);
    expect(second.nextCursor).toBeUndefined();
    await sessions.end(call("ada"), { sessionId: ids[0] ?? "" });
    await clock.advance(24 * 3_600_000);
    expect((await sessions.list(call("ada"), {})).sessions.map(({ id }) => id)).toEqual(ids.slice(1));
    await expect(sessions.end(call("ada"), { sessionId: ids[0] ?? "" })).rejects.toMatchObject({ code: "not_found" });
  });
});
