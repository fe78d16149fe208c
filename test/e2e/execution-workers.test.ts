/**
 * Workers on their own: processes that do nothing but run code, on machines that share a store. Their sandboxes are bubblewrap's; without
 * it these tests fail and say what to install.
 */
import { randomBytes } from "node:crypto";
import { openStore } from "@mcp-swarm/store";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { stop } from "../faults/stop.ts";
import { verifies } from "../requirements.ts";
import { isAlive, runBin } from "../support/bin.ts";
import { eventually, Host, type HostOptions, temporaryFolder } from "../support/host.ts";
import { ownNetwork } from "../support/own-network.ts";
import { freshDatabase } from "../support/postgres.ts";
import { SecuredSwarm } from "../support/secured.ts";
import { descendantsOf, processesWith, stillThere, type WorkerOptions, WorkerProcess } from "../support/workers.ts";

const SERVER = "distributed-execution";
/** Long enough that a busy machine does not cost a living worker its lease. */
const LEASE_MS = 3_000;
/** So long that within a test only giving back frees anything. */
const LONG_LEASE_MS = 600_000;
const WAIT_MS = 40_000;
/** How soon nothing may be left of a sandbox whose worker is gone, or whose task was cancelled. */
const DEAD_MS_MAX = 2_000;

interface Answer {
  task: { id: string; status: string; attempt: number; workerId?: string; because?: string; waits?: string };
  result?: { exitCode?: number; stdout: string; stderr: string; ended: string };
}

/** A host whose server hands over and reads, and runs nothing itself. */
async function asking(store: string, more: HostOptions = {}): Promise<Host> {
  const { env = {}, ...rest } = more;
  return await Host.start({ server: SERVER, agent: "asker", store, env: { SWARM_EXEC_SLOTS: "0", ...env }, ...rest });
}

/** A worker that offers bash alone, unless its arguments say otherwise: trying the others takes its time. */
async function working({ args = [], ...more }: WorkerOptions): Promise<WorkerProcess> {
  const only = args.includes("--environments") ? [] : ["--environments", "bash"];
  return await WorkerProcess.start({ ...more, args: [...only, ...args] });
}

const submit = (host: Host, code: string, more: Record<string, unknown> = {}) =>
  host.call<Answer>("submit_task", { environment: "bash", code, ...more });
const resultOf = (host: Host, { task }: Answer) => host.call<Answer>("get_result", { taskId: task.id, waitMs: WAIT_MS });

/** Text that nothing else on this machine has in its command line. */
const freshMarker = () => `swarm-${randomBytes(8).toString("hex")}`;

/** Code that does all it can to live on: it ignores signals, leaves its session, and keeps a processor busy. */
const STUBBORN = `
trap '' TERM INT HUP QUIT
setsid bash -c "trap '' TERM INT HUP; exec -a $1-setsid sleep 100000" &
bash -c "exec -a $1-busy bash -c 'while :; do :; done'" &
echo begun
exec -a $1-main sleep 100000
`;

async function stubborn(host: Host, more: Record<string, unknown> = {}): Promise<Answer & { marker: string }> {
  const marker = freshMarker();
  const answer = await submit(host, STUBBORN, { args: [marker], timeout: 120_000, ...more });
  await eventually("all of the code runs", () => processesWith(`${marker}-`).length >= 3);
  return { ...answer, marker };
}

const isGone = (what: string, marker: string) => eventually(what, () => processesWith(marker).length === 0, DEAD_MS_MAX);

beforeAll(async () => {
  using folder = temporaryFolder();
  await using worker = await working({ store: folder.store });
  await eventually("the worker says what it runs", () => /^ {2}bash: /m.test(worker.stderr));
  if (!/^ {2}bash: bwrap$/m.test(worker.stderr)) {
    throw new Error(`These tests need bubblewrap (on Debian: apt-get install bubblewrap). The worker says:\n${worker.stderr}`);
  }
});

