/**
 * Tasks a second through the queue: a batch is handed over, workers in processes of their own run its tasks in sandboxes, and the agent
 * has the answer that all of it ended. Beside it as many processes that run the same tasks on the same driver and know of no queue. The
 * run fails when a task is lost, ran twice, or came to what another should.
 */
import type { Kind } from "./execution-tasks.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { type Engine, onEachEngine } from "./servers.ts";
import { contest, perSecond } from "./stats.ts";
import { Runners, Workforce } from "./workforce.ts";

interface Size {
  kind: Kind;
  workers: number;
  tasks: number;
  engines: readonly Engine["name"][];
}

const FULL = "SQLite, full durability";
const NORMAL = "SQLite, normal durability";
const SIZES: readonly Size[] = [
  { kind: "javascript", workers: 1, tasks: 500, engines: [FULL, NORMAL] },
  { kind: "javascript", workers: 2, tasks: 500, engines: [FULL, NORMAL, "PostgreSQL"] },
  { kind: "javascript", workers: 4, tasks: 500, engines: [FULL, NORMAL] },
  { kind: "bash", workers: 1, tasks: 100, engines: [FULL] },
  { kind: "bash", workers: 2, tasks: 100, engines: [FULL] },
  { kind: "bash", workers: 4, tasks: 100, engines: [FULL] },
  { kind: "python", workers: 1, tasks: 12, engines: [FULL] },
  { kind: "python", workers: 2, tasks: 12, engines: [FULL] },
  { kind: "python", workers: 4, tasks: 12, engines: [FULL] },
];
/** Of what takes longer for each task there are fewer rounds. */
const ROUNDS = { javascript: 5, quick: 2, others: 3 };
/** What is promised of JavaScript with so many workers. */
const PROMISED = { kind: "javascript", workers: 2, perSecond: 300 };

export async function executionQueue({ quick }: Options): Promise<Row[]> {
  const rounds = (kind: Kind) => (quick ? ROUNDS.quick : kind === "javascript" ? ROUNDS.javascript : ROUNDS.others);
  return await onEachEngine(async (engine) => {
    const rows: Row[] = [];
    for (const size of SIZES) if (size.engines.includes(engine.name)) rows.push(await measure(engine, size, rounds(size.kind)));
    return rows;
  });
}

async function measure(engine: Engine, { kind, workers, tasks }: Size, rounds: number): Promise<Row> {
  const store = await engine.freshStore(`${kind}-${workers}`);
  const ours = await Workforce.open({ store, durability: engine.durability, workers, slots: 1, kind });
  const alone = new Runners(workers);
  try {
    const { subject, control, ratio } = await contest(rounds, {
      subject: async () => (tasks * 1_000) / (await ours.drain(tasks)),
      control: () => alone.perSecond(kind, tasks),
    });
    const promised = kind === PROMISED.kind && workers === PROMISED.workers;
    return {
      what: `empty ${kind} tasks through the queue, ${workers} worker${workers === 1 ? "" : "s"}, ${engine.name}`,
      subject: perSecond(subject),
      control: perSecond(control),
      ratio,
      ...(promised ? { goal: { atLeast: PROMISED.perSecond, value: subject } } : {}),
      note: "0 lost, 0 twice; the control is the sandboxes alone",
    };
  } finally {
    await Promise.all([ours.close(), alone.close()]);
  }
}

if (import.meta.main) {
  console.log(formatTable(await executionQueue({ quick: process.argv.includes("--quick") })));
}
