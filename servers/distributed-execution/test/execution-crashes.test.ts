/** Workers whose store fails them, or who die, at each of the operations that they do in turn: between any two commits. */
import { LeaseKeeper, SequenceSource } from "@mcp-swarm/coordination";
import { type Clock, manualClock, seededRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Batches } from "../src/batches.ts";
import { Environments } from "../src/environments.ts";
import { executionJobs } from "../src/execution-jobs.ts";
import type { ExecutionContext } from "../src/execution-layer.ts";
import { hasEnded } from "../src/execution-record.ts";
import { ExecutionWork } from "../src/execution-work.ts";
import { Executions } from "../src/executions.ts";
import { NO_OPERATOR_FILE } from "../src/operator-file.ts";
import { endSession } from "../src/session-ending.ts";
import type { SessionRecord } from "../src/session-layer.ts";
import { Sessions } from "../src/sessions.ts";
import { Workplace } from "../src/worker/workplace.ts";
import { everyRow, executionCensus } from "./support/execution-census.ts";
import { FAULTS, type Fault, failingStore } from "./support/failing-store.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { maintain } from "./support/queue-swarm.ts";

const LEASE_MS = 9_000;
/** How long the store is away, s: shorter than a lease, so that it can be renewed in time, and longer. */
const AWAY_SECONDS = [4, 20];
/** After so long on the test's clock nothing may be open: leases, pauses between attempts and retries lie far within. */
const SECONDS_MAX = 180;
/** More than the program's worker does; each run of it is one step of the test. */
const OPERATIONS_MAX = 400;

const LONG_OUTPUT = `say ${"x".repeat(9_000)}`;

/** Everything that workers do, with one that fails at its operation `at`. */
async function work(fault: Fault, at: number, awaySeconds = 0) {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const context: ExecutionContext = { environments: new Environments({ clock }), endSession };
  const random = seededRandom(7);
  const own = { store, clock, random, context, sequence: new SequenceSource(random) };
  const [executions, batches, sessions] = [new Executions(own), new Batches(own), new Sessions(own)];
  const jobs = [...sessions.jobs(), ...executionJobs({ store, context })];
  const call = plainCall(store, { agentId: "ada", verified: false, processId: "p" });

  async function worker(workerId: string, failing: ReturnType<typeof failingStore>, time: Clock, seed: number) {
    const driver = new FakeDriver();
    const chance = seededRandom(seed);
    const onError = () => {}; // it fails by design
    const leases = new LeaseKeeper({ store: failing.store, clock: time, leaseMs: LEASE_MS, onError });
    const source = new ExecutionWork({
      ...{ store: failing.store, context, clock: time, random: chance, keeper: leases, leaseMs: LEASE_MS, onError },
    });
    const place = new Workplace({
      ...{ workerId, store: failing.store, clock: time, leaseMs: LEASE_MS, leases, source, onError },
      ...{ environments: new Environments({ clock: time }), operator: NO_OPERATOR_FILE },
      settings: { kind: "worker", labels: [], slots: 2, environments: ["javascript"] },
      letGo: (tx, id, by) => sessions.letGo(tx, id, by),
      mayRun: () => true,
      loaders: { quickjs: async () => () => driver },
    });
    place.lookAtAll().catch(() => {}); // what waits brings another look
    place.start().catch(() => {});
    await clock.advance(0);
    return { driver, stop: () => Promise.all([place.stop(), leases.releaseAll()]) };
  }

  let dead = false;
  let bury = () => {};
  const buried = new Promise<void>((resolve) => {
    bury = resolve;
  });
  const mortal: Clock = {
    now: () => clock.now(),
    timer: (delayMs, fire) =>
      clock.timer(delayMs, () => {
        if (!dead) fire();
      }),
  };
  const failing = failingStore(store, fault, at, () => {
    dead = true;
    bury();
  });
  const first = await worker("first", failing, mortal, 11);

  const file = { path: "in.txt", text: "given" };
  const submit = async (code: string, more: { sessionId?: string } = {}) =>
    (await executions.submit(call, { code, environment: "javascript", files: [file], ...more })).task.id;
  const plain = [await submit(`${LONG_OUTPUT}\nfile a.txt made`), await submit("cat in.txt"), await submit("exit 3")];
  await batches.submit(call, {
    tasks: [
      { key: "makes", code: "file b.txt made" },
      { key: "takes", code: "cat b.txt", files: [{ path: "b.txt", from: "makes" }] },
      { key: "third", code: "say third" },
    ],
    defaults: { environment: "javascript" },
    maxConcurrency: 1,
  });
  const { id: sessionId } = await sessions.start(call, { environment: "javascript" });
  const kept = [await submit("set x 1", { sessionId }), await submit("get x", { sessionId })];
  const hanging = await submit("hang");
  let second: Awaited<ReturnType<typeof worker>> | undefined;
  let failedAt: number | undefined;
  let open: string[] = [];
  for (let tick = 0; tick < SECONDS_MAX; tick++) {
    await clock.advance(1_000);
    await maintain(jobs);
    if (tick === 2) await executions.cancel(call, { taskId: hanging }).catch(() => {});
    if (failing.failed()) failedAt ??= tick;
    if (failedAt !== undefined && tick - failedAt >= awaySeconds) failing.back();
    if (dead) second ??= await worker("second", failingStore(store, fault), clock, 12);
    const { records, problems } = await store.snapshot(executionCensus);
    expect(problems, `second ${tick}`).toEqual([]);
    open = [...records.values()].flatMap(({ id, status }) => (hasEnded(status) ? [] : [`${id} is ${status}`]));
    if (open.length === 0) break;
  }
  const operations = failing.count();
  const { records } = await store.snapshot(executionCensus);
  const session = (await store.get(`exec-session/${sessionId}`))?.value as SessionRecord | undefined;
  const begun = [...first.driver.begun, ...(second?.driver.begun ?? [])];
  if (!dead) await Promise.race([first.stop(), buried]);
  await second?.stop();
  await sessions.end(call, { sessionId });
  const members = [...records.values()].filter(({ batchId }) => batchId !== undefined).sort((a, b) => (a.seq < b.seq ? -1 : 1));
  return {
    ...{ open, operations, records, session, begun, plain, kept, hanging, store, members: members.map(({ id }) => id) },
    failed: failing.failed(),
  };
}

