/** Readers of the database with plain SQL, as people and other programs have them: on each engine, with rights to read alone. */
import { randomBytes } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import pg from "pg";

export interface SqlReader extends AsyncDisposable {
  /** Rows with JSON columns parsed and times as ms. */
  rows(sql: string): Promise<Record<string, unknown>[]>;
}

const JSON_COLUMNS = new Set(["task_definition", "dependencies", "results", "error", "progress"]);

/** A connection that may only read. On PostgreSQL with a role of its own that was granted nothing but what is read. */
export async function sqlReader(store: string): Promise<SqlReader> {
  return store.startsWith("sqlite:") ? sqliteReader(store.slice("sqlite:".length)) : await postgresReader(store);
}

function sqliteReader(path: string): SqlReader {
  const db = new DatabaseSync(path, { readOnly: true, timeout: 0 });
  return {
    rows: async (sql) =>
      db
        .prepare(sql)
        .all()
        .map((row) => normal(row, (text) => JSON.parse(String(text)))),
    async [Symbol.asyncDispose]() {
      db.close();
    },
  };
}

async function postgresReader(url: string): Promise<SqlReader> {
  const role = `reader_${randomBytes(6).toString("hex")}`;
  const owner = new pg.Client({ connectionString: url });
  await owner.connect();
  try {
    await owner.query(`CREATE ROLE ${role} LOGIN PASSWORD 'reader'`);
    await owner.query(`GRANT SELECT ON keyv, agent_coordination, task_distribution TO ${role}`);
  } finally {
    await owner.end();
  }
  const as = new URL(url);
  as.username = role;
  as.password = "reader";
  const client = new pg.Client({ connectionString: as.href });
  await client.connect();
  return {
    rows: async (sql) => (await client.query<Record<string, unknown>>(sql)).rows.map((row) => normal(row, (value) => value)),
    [Symbol.asyncDispose]: () => client.end(),
  };
}

function normal(row: Record<string, unknown>, parse: (value: unknown) => unknown): Record<string, unknown> {
  const entries = Object.entries(row).map(([name, value]) => {
    if (value === null) return [name, undefined];
    if (JSON_COLUMNS.has(name)) return [name, parse(value)];
    if (name.endsWith("_at")) return [name, value instanceof Date ? value.getTime() : Date.parse(String(value))];
    return [name, value];
  });
  return Object.fromEntries(entries);
}
