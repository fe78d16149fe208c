/** One worker of bench/postgres-claims.ts: claims and completes jobs of one queue, one after the other, until none is left. */
import { openStore, ordered, prefixRange, type Store } from "@mcp-swarm/store";
import { Logger, runOnce } from "graphile-worker";
import pg from "pg";
import { PgBoss } from "pg-boss";

export const KINDS = ["store", "raw", "graphile-worker", "pg-boss"] as const;
export type Kind = (typeof KINDS)[number];
export type Order =
  | { do: "open"; kind: Kind; url: string }
  | { do: "add"; from: number; jobs: number }
  | { do: "drain" }
  | { do: "close" };
export type Report = { taken: string[]; startedAt: number; endedAt: number } | { failed: string } | "done";

interface Queue {
  add(from: number, jobs: number): Promise<void>;
  /** Claims and completes until nothing is left; answers what it did. */
  drain(): Promise<string[]>;
  close(): Promise<void>;
}

/** Jobs of one insert. */
const ADD_BATCH = 200;
const LEASE_MS = 15_000;
const QUEUE = "jobs";
const WORKER = `worker-${process.pid}`;
const quiet = new Logger(() => () => {});

/** The records and indexes of a task queue on the store: a claim moves a task from `ready/` to `lease/`, a completion ends it. */
class StoreQueue implements Queue {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async add(from: number, jobs: number): Promise<void> {
    for (let start = from; start < from + jobs; start += ADD_BATCH) {
      const ids = Array.from({ length: Math.min(ADD_BATCH, from + jobs - start) }, (_, at) => start + at);
      await this.#store.transact((tx) => {
        for (const id of ids) {
          tx.put(`job/task/${id}`, { id: String(id), title: `Job number ${id}`, status: "ready", attempts: 0 });
          tx.put(`job/ready/${QUEUE}/5/${ordered(id)}/${id}`, { refs: [`job/task/${id}`] });
        }
      });
    }
  }

  async drain(): Promise<string[]> {
    const taken: string[] = [];
    const range = prefixRange(`job/ready/${QUEUE}/`, 1);
    for (;;) {
      const claim = await this.#store.transact((tx) => {
        const ready = tx.pick(range, 2);
        if (!ready) return undefined;
        const key = (ready.value as { refs: string[] }).refs[0] ?? "";
        const task = tx.get(key)?.value as { id: string; title: string; attempts: number };
        const deadline = tx.now + LEASE_MS;
        const lease = `job/lease/${ordered(deadline)}/${task.id}`;
        tx.delete(ready.key);
        tx.put(key, {
          ...task,
          status: "claimed",
          worker: WORKER,
          token: task.attempts + 1,
          attempts: task.attempts + 1,
          deadline,
        });
        tx.put(lease, { refs: [key] });
        return { id: task.id, key, lease, token: task.attempts + 1 };
      });
      if (!claim) return taken;
      await this.#store.transact((tx) => {
        const task = tx.get(claim.key)?.value as { id: string; title: string; attempts: number; token: number };
        if (task.token !== claim.token) throw new Error("The claim was lost");
        tx.put(claim.key, { ...task, status: "done", doneAt: tx.now });
        tx.delete(claim.lease);
      });
      taken.push(claim.id);
    }
  }

  async close(): Promise<void> {
    await this.#store.close();
  }
}

/** One table and SKIP LOCKED: the least that a queue on PostgreSQL can do. */
class RawQueue implements Queue {
  readonly #client: pg.Client;

  constructor(client: pg.Client) {
    this.#client = client;
  }

  async add(from: number, jobs: number): Promise<void> {
    await this.#client.query(
      `INSERT INTO raw_queue (id, title, status) SELECT n, 'Job number ' || n, 'ready' FROM generate_series($1::bigint, $2::bigint) n`,
      [from, from + jobs - 1],
    );
  }

  async drain(): Promise<string[]> {
    const taken: string[] = [];
    for (;;) {
      const { rows } = await this.#client.query<{ id: string }>({
        name: "claim",
        text: `UPDATE raw_queue SET status = 'claimed', worker = $1, deadline = now() + interval '15 s', attempts = attempts + 1
               WHERE id = (SELECT id FROM raw_queue WHERE status = 'ready' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING *`,
        values: [WORKER],
      });
      const id = rows[0]?.id;
      if (id === undefined) return taken;
      await this.#client.query({
        name: "complete",
        text: "UPDATE raw_queue SET status = 'done', done_at = now() WHERE id = $1 AND worker = $2 AND status = 'claimed'",
        values: [id, WORKER],
      });
      taken.push(id);
    }
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

class GraphileQueue implements Queue {
  readonly #pool: pg.Pool;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  async add(from: number, jobs: number): Promise<void> {
    await this.#pool.query(
      `SELECT count(*) FROM generate_series($1::bigint, $2::bigint) n, graphile_worker.add_job('job', json_build_object('id', n::text))`,
      [from, from + jobs - 1],
    );
  }

  async drain(): Promise<string[]> {
    const taken: string[] = [];
    await runOnce({
      pgPool: this.#pool,
      concurrency: 1,
      noHandleSignals: true,
      logger: quiet,
      taskList: { job: (payload) => void taken.push((payload as { id: string }).id) },
    });
    return taken;
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}

class BossQueue implements Queue {
  readonly #boss: PgBoss;

  constructor(boss: PgBoss) {
    this.#boss = boss;
  }

  async add(from: number, jobs: number): Promise<void> {
    await this.#boss.insert(
      QUEUE,
      Array.from({ length: jobs }, (_, at) => ({ data: { id: String(from + at) } })),
    );
  }

  async drain(): Promise<string[]> {
    const taken: string[] = [];
    for (;;) {
      const [job] = await this.#boss.fetch<{ id: string }>(QUEUE);
      if (!job) return taken;
      await this.#boss.complete(QUEUE, job.id);
      taken.push(job.data.id);
    }
  }

  async close(): Promise<void> {
    await this.#boss.stop({ graceful: false });
  }
}

function fail(error: Error): never {
  throw error;
}

async function open(kind: Kind, url: string): Promise<Queue> {
  switch (kind) {
    case "store":
      return new StoreQueue(await openStore(url));
    case "raw": {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      return new RawQueue(client);
    }
    case "graphile-worker": {
      const pool = new pg.Pool({ connectionString: url, max: 2 });
      pool.on("error", fail);
      pool.on("connect", (client) => void client.on("error", fail));
      return new GraphileQueue(pool);
    }
    case "pg-boss": {
      const boss = new PgBoss({ connectionString: url, max: 2, supervise: false, schedule: false });
      boss.on("error", (error) => {
        throw error;
      });
      await boss.start();
      return new BossQueue(boss);
    }
  }
}

if (process.send) {
  let queue: Queue | undefined;
  process.on("message", (order: Order) => {
    obey(order).then(
      (report) => process.send?.(report),
      (error: unknown) => process.send?.({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  const obey = async (order: Order): Promise<Report> => {
    if (order.do === "open") {
      queue = await open(order.kind, order.url);
      return "done";
    }
    if (!queue) throw new Error("The queue was not opened");
    if (order.do === "add") await queue.add(order.from, order.jobs);
    if (order.do === "close") await queue.close();
    if (order.do !== "drain") return "done";
    const clock = () => performance.timeOrigin + performance.now();
    const startedAt = clock();
    const taken = await queue.drain();
    return { taken, startedAt, endedAt: clock() };
  };
}
