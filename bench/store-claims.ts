/** What the store costs without MCP: claims by several processes on one SQLite file, against a raw queue in the same run. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openStore, ordered, type Store } from "@mcp-swarm/store";
import { type Claimed, claim, type Errand } from "./drivers/store-claimer.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { scratch } from "./servers.ts";
import { contest, median, perSecond } from "./stats.ts";

const PROCESSES = 4;
const CLAIMS = { full: 6_000, normal: 12_000 };
const ROUNDS = 5;
const GOAL = { full: 0.75, normal: 0.5 };
const FAIR = 0.6;

const IN_FLIGHT = 64;
const GROUP_GOAL = 6;

const SIZES = [100, 10_000, 1_000_000] as const;
/** Claims of which one size's time is the mean: with 100 tasks, so many stores' worth. */
const FLAT_CLAIMS = 2_000;
const FLAT = 1.3;

type Durability = Errand["durability"];

export async function storeClaims({ quick }: Options): Promise<Row[]> {
  return [
    ...(await againstRaw("full", quick)),
    ...(await againstRaw("normal", quick)),
    await groupCommit(quick),
    ...(await flatness(quick)),
  ];
}

/** Fills a new store with tasks that are ready. */
async function fill(store: Store, tasks: number): Promise<void> {
  const PAGE = 1_000;
  for (let start = 0; start < tasks; start += PAGE) {
    await store.transact((tx) => {
      for (let i = start; i < Math.min(start + PAGE, tasks); i++) {
        const id = `task-${String(i).padStart(12, "0")}`;
        tx.put(`task/${id}`, { id, title: `Task number ${i}`, input: "x".repeat(120), state: "ready", priority: 5 });
        tx.put(`ready/5/${ordered(i)}/${id}`, { id });
      }
    });
  }
}

async function makeQueue(side: Errand["side"], path: string, durability: Durability, tasks: number): Promise<void> {
  if (side === "store") {
    const store = await openStore(`sqlite:${path}`, { durability });
    await fill(store, tasks);
    await store.close();
    return;
  }
  const db = new DatabaseSync(path);
  db.exec(`PRAGMA journal_mode=WAL;
    CREATE TABLE queue(id INTEGER PRIMARY KEY, state TEXT NOT NULL, worker TEXT, payload TEXT NOT NULL);
    CREATE INDEX queue_ready ON queue(id) WHERE state = 'ready'; BEGIN;`);
  const insert = db.prepare("INSERT INTO queue(state, payload) VALUES('ready', ?)");
  for (let i = 0; i < tasks; i++) insert.run(JSON.stringify({ title: `Task number ${i}`, input: "x".repeat(120) }));
  db.exec("COMMIT");
  db.close();
}

interface Drained {
  perSecond: number;
  /** The share of the slowest worker over that of the fastest. */
  fairness: number;
}

/** Lets several processes claim until the queue is empty, and checks that each task was claimed once. */
async function drain(side: Errand["side"], durability: Durability, tasks: number): Promise<Drained> {
  using folder = scratch();
  const path = join(folder.path, "queue.db");
  await makeQueue(side, path, durability, tasks);
  const claimers = Array.from({ length: PROCESSES }, (_, at) => {
    const errand: Errand = { side, path, durability, worker: `worker-${at}` };
    return fork(join(import.meta.dirname, "drivers", "store-claimer.ts"), [JSON.stringify(errand)]);
  });
  await Promise.all(claimers.map((claimer) => once(claimer, "message")));
  const results = claimers.map(async (claimer) => (await once(claimer, "message"))[0] as Claimed);
  for (const claimer of claimers) claimer.send("go");
  const claimed = await Promise.all(results);
  const ids = claimed.flatMap((one) => one.ids);
  if (ids.length !== tasks || new Set(ids).size !== tasks) {
    throw new Error(`Of ${tasks} tasks ${new Set(ids).size} were claimed, in ${ids.length} claims`);
  }
  const ms = Math.max(...claimed.map((one) => one.endedAt)) - Math.min(...claimed.map((one) => one.startedAt));
  const shares = claimed.map((one) => one.ids.length);
  return { perSecond: (tasks * 1_000) / ms, fairness: Math.min(...shares) / Math.max(...shares) };
}