describe.each(ENGINES)("workers on $name", ({ meet }) => {
  test("kill -9 of a worker costs an attempt: another runs the task, and nothing of the first sandbox is left", async () => {
    verifies("EXEC-07", "EXEC-09", "EXEC-10");
    using meeting = await meet();
    const { store } = meeting;
    await using host = await asking(store, { env: { SWARM_LEASE_MS: String(LEASE_MS) } });
    const first = await working({ store, leaseMs: LEASE_MS });
    const run = await stubborn(host);
    const before = await host.call<Answer>("get_result", { taskId: run.task.id });
    expect(before.task).toMatchObject({ status: "running", attempt: 1, workerId: first.id });
    const processes = descendantsOf(first.pid);
    expect(processes.length).toBeGreaterThanOrEqual(3);
    await first.kill();
    await isGone("the killed worker's sandbox is dead", run.marker);
    await eventually("all that it had started is dead", () => stillThere(processes).length === 0, DEAD_MS_MAX);

    await using second = await working({ store, leaseMs: LEASE_MS });
    const again = await eventually("the other runs it", async () => {
      const { task } = await host.call<Answer>("get_result", { taskId: run.task.id });
      return task.status === "running" && task.attempt === 2 ? task : undefined;
    });
    expect(again.workerId).toBe(second.id);
    await host.call("cancel_task", { taskId: run.task.id, waitMs: WAIT_MS });
    await isGone("the second sandbox is dead too", run.marker);
  });

  test("what a task writes can be followed from another process while it runs, in order and to its end", async () => {
    verifies("EXEC-02");
    using meeting = await meet();
    await using host = await asking(meeting.store);
    await using _worker = await working({ store: meeting.store });
    const { task } = await submit(host, "echo one; sleep 2; echo two >&2; sleep 2; echo three");
    interface Followed {
      status: string;
      parts: { stream: string; text: string }[];
      next: string;
      ended: boolean;
    }
    const heard: { status: string; stream: string; text: string }[] = [];
    let after: string | undefined;
    for (let looks = 0; looks < 20; looks++) {
      const position = after === undefined ? {} : { after };
      const followed = await host.call<Followed>("get_output", { taskId: task.id, waitMs: WAIT_MS, ...position });
      heard.push(...followed.parts.map((part) => ({ ...part, status: followed.status })));
      after = followed.next;
      if (followed.ended) break;
    }
    expect(heard.map(({ stream, text }) => [stream, text])).toEqual([
      ["stdout", "one\n"],
      ["stderr", "two\n"],
      ["stdout", "three\n"],
    ]);
    expect(heard.slice(0, 2).map(({ status }) => status)).toEqual(["running", "running"]);
  });

  test("a cancelled task is dead at once, with all that it started", async () => {
    verifies("EXEC-07", "EXEC-09");
    using meeting = await meet();
    await using host = await asking(meeting.store);
    await using worker = await working({ store: meeting.store });
    const run = await stubborn(host);
    const cancelled = host.call<Answer>("cancel_task", { taskId: run.task.id, waitMs: WAIT_MS });
    await isGone("the sandbox is dead", run.marker);
    expect((await cancelled).task).toMatchObject({ status: "cancelled", attempt: 1 });
    expect((await cancelled).result?.stdout).toBe("begun\n");
    expect(isAlive(worker.pid)).toBe(true);
    expect((await submit(host, "echo next", { waitMs: WAIT_MS })).result?.stdout).toBe("next\n");
  });

  test.each(["SIGTERM", "SIGINT"] as const)("%s ends a worker within 2 s, and its runs are another's at once", async (signal) => {
    verifies("CORE-07", "EXEC-09", "EXEC-10");
    using meeting = await meet();
    const { store } = meeting;
    await using host = await asking(store);
    const first = await working({ store, leaseMs: LONG_LEASE_MS });
    const run = await stubborn(host, { maxAttempts: 1 });
    const processes = descendantsOf(first.pid);
    const { pid } = first;
    first.signal(signal);
    await eventually("the worker is gone", () => !isAlive(pid), DEAD_MS_MAX);
    await isGone("its sandbox is dead", run.marker);
    expect(stillThere(processes)).toEqual([]);
    // it costs no attempt: this one had but one, and the next is number 2
    const { task } = await host.call<Answer>("get_result", { taskId: run.task.id });
    expect(task).toMatchObject({ status: "queued", attempt: 1 });
    expect(await host.call("list_workers")).toMatchObject({ workers: [] });
    await using second = await working({ store, leaseMs: LONG_LEASE_MS });
    await eventually("the other runs it", () => processesWith(`${run.marker}-`).length >= 3);
    expect((await host.call<Answer>("get_result", { taskId: run.task.id })).task).toMatchObject({
      ...{ status: "running", attempt: 2, workerId: second.id },
    });
    await host.call("cancel_task", { taskId: run.task.id, waitMs: WAIT_MS });
    expect(await first.end()).toBe(0);
  });

  test("a worker that slept past its lease kills what it ran when it wakes, and changes nothing of what another did", async () => {
    verifies("EXEC-09", "EXEC-10");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using host = await asking(meeting.store, { env: { SWARM_LEASE_MS: String(LEASE_MS) } });
    await using sleeper = await working({ store: meeting.store, leaseMs: LEASE_MS });
    const marker = freshMarker();
    const code = `echo "by $1"; exec -a ${marker} sleep "$2"`;
    const { task } = await submit(host, code, { args: ["whoever", "8"], timeout: 60_000 });
    await eventually("it runs", () => processesWith(marker).length > 0);
    await stop(sleeper.pid, store);
    await using heir = await working({ store: meeting.store, leaseMs: LEASE_MS });
    const taken = await eventually("the heir runs it", async () => {
      const answer = await host.call<Answer>("get_result", { taskId: task.id });
      return answer.task.attempt === 2 ? answer.task : undefined;
    });
    expect(taken.workerId).toBe(heir.id);
    await eventually("the heir's sandbox is there", () => processesWith(marker).length > 1);
    const [own] = descendantsOf(sleeper.pid);
    sleeper.signal("SIGCONT");
    await eventually("the sleeper has killed its sandbox", () =>
      stillThere(descendantsOf(sleeper.pid)).every((one) => one === own),
    );
    const { task: ended, result } = await host.call<Answer>("get_result", { taskId: task.id, waitMs: WAIT_MS });
    expect(ended).toMatchObject({ status: "succeeded", attempt: 2, workerId: heir.id });
    expect(result).toMatchObject({ exitCode: 0, stdout: "by whoever\n" });
    // what the sleeper had to say came before the end or comes now: it changes nothing
    expect((await submit(host, "echo on", { waitMs: WAIT_MS })).result?.stdout).toBe("on\n");
    expect((await host.call<Answer>("get_result", { taskId: task.id })).task).toEqual(ended);
    await store.close();
  });

  test("what a task asks for decides who runs it: labels, architecture, environments", async () => {
    verifies("EXEC-10");
    using meeting = await meet();
    const { store } = meeting;
    await using host = await asking(store);
    await using plain = await working({ store, args: ["--environments", "bash,python3", "--name", "plain"] });
    await using special = await working({ store, args: ["--labels", "gpu,eu", "--environments", "bash"] });
    const { workers } = await host.call<{ workers: { id: string; labels: string[]; environments: string[]; arch: string }[] }>(
      "list_workers",
    );
    expect(new Map(workers.map(({ id, ...row }) => [id, row]))).toEqual(
      new Map([
        [plain.id, expect.objectContaining({ name: "plain", labels: [], arch: process.arch, kind: "worker", slots: 2 })],
        [special.id, expect.objectContaining({ labels: ["eu", "gpu"], arch: process.arch })],
      ]),
    );
    for (let n = 0; n < 4; n++) {
      const { task } = await submit(host, "true", { requires: { labels: ["gpu"], arch: process.arch }, waitMs: WAIT_MS });
      expect(task).toMatchObject({ status: "succeeded", workerId: special.id });
      const python = { environment: "python3", waitMs: WAIT_MS };
      expect((await submit(host, "print(1)", python)).task).toMatchObject({ status: "succeeded", workerId: plain.id });
    }
    const foreign = await submit(host, "true", { requires: { arch: "riscv64" }, queueTimeout: 1_500, waitMs: WAIT_MS });
    expect(foreign.task).toMatchObject({ status: "expired", attempt: 0 });
  });

  test("results are there when every worker and every server that had to do with them is gone", async () => {
    verifies("EXEC-02", "EXEC-10");
    using meeting = await meet();
    const { store } = meeting;
    const host = await asking(store);
    const worker = await working({ store });
    const code = 'echo out; echo err >&2; mkdir -p out; printf "%s" "$1" > out/kept.txt; exit 3';
    const { task } = await submit(host, code, { args: ["artifact"] });
    await resultOf(host, { task } as Answer);
    const waiting = await submit(host, "echo later", { requires: { labels: ["none-yet"] } });
    await Promise.all([worker.kill(), host.kill()]);
    await using other = await asking(store, { agent: "another" });
    const { result, task: ended } = await other.call<Answer & { result: { files: { artifactId: string }[] } }>("get_result", {
      taskId: task.id,
    });
    expect(ended).toMatchObject({ status: "failed", attempt: 1 });
    expect(result).toMatchObject({ exitCode: 3, stdout: "out\n", stderr: "err\n", files: [{ path: "kept.txt" }] });
    const file = await other.call("get_artifact", { artifactId: result.files[0]?.artifactId });
    expect(JSON.stringify(file)).toContain(`"text":"artifact"`);
    await using late = await working({ store, args: ["--labels", "none-yet"] });
    expect(await resultOf(other, waiting)).toMatchObject({ task: { status: "succeeded", workerId: late.id } });
  });
});

