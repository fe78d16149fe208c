/** The raw queue over one table of node:sqlite. */
import { serveQueue } from "./queue-tools.ts";
import { openSqliteFile } from "./sqlite-file.ts";

const { db, transaction } = await openSqliteFile(`
  CREATE TABLE IF NOT EXISTS tasks(
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, status TEXT NOT NULL, holder TEXT, claimed_at INTEGER, done_at INTEGER, output TEXT
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS tasks_available ON tasks(seq) WHERE status = 'available';
`);
const insert = db.prepare("INSERT INTO tasks(id, seq, status) VALUES(?, ?, 'available')");
const last = db.prepare("SELECT coalesce(max(seq), 0) AS seq FROM tasks WHERE status = 'available'");
const claim = db.prepare(
  `UPDATE tasks SET status = 'claimed', holder = ?, claimed_at = ?
   WHERE id = (SELECT id FROM tasks WHERE status = 'available' ORDER BY seq LIMIT 1) RETURNING id`,
);
const complete = db.prepare(
  "UPDATE tasks SET status = 'done', done_at = ?, output = ? WHERE id = ? AND holder = ? AND status = 'claimed'",
);

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
