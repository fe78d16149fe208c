/** The raw queue over one table of PostgreSQL: one statement a claim, with SKIP LOCKED. */
import { openPool } from "./postgres-pool.ts";
import { serveQueue } from "./queue-tools.ts";

const pool = await openPool(`
  CREATE TABLE IF NOT EXISTS tasks(
    id TEXT PRIMARY KEY, seq BIGINT GENERATED ALWAYS AS IDENTITY, status TEXT NOT NULL, holder TEXT,
    claimed_at TIMESTAMPTZ, done_at TIMESTAMPTZ, output TEXT
  );
  CREATE INDEX IF NOT EXISTS tasks_available ON tasks(seq) WHERE status = 'available';
`);

serveQueue({
  async add(ids) {
    await pool.query("INSERT INTO tasks(id, status) SELECT unnest($1::text[]), 'available'", [ids]);
  },
  async claim(worker) {
    const { rows } = await pool.query({
      name: "claim",
      text: `UPDATE tasks SET status = 'claimed', holder = $1, claimed_at = now()
             WHERE id = (SELECT id FROM tasks WHERE status = 'available' ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id`,
      values: [worker],
    });
    return (rows as { id: string }[])[0]?.id;
  },
  async complete(id, worker, output) {
    const { rowCount } = await pool.query({
      name: "complete",
      text: "UPDATE tasks SET status = 'done', done_at = now(), output = $1 WHERE id = $2 AND holder = $3 AND status = 'claimed'",
      values: [output ?? null, id, worker],
    });
    return rowCount === 1;
  },
});