test("of two workers on networks of their own one is cut off: that costs time, and nothing is run to two ends", async () => {
  verifies("EXEC-09", "EXEC-10");
  const store = await freshDatabase(inject("postgresUrl"));
  await using here = await ownNetwork(store);
  await using there = await ownNetwork(store);
  await using host = await asking(store, { env: { SWARM_LEASE_MS: String(LEASE_MS) } });
  await using one = await working({ store, leaseMs: LEASE_MS, network: here });
  await using two = await working({ store, leaseMs: LEASE_MS, network: there });
  const ids = [one.id, two.id];
  const workersOf = async (answers: Answer[]) => {
    const done = await Promise.all(answers.map((answer) => resultOf(host, answer)));
    expect(done.map(({ task }) => task.status)).toEqual(answers.map(() => "succeeded"));
    return done.map(({ task }) => task.workerId ?? "");
  };
  const shared = await Promise.all(Array.from({ length: 8 }, () => submit(host, "sleep 0.3")));
  expect(new Set(await workersOf(shared))).toEqual(new Set(ids));

  const marker = freshMarker();
  const runs = await Promise.all(
    Array.from({ length: 4 }, (_, n) =>
      submit(host, `echo $1; exec -a ${marker}-$1 sleep 10`, { args: [`run-${n}`], timeout: 60_000 }),
    ),
  );
  const running = () => Promise.all(runs.map(({ task }) => host.call<Answer>("get_result", { taskId: task.id })));
  const begun = await eventually("both work", async () => {
    const answers = await running();
    return answers.every(({ task }) => task.status === "running") ? answers : undefined;
  });
  const lost = begun.filter(({ task }) => task.workerId === one.id);
  expect(lost).toHaveLength(2);
  await eventually("all have begun", () => processesWith(`${marker}-`).length >= 4);
  const sandboxes = descendantsOf(one.pid);
  const livesOf = (of: string[]) => stillThere(of).length;
  await here.cut();
  // nobody tells it: by its own clock it finds that its lease may be over, before the runs would have come to their end
  await eventually(
    "the one that is cut off has killed its sandboxes",
    () => livesOf(sandboxes) <= 1 && livesOf(sandboxes) < sandboxes.length,
    2 * LEASE_MS,
  );
  expect(isAlive(one.pid)).toBe(true);
  for (const { task } of lost) {
    const { task: ended, result } = await resultOf(host, { task });
    expect(ended).toMatchObject({ status: "succeeded", workerId: two.id, attempt: 2 });
    expect(result?.stdout).toMatch(/^run-\d\n$/);
  }
  for (const { task } of begun) expect((await resultOf(host, { task })).task.status).toBe("succeeded");
  await here.mend();
  const ends = await running();
  const more = await eventually("the one that was cut off works again", async () => {
    const answers = await Promise.all(Array.from({ length: 4 }, () => submit(host, "sleep 0.3")));
    return (await workersOf(answers)).includes(one.id);
  });
  expect(more).toBe(true);
  expect(await running()).toEqual(ends); // what it still had to say of the runs that it lost was refused
  expect(here.isNamespace).toBe(there.isNamespace);
});

