/** Values, messages and locks over a table each of PostgreSQL, one statement an operation. */
import { openPool } from "./postgres-pool.ts";
import { serveTables } from "./table-tools.ts";

const pool = await openPool(`
  CREATE TABLE IF NOT EXISTS state(key TEXT PRIMARY KEY, value TEXT NOT NULL, rev INT NOT NULL);
  CREATE TABLE IF NOT EXISTS messages(
    id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, agent TEXT NOT NULL, payload TEXT NOT NULL, taken_at TIMESTAMPTZ
  );
  CREATE INDEX IF NOT EXISTS messages_waiting ON messages(agent, id) WHERE taken_at IS NULL;
  CREATE TABLE IF NOT EXISTS locks(name TEXT PRIMARY KEY, holder TEXT NOT NULL);
`);

async function rows<T>(name: string, text: string, values: readonly unknown[]): Promise<T[]> {
  return (await pool.query({ name, text, values: [...values] })).rows as T[];
}

serveTables({
  async set(key, value, ifRev) {
    const [row] =
      ifRev === undefined
        ? await rows<{ rev: number }>(
            "put",
            `INSERT INTO state AS old(key, value, rev) VALUES($1, $2, 1)
             ON CONFLICT(key) DO UPDATE SET value = excluded.value, rev = old.rev + 1 RETURNING rev`,
            [key, value],
          )
        : await rows<{ rev: number }>(
            "swap",
            "UPDATE state SET value = $2, rev = rev + 1 WHERE key = $1 AND rev = $3 RETURNING rev",
            [key, value, ifRev],
          );
    return row?.rev;
  },
  async get(key) {
    const [row] = await rows<{ value: string; rev: number }>("read", "SELECT value, rev FROM state WHERE key = $1", [key]);
    return row;
  },
  async setMany(entries) {
    await rows(
      "put many",
      `INSERT INTO state AS old(key, value, rev) SELECT *, 1 FROM unnest($1::text[], $2::text[])
       ON CONFLICT(key) DO UPDATE SET value = excluded.value, rev = old.rev + 1`,
      [entries.map(({ key }) => key), entries.map(({ value }) => value)],
    );
  },
  async send(to, payload) {
    const [row] = await rows<{ id: number }>("send", "INSERT INTO messages(agent, payload) VALUES($1, $2) RETURNING id", [
      to,
      payload,
    ]);
    return row?.id ?? -1;
  },
  take: (agent, limit) =>
    rows(
      "take",
      `UPDATE messages SET taken_at = now()
       WHERE id IN (SELECT id FROM messages WHERE agent = $1 AND taken_at IS NULL ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
       RETURNING id, payload`,
      [agent, limit],
    ),
  async acknowledge(agent, ids) {
    await rows("acknowledge", "DELETE FROM messages WHERE agent = $1 AND id = ANY($2::int[])", [agent, ids]);
  },
  async acquire(lock, agent) {
    const taken = await rows("acquire", "INSERT INTO locks(name, holder) VALUES($1, $2) ON CONFLICT DO NOTHING RETURNING name", [
      lock,
      agent,
    ]);
    return taken.length === 1;
  },
  async release(lock, agent) {
    await rows("release", "DELETE FROM locks WHERE name = $1 AND holder = $2", [lock, agent]);
  },
});
