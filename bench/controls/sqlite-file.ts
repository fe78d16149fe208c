/** A file of node:sqlite as the raw controls use it: BEGIN IMMEDIATE, tried again while another process has the lock. */
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

const SQLITE_BUSY = 5;
const RETRY_MS_MAX = 4;
const LOCK_WAIT_MS_MAX = 30_000;

export interface SqliteFile {
  db: DatabaseSync;
  transaction<T>(work: () => T): Promise<T>;
}

/** Opens the file named by BENCH_DATABASE, at the durability of BENCH_DURABILITY, and makes its tables. */
export async function openSqliteFile(schema: string): Promise<SqliteFile> {
  const path = process.env.BENCH_DATABASE;
  if (path === undefined) throw new Error("BENCH_DATABASE is not set");
  const db = new DatabaseSync(path, { timeout: 0 });
  await untilFree(() => db.exec("PRAGMA journal_mode=WAL"));
  db.exec(`PRAGMA synchronous=${process.env.BENCH_DURABILITY === "normal" ? "NORMAL" : "FULL"}; PRAGMA wal_autocheckpoint=4000;`);
  await untilFree(() => db.exec(schema));
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");
  return {
    db,
    async transaction(work) {
      await untilFree(() => begin.run());
      try {
        const result = work();
        commit.run();
        return result;
      } catch (error) {
        if (db.isTransaction) db.exec("ROLLBACK");
        throw error;
      }
    },
  };
}

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
