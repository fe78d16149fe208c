/**
 * Views over the rows, for those who read the database with SQL. What they show is given by whoever opens the store: here nothing
 * is known of what rows mean. A view carries the version of its text, so that opening a store only looks whether it is there.
 */
import type { DatabaseSync } from "node:sqlite";
import { SwarmError } from "@mcp-swarm/core";

/** Each text is a SELECT that names the table of rows as `keyv`. */
export interface SqlView {
  readonly name: string;
  readonly sqlite: string;
  readonly postgres: string;
}

export interface SqlViews {
  readonly names: readonly string[];
  /**
   * Raised whenever a text changes; a store that has a newer one keeps it. On PostgreSQL columns may be added at the end of a view
   * and none taken away, so that what was granted on it stays.
   */
  readonly version: number;
  /** The texts; asked for only when they are missing or older. */
  readonly load: () => Promise<readonly SqlView[]>;
  /** Told when they could not be made: the store works without them. */
  readonly onError: (error: unknown) => void;
}

const MARK = "mcp-swarm view";
const VERSION = new RegExp(`${MARK} (\\d+)`);

/** The mark that a view carries. */
export function viewMark(version: number): string {
  return `${MARK} ${version}`;
}

/** Whether each of the texts or comments carries this version or a newer one. */
export function areCurrent(views: SqlViews, texts: readonly unknown[]): boolean {
  const versions = texts.map((text) => Number(VERSION.exec(String(text))?.[1] ?? 0));
  return versions.length === views.names.length && versions.every((version) => version >= views.version);
}

export function hasSqliteViews(db: DatabaseSync, views: SqlViews): boolean {
  const names = views.names.map(() => "?").join();
  const rows = db.prepare(`SELECT sql FROM sqlite_schema WHERE type = 'view' AND name IN (${names})`).all(...views.names);
  return areCurrent(
    views,
    rows.map(({ sql }) => sql),
  );
}

/** In one transaction. @throws SwarmError failed_precondition when something else has the name */
export function makeSqliteViews(db: DatabaseSync, views: SqlViews, texts: readonly SqlView[]): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    for (const { name, sqlite } of hasSqliteViews(db, views) ? [] : texts) {
      const other = db.prepare("SELECT type FROM sqlite_schema WHERE name = ? AND type <> 'view'").get(name);
      if (other) throw nameTaken(name);
      db.exec(`DROP VIEW IF EXISTS "${name}"; CREATE VIEW "${name}" AS /* ${viewMark(views.version)} */ ${sqlite}`);
    }
    db.exec("COMMIT");
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

export function nameTaken(name: string): SwarmError {
  return new SwarmError("failed_precondition", `The database has something else named ${name}.`, {
    hint: "Rename it, or give the swarm a file or schema of its own. The servers work without the view.",
  });
}

/** What a PostgreSQL schema has of the views, and the version of the server: one row. */
export function postgresViewsQuery(schema: string, views: SqlViews): string {
  const marks = views.names.map(
    (name) => `obj_description(to_regclass('${inSchema(schema, name).replaceAll("'", "''")}'), 'pg_class')`,
  );
  return `SELECT current_setting('server_version_num'), ${marks.join(", ")}`;
}

/**
 * All views in one script, which PostgreSQL runs as one transaction. A view gives its reader no more than the table does
 * (security_invoker, from version 15 on).
 */
export function postgresViewsSql(schema: string, views: SqlViews, texts: readonly SqlView[], serverVersion: number): string {
  const invoker = serverVersion >= 150_000 ? " WITH (security_invoker = true)" : "";
  return texts
    .map(({ name, postgres }) => {
      const view = inSchema(schema, name);
      const text = postgres.replaceAll("FROM keyv ", `FROM ${inSchema(schema, "keyv")} `);
      return `CREATE OR REPLACE VIEW ${view}${invoker} AS ${text}; COMMENT ON VIEW ${view} IS '${viewMark(views.version)}';`;
    })
    .join("\n");
}

function inSchema(schema: string, name: string): string {
  return `"${schema.replaceAll('"', '""')}"."${name}"`;
}
