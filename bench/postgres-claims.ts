/**
 * Claims on PostgreSQL without MCP: the store against the least that a queue can do (one table, SKIP LOCKED) and against two
 * queues that people use. Each side has its own database on one server and the same number of processes, each of which
 * claims and completes one job after the other.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { runMigrations } from "graphile-worker";
import pg from "pg";
import { PgBoss } from "pg-boss";
import { startPostgres } from "../test/support/postgres.ts";
import { KINDS, type Kind, type Order, type Report } from "./drivers/postgres-claimer.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { median, perSecond } from "./stats.ts";

const PROCESSES = 4;
const FULL = { jobs: 400, rounds: 21, warmUp: 3_000 };
const QUICK = { jobs: 300, rounds: 5, warmUp: 300 };
/** Short rounds, so that a round of each side meets the same machine. The slower a queue the fewer jobs it gets, so that the run stays short. */
const SHARE: Record<Kind, number> = { store: 1, raw: 2, "graphile-worker": 1, "pg-boss": 0.5 };
const GOALS: Partial<Record<Kind, number>> = { raw: 0.35, "graphile-worker": 1, "pg-boss": 1 };

interface Drained {
  perSecond: number;
  /** The slowest worker's share over the fastest one's. */
  evenness: number;
}

export async function postgresClaims({ quick }: Options): Promise<Row[]> {
  const { jobs, rounds, warmUp } = quick ? QUICK : FULL;
  const server = await startPostgres();
  const crews = new Map<Kind, Crew>();
  try {
    for (const kind of KINDS) crews.set(kind, await Crew.open(kind, await server.freshDatabase()));
    for (const [kind, crew] of crews) await crew.drain(Math.ceil(warmUp * SHARE[kind])); // unheard: no code is cold
    const results = new Map<Kind, Drained[]>(KINDS.map((kind) => [kind, []]));
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? [...crews] : [...crews].reverse();
      for (const [kind, crew] of order) results.get(kind)?.push(await crew.drain(Math.ceil(jobs * SHARE[kind])));
    }
    return rows(results);
  } finally {
    for (const crew of crews.values()) await crew.close();
    await server.stop();
  }
}

function rows(results: ReadonlyMap<Kind, readonly Drained[]>): Row[] {
  const of = (kind: Kind) => results.get(kind) ?? [];
  const ours = of("store");
  const lines: Row[] = KINDS.filter((kind) => kind !== "store").map((kind) => {
    const theirs = of(kind);
    const goal = GOALS[kind];
    return {
      what: `claim + complete on PostgreSQL, ${PROCESSES} processes, against ${kind === "raw" ? "a raw SKIP LOCKED queue" : kind}`,
      subject: perSecond(median(ours.map((one) => one.perSecond))),
      control: perSecond(median(theirs.map((one) => one.perSecond))),
      ratio: median(ours.map((one, round) => one.perSecond / (theirs[round]?.perSecond ?? Number.NaN))),
      ...(goal === undefined ? {} : { goal: { atLeast: goal } }),
    };
  });
  const evenness = median(ours.map((one) => one.evenness));
  lines.push({
    what: "slowest worker's share over the fastest one's",
    subject: evenness.toFixed(2),
    ratio: evenness,
    goal: { atLeast: 0.6 },
  });
  return lines;
}

/** The processes of one queue. */
class Crew {
  readonly #workers: ChildProcess[];
  #added = 1;

  private constructor(workers: ChildProcess[]) {
    this.#workers = workers;
  }

  static async open(kind: Kind, url: string): Promise<Crew> {
    await setUp(kind, url);
    const workers = Array.from({ length: PROCESSES }, () =>
      fork(join(import.meta.dirname, "drivers", "postgres-claimer.ts"), { stdio: "inherit" }),
    );
    const crew = new Crew(workers);
    try {
      await Promise.all(workers.map((worker) => crew.#tell(worker, { do: "open", kind, url })));
    } catch (error) {
      for (const worker of workers) worker.kill("SIGKILL");
      throw error;
    }
    return crew;
  }

  /** Adds jobs, lets all workers do them, and checks that each was done by exactly one. */
  async drain(jobs: number): Promise<Drained> {
    const from = this.#added;
    this.#added += jobs;
    const [first] = this.#workers;
    if (first) await this.#tell(first, { do: "add", from, jobs });
    const reports = await Promise.all(this.#workers.map((worker) => this.#tell(worker, { do: "drain" })));
    const drained = reports.filter((report) => typeof report === "object" && "taken" in report);
    const taken = drained.flatMap((one) => one.taken);
    if (taken.length !== jobs || new Set(taken).size !== jobs) {
      throw new Error(`${jobs} jobs, ${taken.length} done, ${new Set(taken).size} of them distinct`);
    }
    const ms = Math.max(...drained.map((one) => one.endedAt)) - Math.min(...drained.map((one) => one.startedAt));
    const shares = drained.map((one) => one.taken.length);
    return { perSecond: (jobs * 1_000) / ms, evenness: Math.min(...shares) / Math.max(...shares) };
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#workers.map((worker) => this.#tell(worker, { do: "close" })));
    for (const worker of this.#workers) worker.kill("SIGKILL");
  }

  #tell(worker: ChildProcess, order: Order): Promise<Report> {
    return new Promise((resolve, reject) => {
      const gone = () => reject(new Error("A worker's process ended"));
      worker.once("exit", gone);
      worker.once("message", (report: Report) => {
        worker.off("exit", gone);
        if (typeof report === "object" && "failed" in report) reject(new Error(report.failed));
        else resolve(report);
      });
      worker.send(order);
    });
  }
}

/** What must be there before the first worker comes. The store sets itself up. */
async function setUp(kind: Kind, url: string): Promise<void> {
  if (kind === "raw") {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(`
      CREATE TABLE raw_queue (id BIGINT PRIMARY KEY, title TEXT NOT NULL, status TEXT NOT NULL, worker TEXT,
        deadline TIMESTAMPTZ, attempts INT NOT NULL DEFAULT 0, done_at TIMESTAMPTZ);
      CREATE INDEX ON raw_queue (id) WHERE status = 'ready'`);
    await client.end();
  } else if (kind === "graphile-worker") {
    await runMigrations({ connectionString: url });
  } else if (kind === "pg-boss") {
    const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false });
    await boss.start();
    await boss.createQueue("jobs");
    await boss.stop({ graceful: false });
  }
}

if (import.meta.main) {
  console.log(formatTable(await postgresClaims({ quick: process.argv.includes("--quick") })));
}
