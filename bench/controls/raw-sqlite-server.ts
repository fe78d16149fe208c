/** The raw queue over one table of node:sqlite. Claims are BEGIN IMMEDIATE, tried again while another process has the lock. */
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { serveQueue } from "./queue-tools.ts";

const SQLITE_BUSY = 5;
const RETRY_MS_MAX = 4;
const LOCK_WAIT_MS_MAX = 30_000;

const path = process.env.BENCH_DATABASE;
if (path === undefined) throw new Error("BENCH_DATABASE is not set");

async function untilFree<T>(attempt: () => T): Promise<T> {
  const deadline = performance.now() + LOCK_WAIT_MS_MAX;
  for (let tries = 1; ; tries++) {
    try {
      return attempt();
    } catch (error) {
      const busy = error instanceof Error && "errcode" in error && Number(error.errcode) % 256 === SQLITE_BUSY;
      if (!busy || performance.now() > deadline) throw error;
    }
    await sleep(Math.random() * Math.min(tries, RETRY_MS_MAX));
  }
}

const db = new DatabaseSync(path, { timeout: 0 });
await untilFree(() => db.exec("PRAGMA journal_mode=WAL"));
db.exec(`PRAGMA synchronous=${process.env.BENCH_DURABILITY === "normal" ? "NORMAL" : "FULL"}; PRAGMA wal_autocheckpoint=4000;`);
await untilFree(() =>
  db.exec(`
    CREATE TABLE IF NOT EXISTS tasks(
      id TEXT PRIMARY KEY, seq INTEGER NOT NULL, status TEXT NOT NULL, holder TEXT, claimed_at INTEGER, done_at INTEGER, output TEXT
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS tasks_available ON tasks(seq) WHERE status = 'available';
  `),
);
const begin = db.prepare("BEGIN IMMEDIATE");
const commit = db.prepare("COMMIT");
const insert = db.prepare("INSERT INTO tasks(id, seq, status) VALUES(?, ?, 'available')");
const last = db.prepare("SELECT coalesce(max(seq), 0) AS seq FROM tasks WHERE status = 'available'");
const claim = db.prepare(
  `UPDATE tasks SET status = 'claimed', holder = ?, claimed_at = ?
   WHERE id = (SELECT id FROM tasks WHERE status = 'available' ORDER BY seq LIMIT 1) RETURNING id`,
);
const complete = db.prepare(
  "UPDATE tasks SET status = 'done', done_at = ?, output = ? WHERE id = ? AND holder = ? AND status = 'claimed'",
);

async function transaction<T>(work: () => T): Promise<T> {
  await untilFree(() => begin.run());
  try {
    const result = work();
    commit.run();
    return result;
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

serveQueue({
  add: (ids) =>
    transaction(() => {
      let seq = Number(last.get()?.seq);
      for (const id of ids) insert.run(id, ++seq);
    }),
  claim: (worker) =>
    transaction(() => {
      const row = claim.get(worker, Date.now());
      return row === undefined ? undefined : String(row.id);
    }),
  complete: (id, worker, output) => transaction(() => complete.run(Date.now(), output ?? null, id, worker).changes === 1),
});
