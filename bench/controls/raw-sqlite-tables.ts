/** Values, messages and locks over a table each of node:sqlite. */
import { openSqliteFile } from "./sqlite-file.ts";
import { serveTables } from "./table-tools.ts";

const { db, transaction } = await openSqliteFile(`
  CREATE TABLE IF NOT EXISTS state(key TEXT PRIMARY KEY, value TEXT NOT NULL, rev INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS messages(id INTEGER PRIMARY KEY, agent TEXT NOT NULL, payload TEXT NOT NULL, taken_at INTEGER);
  CREATE INDEX IF NOT EXISTS messages_waiting ON messages(agent, id) WHERE taken_at IS NULL;
  CREATE TABLE IF NOT EXISTS locks(name TEXT PRIMARY KEY, holder TEXT NOT NULL) WITHOUT ROWID;
`);
const put = db.prepare(
  "INSERT INTO state(key, value, rev) VALUES(?, ?, 1) ON CONFLICT(key) DO UPDATE SET value = excluded.value, rev = rev + 1 RETURNING rev",
);
const swap = db.prepare("UPDATE state SET value = ?, rev = rev + 1 WHERE key = ? AND rev = ? RETURNING rev");
const read = db.prepare("SELECT value, rev FROM state WHERE key = ?");
const insert = db.prepare("INSERT INTO messages(agent, payload) VALUES(?, ?)");
const take = db.prepare(
  `UPDATE messages SET taken_at = ? WHERE id IN (SELECT id FROM messages WHERE agent = ? AND taken_at IS NULL ORDER BY id LIMIT ?)
   RETURNING id, payload`,
);
const acknowledge = db.prepare("DELETE FROM messages WHERE id = ? AND agent = ?");
const acquire = db.prepare("INSERT INTO locks(name, holder) VALUES(?, ?) ON CONFLICT DO NOTHING");
const release = db.prepare("DELETE FROM locks WHERE name = ? AND holder = ?");

serveTables({
  set: (key, value, ifRev) =>
    transaction(() => {
      const row = ifRev === undefined ? put.get(key, value) : swap.get(value, key, ifRev);
      return row === undefined ? undefined : Number(row.rev);
    }),
  async get(key) {
    const row = read.get(key);
    return row === undefined ? undefined : { value: String(row.value), rev: Number(row.rev) };
  },
  setMany: (entries) =>
    transaction(() => {
      for (const { key, value } of entries) put.get(key, value);
    }),
  send: (to, payload) => transaction(() => Number(insert.run(to, payload).lastInsertRowid)),
  take: (agent, limit) =>
    transaction(() => take.all(Date.now(), agent, limit).map((row) => ({ id: Number(row.id), payload: String(row.payload) }))),
  acknowledge: (agent, ids) =>
    transaction(() => {
      for (const id of ids) acknowledge.run(id, agent);
    }),
  acquire: (lock, agent) => transaction(() => acquire.run(lock, agent).changes === 1),
  release: (lock, agent) =>
    transaction(() => {
      release.run(lock, agent);
    }),
});
