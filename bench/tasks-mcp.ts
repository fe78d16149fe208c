/** Claim and complete through MCP on one SQLite file, against the raw queue behind the same SDK, with the same workers. */
import { join } from "node:path";
import { startPostgres } from "../test/support/postgres.ts";
import type { Options, Row } from "./row.ts";
import { type Durability, rawServer, scratch, swarmServer } from "./servers.ts";
import { Squad } from "./squad.ts";
import { contest, perSecond } from "./stats.ts";

interface Size {
  workers: number;
  tasks: number;
  rounds: number;
}

const FULL: readonly Size[] = [
  { workers: 4, tasks: 100, rounds: 9 },
  { workers: 4, tasks: 1_000, rounds: 5 },
  { workers: 4, tasks: 10_000, rounds: 2 },
  { workers: 1, tasks: 1_000, rounds: 3 },
  { workers: 8, tasks: 1_000, rounds: 3 },
];
const QUICK: readonly Size[] = [
  { workers: 4, tasks: 100, rounds: 3 },
  { workers: 4, tasks: 1_000, rounds: 2 },
];
const GOAL = 0.75;
const POSTGRES_GOAL = 0.35;
const FLAT = 1.3;
/** Tasks that each side does unheard, so that no code is cold. */
const WARM_UP = 2_000;
/** The best peer that was measured on such a machine, and the coordinator that this one replaces; neither runs here. */
const BEST_PEER = 198;
const REPLACED = 27;

export async function tasksMcp({ quick }: Options): Promise<Row[]> {
  const rows: Row[] = [];
  for (const durability of ["full", "normal"] as const) {
    const times = new Map<number, number>();
    for (const size of quick ? QUICK : FULL) {
      const { subject, control, ratio } = await measure(size, durability);
      if (size.workers === 4) times.set(size.tasks, subject);
      rows.push({
        what: `claim + complete, ${named(size)}, ${durability} durability`,
        subject: perSecond(subject),
        control: perSecond(control),
        ratio,
        goal: { atLeast: GOAL },
        note: `${(subject / BEST_PEER).toFixed(1)}× the best peer, ${(subject / REPLACED).toFixed(0)}× the coordinator replaced`,
      });
    }
    rows.push(...flatness(times, durability));
  }
  return rows;
}

/** How much longer a task takes when there are more of them. */
function flatness(perSecondAt: ReadonlyMap<number, number>, durability: Durability): Row[] {
  const [least, ...more] = [...perSecondAt].sort(([a], [b]) => a - b);
  if (!least) return [];
  return more.map(([tasks, rate]) => ({
    what: `time for each of ${tasks.toLocaleString("en-US")} tasks over each of ${least[0]}, ${durability} durability`,
    subject: `${(1_000 / rate).toFixed(2)} ms`,
    control: `${(1_000 / least[1]).toFixed(2)} ms`,
    ratio: least[1] / rate,
    goal: { atMost: FLAT },
  }));
}

/** Both sides on stores of their own, in the same run. */
async function measure(size: Size, durability: Durability, stores?: { ours: string; raw: string }) {
  using folder = scratch();
  const at = stores ?? { ours: `sqlite:${join(folder.path, "swarm.db")}`, raw: `sqlite:${join(folder.path, "raw.db")}` };
  const agents = Array.from({ length: size.workers }, (_, number) => `worker-${number + 1}`);
  const ours = await Squad.open(agents.map((agent) => swarmServer("task-coordination", { store: at.ours, durability, agent })));
  try {
    const raw = await Squad.open(
      await Promise.all(agents.map((agent) => rawServer("queue", { store: at.raw, durability, agent }))),
    );
    try {
      await ours.drain(WARM_UP);
      await raw.drain(WARM_UP);
      const sides = {
        subject: async () => (await ours.drain(size.tasks)).perSecond,
        control: async () => (await raw.drain(size.tasks)).perSecond,
      };
      return await contest(size.rounds, sides, { warmUp: false });
    } finally {
      await raw.close();
    }
  } finally {
    await ours.close();
  }
}

/** The same on PostgreSQL, on a server of this run; its raw queue claims with SKIP LOCKED. */
export async function tasksPostgres({ quick }: Options): Promise<Row[]> {
  const size: Size = { workers: 4, tasks: 1_000, rounds: quick ? 2 : 5 };
  const postgres = await startPostgres();
  try {
    const stores = { ours: await postgres.freshDatabase(), raw: await postgres.freshDatabase() };
    const { subject, control, ratio } = await measure(size, "full", stores);
    return [
      {
        what: `claim + complete, ${named(size)}, PostgreSQL`,
        subject: perSecond(subject),
        control: perSecond(control),
        ratio,
        goal: { atLeast: POSTGRES_GOAL },
      },
    ];
  } finally {
    await postgres.stop();
  }
}

function named({ workers, tasks }: Size): string {
  return `${workers} worker${workers === 1 ? "" : "s"}, ${tasks.toLocaleString("en-US")} tasks`;
}
