/** A database of PostgreSQL as the raw controls use it. */
import pg from "pg";

/** Two processes that make one table at once: one of them is told that it is there. */
const SETUP_LOCK = 7_241;

/** Connects to BENCH_DATABASE, makes its tables, and ends with the host. */
export async function openPool(schema: string): Promise<pg.Pool> {
  const pool = new pg.Pool({ connectionString: process.env.BENCH_DATABASE, max: 4 });
  const setUp = await pool.connect();
  await setUp.query("SELECT pg_advisory_lock($1)", [SETUP_LOCK]);
  await setUp.query(schema);
  await setUp.query("SELECT pg_advisory_unlock($1)", [SETUP_LOCK]);
  setUp.release();
  process.stdin.once("end", () => void pool.end());
  return pool;
}