async function againstRaw(durability: Durability, quick: boolean): Promise<Row[]> {
  const tasks = quick ? CLAIMS[durability] / 3 : CLAIMS[durability];
  const fairness: number[] = [];
  const { subject, control, ratio } = await contest(quick ? 2 : ROUNDS, {
    async subject() {
      const drained = await drain("store", durability, tasks);
      fairness.push(drained.fairness);
      return drained.perSecond;
    },
    control: async () => (await drain("raw", durability, tasks)).perSecond,
  });
  const what = `store claims, ${PROCESSES} processes, ${durability} durability`;
  return [
    { what, subject: perSecond(subject), control: perSecond(control), ratio, goal: { atLeast: GOAL[durability] } },
    {
      what: `${what}: slowest worker over fastest`,
      subject: median(fairness).toFixed(2),
      ratio: median(fairness),
      goal: { atLeast: FAIR },
    },
  ];
}

/** Many transactions in flight in one process share a commit. */
async function groupCommit(quick: boolean): Promise<Row> {
  using folder = scratch();
  const store = await openStore(`sqlite:${join(folder.path, "store.db")}`, { durability: "full" });
  const rate = async (inFlight: number, count: number) => {
    const start = performance.now();
    for (let done = 0; done < count; done += inFlight) {
      await Promise.all(
        Array.from({ length: inFlight }, (_, i) =>
          store.transact((tx) => tx.put(`group/${done + i}`, { at: tx.now, text: "x".repeat(120) })),
        ),
      );
    }
    return (count * 1_000) / (performance.now() - start);
  };
  try {
    const { subject, control, ratio } = await contest(quick ? 3 : 9, {
      subject: () => rate(IN_FLIGHT, IN_FLIGHT * 200),
      control: () => rate(1, 1_000),
    });
    return {
      what: `${IN_FLIGHT} transactions in flight in one process, full durability`,
      subject: perSecond(subject),
      control: perSecond(control),
      ratio,
      goal: { atLeast: GROUP_GOAL },
      note: "against one commit each",
    };
  } finally {
    await store.close();
  }
}

/** The time of a claim with few tasks in the store, and with many. */
async function flatness(quick: boolean): Promise<Row[]> {
  const us = new Map<number, number>();
  for (const tasks of quick ? SIZES.slice(0, 2) : SIZES) us.set(tasks, await claimMicroseconds(tasks));
  const least = us.get(SIZES[0]) ?? Number.NaN;
  return [...us].slice(1).map(([tasks, time]) => ({
    what: `time of a claim with ${tasks.toLocaleString("en-US")} tasks over ${SIZES[0]}, normal durability`,
    subject: `${time.toFixed(0)} µs`,
    control: `${least.toFixed(0)} µs`,
    ratio: time / least,
    goal: { atMost: FLAT },
  }));
}

async function claimMicroseconds(tasks: number): Promise<number> {
  const rounds = Math.max(1, FLAT_CLAIMS / tasks);
  let ms = 0;
  let claims = 0;
  for (let round = 0; round <= rounds; round++) {
    using folder = scratch();
    const store = await openStore(`sqlite:${join(folder.path, "store.db")}`, { durability: "normal" });
    await fill(store, tasks);
    const count = Math.min(tasks, FLAT_CLAIMS);
    const start = performance.now();
    for (let i = 0; i < count; i++) await claim(store, "worker-0");
    if (round > 0 || rounds === 1) {
      ms += performance.now() - start; // the first round of several warms up
      claims += count;
    }
    await store.close();
  }
  return (ms * 1_000) / claims;
}

if (process.argv[1] === import.meta.filename) {
  process.stdout.write(`${formatTable(await storeClaims({ quick: process.argv.includes("--quick") }))}\n`);
}