describe("a worker of a secured swarm", () => {
  test("runs what policy lets its agent run, and stops, gives back and says why when it is revoked", async () => {
    verifies("EXEC-10", "SEC-06");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure({ store: folder.store });
    for (const agent of ["asker", "runner", "heir"]) await swarm.enroll(agent);
    await swarm.enroll("watcher", { roles: ["observer"] });
    const env = (agent: string) => ({ SWARM_KEY_FILE: swarm.keyFile(agent) });
    const store = swarm.url;
    await using host = await Host.start({ server: SERVER, store, env: { SWARM_EXEC_SLOTS: "0", ...env("asker") } });
    await using idle = await working({ store, env: env("watcher") }); // may read, not run
    const unserved = await submit(host, "true", { queueTimeout: 2_000, waitMs: WAIT_MS });
    expect(unserved.task).toMatchObject({ status: "expired", attempt: 0 });
    expect(isAlive(idle.pid)).toBe(true);

    await using runner = await working({ store, leaseMs: LONG_LEASE_MS, env: env("runner") });
    const canary = await submit(host, "env; cat /proc/*/environ | tr '\\0' '\\n'", { waitMs: WAIT_MS });
    expect(canary.task).toMatchObject({ status: expect.stringMatching(/succeeded|failed/), workerId: runner.id });
    expect(canary.result?.stdout).not.toMatch(/SWARM_|runner\.json|swarm\.db/);
    const run = await stubborn(host);
    await swarm.admin.revoke("runner");
    await isGoneWithin("the revoked worker's sandbox is dead", run.marker, 10_000);
    await eventually("it is given back", async () => {
      const { task } = await host.call<Answer>("get_result", { taskId: run.task.id });
      return task.status === "queued";
    });
    await eventually("it says why", () => /shut out/.test(runner.stderr));
    await using heir = await working({ store, env: env("heir") });
    await eventually("another runs it", () => processesWith(`${run.marker}-`).length >= 3);
    expect((await host.call<Answer>("get_result", { taskId: run.task.id })).task).toMatchObject({
      attempt: 2,
      workerId: heir.id,
    });
    await host.call("cancel_task", { taskId: run.task.id, waitMs: WAIT_MS });
  });

  test("does not start without keys", async () => {
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure({ store: folder.store });
    const { code, stderr } = await runBin(SERVER, ["worker"], { env: { SWARM_STORE: swarm.url } });
    expect([code, stderr.trim().split("\n").length]).toEqual([1, 1]);
    expect(stderr).toMatch(/secured/);
    expect(stderr).toMatch(/SWARM_KEY_FILE/);
  });
});