async function check(fault: Fault, at: number, awaySeconds?: number): Promise<Awaited<ReturnType<typeof work>>> {
  const where = `${fault}, operation ${at}${awaySeconds === undefined ? "" : `, for ${awaySeconds} s`}`;
  const came = await work(fault, at, awaySeconds).catch((error: unknown) => {
    throw new Error(`It fails: ${where}`, { cause: error });
  });
  const { records, begun, session } = came;
  const outcome = (id: string) => {
    const record = records.get(id);
    return { status: record?.status, failure: record?.failure, value: record?.result?.value };
  };
  expect(came.open, `nothing is lost: ${where}`).toEqual([]);
  // the same attempt is never begun twice, and no more of them than the record counts
  expect(new Set(begun).size, where).toBe(begun.length);
  for (const { id, attempt, spent } of records.values()) {
    expect(begun.filter((run) => run.startsWith(`${id}-`)).length, where).toBeLessThanOrEqual(attempt);
    expect(spent, where).toBeLessThanOrEqual(1);
  }
  expect(
    came.plain.map((id) => outcome(id).status),
    where,
  ).toEqual(["succeeded", "succeeded", "failed"]);
  expect(outcome(came.plain[1] ?? "").value, where).toBe("given");
  expect(
    came.members.map((id) => outcome(id).status),
    where,
  ).toEqual(["succeeded", "succeeded", "succeeded"]);
  expect(outcome(came.members[1] ?? "").value, where).toBe("made");
  expect(outcome(came.hanging).status, where).toBe("cancelled");
  // what a session keeps is there, or the task says that it is lost
  const [set, get] = came.kept.map(outcome);
  if (get?.status === "succeeded") expect([set?.status, get.value], where).toEqual(["succeeded", "1"]);
  else expect([get?.failure, session?.over !== undefined], where).toEqual(["session_lost", true]);
  // leases and orders to kill go with what they are about
  for (const namespace of ["exec-lease", "exec-cancel", "exec-session-lease"]) {
    expect(await everyRow(came.store, namespace), where).toEqual([]);
  }
  return came;
}

test.each(FAULTS.filter((fault) => fault !== "away"))(
  "a worker that is %s at any of its operations loses nothing, and leaves nothing behind",
  async (fault) => {
    verifies("EXEC-09", "EXEC-10", "EXEC-13");
    let at = 1;
    while (at <= OPERATIONS_MAX && (await check(fault, at)).failed) at++;
    expect(at).toBeGreaterThan(50); // so many there are at least
    expect(at).toBeLessThan(OPERATIONS_MAX);
  },
);

test.each(AWAY_SECONDS)("a store that is away for %i s at any moment of a worker costs no task", async (seconds) => {
  verifies("EXEC-09", "EXEC-10", "EXEC-13");
  let at = 1;
  while (at <= OPERATIONS_MAX && (await check("away", at, seconds)).failed) at++;
  expect(at).toBeGreaterThan(50);
  expect(at).toBeLessThan(OPERATIONS_MAX);
});
