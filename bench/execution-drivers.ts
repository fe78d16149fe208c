/**
 * What a task costs on a sandbox driver by itself, without queue and store: the first one, and tasks a second from then on, with one and
 * with two at once. Beside it a process of Node for each task, with no sandbox at all.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { newId, systemRandom } from "@mcp-swarm/core";
import { LIMITS_DEFAULT } from "../servers/distributed-execution/src/manifest.ts";
import type { Driver, SandboxTask } from "../servers/distributed-execution/src/sandbox/driver.ts";
import { openPyodideDriver } from "../servers/distributed-execution/src/sandbox/pyodide/driver.ts";
import { openQuickJs } from "../servers/distributed-execution/src/sandbox/quickjs/driver.ts";
import type { Options, Row } from "./row.ts";
import { contest, median, percentile, perSecond } from "./stats.ts";

/** Tasks of one round and side; rounds; how often a cold start is measured. */
const SIZES = {
  full: { tasks: 1_000, processes: 40, rounds: 5, starts: 9, pythons: 40 },
  quick: { tasks: 200, processes: 10, rounds: 2, starts: 3, pythons: 8 },
};
type Sizes = (typeof SIZES)["full"];
/** What the driver must leave to the queue, for which 300 a second is the goal. */
const PER_SECOND_MIN = 300;
/** A task in Python that finds an interpreter ready, and the pause after which it does, ms. */
const WARM_PYTHON_MS_MAX = 400;
const PYTHON_PAUSE_MS = 1_000;
const PYTHON_MEMORY_MIB = 512;

interface Subject {
  readonly what: string;
  readonly runtime: string;
  /** Of the n-th task, and the value it must have. */
  readonly code: (n: number) => string;
  readonly open: (slots: number) => Driver;
}

const SUBJECTS: readonly Subject[] = [
  { what: "JavaScript in QuickJS", runtime: "javascript", code: (n) => `${n} * 2`, open: openQuick },
  { what: "TypeScript in QuickJS", runtime: "typescript", code: (n) => `const n: number = ${n}; n * 2`, open: openQuick },
];

export async function executionDrivers({ quick }: Options): Promise<Row[]> {
  const sizes = quick ? SIZES.quick : SIZES.full;
  const rows: Row[] = [];
  for (const subject of SUBJECTS) {
    rows.push(await coldRow(subject, sizes));
    for (const width of [1, 2]) rows.push(await rateRow(subject, width, sizes));
  }
  return [...rows, ...(await pythonRows(sizes))];
}

/** An interpreter takes long to start and runs one task, so the next ones are started ahead: with pauses each task finds one ready. */
async function pythonRows({ pythons }: Sizes): Promise<Row[]> {
  const driver = openPyodideDriver({ slots: 2, onError: rethrow });
  const subject = { runtime: "python", code: (n: number) => `${n} * 2`, memoryMiB: PYTHON_MEMORY_MIB };
  const shown = (taken: readonly number[]) => `p50 ${median(taken).toFixed(0)} ms, p99 ${percentile(taken, 0.99).toFixed(0)} ms`;
  try {
    const first = await timed(() => runTask(driver, subject, 0));
    const [warm, following]: [number[], number[]] = [[], []];
    for (let n = 1; n <= pythons; n++) {
      await delay(PYTHON_PAUSE_MS);
      warm.push(await timed(() => runTask(driver, subject, n)));
    }
    for (let n = 1; n <= pythons; n++) following.push(await timed(() => runTask(driver, subject, n)));
    return [
      { what: "Python in Pyodide: first task", subject: `${first.toFixed(0)} ms`, note: "makes the snapshot" },
      {
        what: "Python in Pyodide: with an interpreter ready",
        subject: shown(warm),
        goal: { atMost: WARM_PYTHON_MS_MAX, value: median(warm) },
      },
      { what: "Python in Pyodide: one after another", subject: shown(following) },
    ];
  } finally {
    await driver.close();
  }
}

async function coldRow(subject: Subject, { starts }: Sizes): Promise<Row> {
  const [cold, bare]: [number[], number[]] = [[], []];
  for (let n = 0; n < starts; n++) {
    const driver = subject.open(1);
    cold.push(await timed(() => runTask(driver, subject, n)));
    await driver.close();
    bare.push(await timed(() => nodeTask(n)));
  }
  const [ours, control] = [median(cold), median(bare)];
  const shown = (ms: number) => `${ms.toFixed(0)} ms`;
  return { what: `${subject.what}: first task`, subject: shown(ours), control: shown(control), ratio: ours / control };
}

async function rateRow(subject: Subject, width: number, { tasks, processes, rounds }: Sizes): Promise<Row> {
  const driver = subject.open(width);
  try {
    const {
      subject: rate,
      control,
      ratio,
    } = await contest(rounds, {
      subject: () => rateOf(width, tasks, (n) => runTask(driver, subject, n)),
      control: () => rateOf(width, processes, nodeTask),
    });
    return {
      what: `${subject.what}: ${width} at once`,
      subject: perSecond(rate),
      control: perSecond(control),
      ratio,
      ...(width === 2 && subject.runtime === "javascript" ? { goal: { atLeast: PER_SECOND_MIN, value: rate } } : {}),
    };
  } finally {
    await driver.close();
  }
}

async function rateOf(width: number, count: number, run: (n: number) => Promise<void>): Promise<number> {
  let next = 0;
  const line = async (): Promise<void> => {
    while (next < count) await run(next++);
  };
  const took = await timed(async () => {
    await Promise.all(Array.from({ length: width }, line));
  });
  return (count / took) * 1_000;
}

async function timed(run: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** @throws Error when the task came to something else than it should */
async function runTask(
  driver: Driver,
  { runtime, code, memoryMiB = LIMITS_DEFAULT.memoryMiB }: Pick<Subject, "runtime" | "code"> & { memoryMiB?: number },
  n: number,
): Promise<void> {
  const task: SandboxTask = {
    runId: newId("bench", systemRandom),
    runtime,
    code: code(n),
    args: [],
    stdin: new Uint8Array(0),
    files: [],
    env: {},
    limits: { ...LIMITS_DEFAULT, memoryMiB },
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
  };
  const { ending, value } = await driver.run(task, { signal: new AbortController().signal, onOutput: () => {} });
  if (ending.kind !== "exit" || value !== 2 * n) throw new Error(`Task ${n} came to ${JSON.stringify({ ending, value })}`);
}

async function nodeTask(n: number): Promise<void> {
  const child = spawn(process.execPath, ["-p", `${n} * 2`], { stdio: ["ignore", "pipe", "ignore"], env: {} });
  let said = "";
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes.toString();
  });
  await once(child, "close");
  if (said !== `${2 * n}\n`) throw new Error(`Process ${n} printed ${JSON.stringify(said)}`);
}

function openQuick(slots: number): Driver {
  return openQuickJs({ slots, onError: rethrow });
}

function rethrow(error: unknown): never {
  throw error;
}