const isGoneWithin = (what: string, marker: string, ms: number) => eventually(what, () => processesWith(marker).length === 0, ms);

test("a worker that was started for some environments speaks of these alone, and of one that nobody has made", async () => {
  verifies("EXEC-10");
  using folder = temporaryFolder();
  await using worker = await working({ store: folder.store, args: ["--environments", "unmade,javascript"] });
  await eventually("it says what it runs", () => /unmade/.test(worker.stderr));
  expect(worker.stderr.match(/^ {2}.*$/gm)).toEqual([
    "  javascript: quickjs",
    "  unmade: there is no such environment now; it is offered when somebody has made it",
  ]);
});

test("what is wrong on a worker's command line is said in one line, and nothing is begun", async () => {
  verifies("CORE-13");
  using folder = temporaryFolder();
  const said = async (args: string[], env: Record<string, string> = {}) => {
    const { code, stdout, stderr } = await runBin(SERVER, ["worker", ...args], { env: { SWARM_STORE: folder.store, ...env } });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    return stderr;
  };
  expect(await said(["--slots", "0"])).toMatch(/^--slots takes a whole number from 1 to \d+\./);
  expect(await said(["--labels", "a,,b"])).toMatch(/^--labels takes names separated by commas\./);
  expect(await said(["--environments", "Bad Name"])).toMatch(/^--environments takes names/);
  expect(await said(["--name", "a/b"])).toMatch(/^--name takes a plain name\./);
  expect(await said([], { SWARM_STORE: "memory:" })).toMatch(/^A store in memory is no other process's\./);
  expect(await said([], { SWARM_EXEC_CONFIG: "/nowhere.json" })).toMatch(/^SWARM_EXEC_CONFIG names a file that cannot be read\./);
});
