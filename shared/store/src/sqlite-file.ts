import { chmodSync, closeSync, existsSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { assert, SwarmError } from "@mcp-swarm/core";
import { FORMAT_KEY, refuseNewerFormat } from "./format.ts";
import { splitKey } from "./keys.ts";
import { type Mounts, refuseNetworkDrive } from "./local-disk.ts";
import { checksum, encodeValue } from "./row.ts";
import { hasSqliteViews, makeSqliteViews, type SqlViews } from "./sql-views.ts";
import { isBusy, sqliteError } from "./sqlite-errors.ts";
import { TEXT_SCHEMA, TextIndex } from "./sqlite-text.ts";

/** Longest that an operation waits for a lock that another process holds. */
export const LOCK_WAIT_MS_MAX = 30_000;

/** The pause before a lock is tried again: short, and random so that waiting processes do not march in step. */
const RETRY_MS_MAX = 12;

/** The version of the layout of rows. A store says which versions may read and write it (the record `meta/format`). */
export const FORMAT = 1;
const FORMAT_ROW = splitKey(FORMAT_KEY);

/** The first SQLite without the WAL-reset bug, which can corrupt a database that two connections write. */
const SQLITE_VERSION_MIN = [3, 51, 3] as const;

/**
 * Room for several records in a page. A commit writes whole pages to the log, so smaller ones look cheaper; but with two
 * records in a page of 2 KB nearly every write makes SQLite share out rows among neighbouring pages: 7 to 11 pages written for
 * each claim of a task, where 4 KB takes 5 and a sixth less processor time.
 */
const PAGE_BYTES = 4096;

/**
 * Keyv's own table, made before the adapter would make it, with the key as the table itself (no second index) and two
 * columns that Keyv does not know: `rev`, which changes with every write, and `sum`, the checksum.
 *
 * A write that does not name them (plain Keyv's, a person's) gets a fresh `rev` and no checksum: an insert through the
 * defaults, an upsert or update through the trigger. Our own writes are REPLACE, which fires no update trigger. The index is
 * the one that the adapter would make: it finds expired rows, and costs nothing for rows that do not expire.
 */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS keyv(
    key VARCHAR(255) NOT NULL,
    value TEXT,
    namespace VARCHAR(255) NOT NULL DEFAULT '',
    expires BIGINT DEFAULT NULL,
    rev BIGINT NOT NULL DEFAULT (random() & 281474976710655),
    sum BIGINT DEFAULT NULL,
    PRIMARY KEY(namespace, key)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS keyv_expires_idx ON keyv(expires) WHERE expires IS NOT NULL;
  CREATE TRIGGER IF NOT EXISTS keyv_foreign_write AFTER UPDATE ON keyv WHEN NEW.rev = OLD.rev BEGIN
    UPDATE keyv SET rev = random() & 281474976710655, sum = NULL WHERE namespace = NEW.namespace AND key = NEW.key;
  END;
`;

export interface OpenFileOptions {
  durability: "full" | "normal";
  mounts?: Mounts | undefined;
  views?: SqlViews | undefined;
}

/** A database that is open and set up, and what says to others that it is. */
export interface OpenFile {
  db: DatabaseSync;
  presence: Presence;
  /** Tells this file from any other that may come to be at its path. */
  identity: string | undefined;
}

/** The file that is at `path` now; undefined when there is none. */
export function fileIdentity(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat && `${stat.dev}:${stat.ino}`;
}

/** Runs `attempt` until no lock stands in its way. @throws SwarmError unavailable after LOCK_WAIT_MS_MAX */
export async function withLockRetry<T>(attempt: () => T): Promise<T> {
  const deadline = performance.now() + LOCK_WAIT_MS_MAX;
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw sqliteError(error);
    }
    await sleep(Math.random() * RETRY_MS_MAX);
  }
}

/**
 * A lock file beside the database, itself an empty SQLite database so that the operating system frees its locks when a
 * process dies. Whoever has the store open holds it shared; who sets a new file up holds it reserved (one at a time, beside
 * any number of shared); a restore needs it alone.
 */
export class Presence {
  readonly #path: string;
  readonly #db: DatabaseSync;

  private constructor(path: string, db: DatabaseSync) {
    this.#path = path;
    this.#db = db;
  }

  /** Waits while a restore is under way. */
  static async enter(databasePath: string): Promise<Presence> {
    const path = `${databasePath}-lock`;
    makePrivate(path);
    return await withLockRetry(() => {
      const db = new DatabaseSync(path, { timeout: 0 });
      try {
        db.exec("BEGIN; SELECT count(*) FROM sqlite_schema;");
        return new Presence(path, db);
      } catch (error) {
        db.close();
        throw error;
      }
    });
  }

  /** Holds the store alone. @throws SwarmError failed_precondition when a process has it open */
  static alone(databasePath: string): Presence {
    const path = `${databasePath}-lock`;
    makePrivate(path);
    const db = new DatabaseSync(path, { timeout: 0 });
    try {
      db.exec("BEGIN EXCLUSIVE");
      return new Presence(path, db);
    } catch (error) {
      db.close();
      throw isBusy(error) ? inUse(error) : sqliteError(error);
    }
  }

  /** Runs `setUp` in one process at a time. */
  async serialized<T>(setUp: () => T): Promise<T> {
    return await withLockRetry(() => {
      const lock = new DatabaseSync(this.#path, { timeout: 0 });
      try {
        lock.exec("BEGIN IMMEDIATE");
        return setUp();
      } finally {
        lock.close();
      }
    });
  }

  leave(): void {
    this.#db.close();
  }
}

export function inUse(cause?: unknown): SwarmError {
  return new SwarmError("failed_precondition", "The store is in use by another process.", {
    hint: "End every agent host, server and database tool that has the store open, then run the command again.",
    cause,
  });
}

/**
 * Opens the database at `path`, making and setting it up if it is new. Any number of processes may do so at once.
 * @throws SwarmError failed_precondition: unsafe SQLite, network drive, newer format, someone else's table
 */
export async function openFile(path: string, options: OpenFileOptions): Promise<OpenFile> {
  makeFolder(dirname(path));
  refuseNetworkDrive(dirname(path), options.mounts);
  makePrivate(path);
  const presence = await Presence.enter(path);
  try {
    const db = await withLockRetry(() => connect(path, options));
    const identity = fileIdentity(path);
    try {
      if (!(await withLockRetry(() => isSetUp(db)))) await presence.serialized(() => setUp(db));
      await withLockRetry(() => refuseNewerReader(db));
      if (options.views) await keepViews(db, presence, options.views);
      for (const suffix of ["", "-wal", "-shm"]) tighten(path + suffix);
      return { db, presence, identity };
    } catch (error) {
      db.close();
      throw error;
    }
  } catch (error) {
    presence.leave();
    throw sqliteError(error);
  }
}

/** Makes the views that are missing or older. What stands in their way is told, and does not keep the store from opening. */
async function keepViews(db: DatabaseSync, presence: Presence, views: SqlViews): Promise<void> {
  try {
    if (await withLockRetry(() => hasSqliteViews(db, views))) return;
    const texts = await views.load();
    await presence.serialized(() => makeSqliteViews(db, views, texts));
  } catch (error) {
    views.onError(sqliteError(error));
  }
}

/** @throws SwarmError failed_precondition */
export function refuseUnsafeSqlite(version: string): void {
  const parts = version.split(".").map(Number);
  for (const [index, least] of SQLITE_VERSION_MIN.entries()) {
    const part = parts[index] ?? 0;
    if (part > least) return;
    if (part < least) {
      throw new SwarmError("failed_precondition", `SQLite ${version} can corrupt a database that several processes write.`, {
        hint: `Use a Node.js that carries SQLite ${SQLITE_VERSION_MIN.join(".")} or newer: 22.23, 24.15, 26 or later.`,
      });
    }
  }
}

function connect(path: string, { durability }: OpenFileOptions): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 0 });
  try {
    const row = db.prepare("SELECT sqlite_version() AS version").get();
    refuseUnsafeSqlite(String(row?.version));
    db.exec(
      `PRAGMA synchronous=${durability === "full" ? "FULL" : "NORMAL"};
       PRAGMA wal_autocheckpoint=0;
       PRAGMA trusted_schema=OFF;`,
    );
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function isSetUp(db: DatabaseSync): boolean {
  const mode = db.prepare("PRAGMA journal_mode").get()?.journal_mode;
  const parts = db
    .prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name IN ('keyv', 'keyv_foreign_write', 'keyv_text', 'keyv_words')")
    .get()?.n;
  return mode === "wal" && parts === 4 && readFormat(db) !== undefined;
}

function setUp(db: DatabaseSync): void {
  if (isSetUp(db)) return; // another process was first
  const columns = db.prepare("SELECT name FROM pragma_table_info('keyv')").all();
  if (columns.length > 0 && !columns.some(({ name }) => name === "rev")) {
    throw new SwarmError("failed_precondition", "The file holds a Keyv table that another program made.", {
      hint: "Set SWARM_STORE to a file of its own.",
    });
  }
  db.exec(`PRAGMA page_size=${PAGE_BYTES}`);
  db.exec("PRAGMA journal_mode=WAL");
  db.exec("BEGIN IMMEDIATE");
  try {
    db.exec(SCHEMA + TEXT_SCHEMA);
    new TextIndex(db).mendAll(); // a file of an older version may hold texts
    const { namespace, rest: key } = FORMAT_ROW;
    const text = encodeValue({ reader: FORMAT, writer: FORMAT }, undefined);
    db.prepare("INSERT OR IGNORE INTO keyv(namespace, key, value, sum) VALUES(?, ?, ?, ?)").run(
      namespace,
      key,
      text,
      checksum(namespace, key, text),
    );
    db.exec("COMMIT");
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

/** The text of the record `meta/format`. */
function readFormat(db: DatabaseSync): string | undefined {
  const row = db.prepare("SELECT value FROM keyv WHERE namespace = ? AND key = ?").get(FORMAT_ROW.namespace, FORMAT_ROW.rest);
  return row === undefined ? undefined : String(row.value);
}

function refuseNewerReader(db: DatabaseSync): void {
  const text = readFormat(db);
  assert(text !== undefined, "a store that is set up has its format record");
  refuseNewerFormat(text, "reader", FORMAT);
}

/** A folder of ours is for its user alone; one that exists is left as it is. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new SwarmError("unavailable", "The folder of the store could not be made.", {
      hint: "Give this user write permission there, or set SWARM_STORE to another place.",
      retryable: false,
      cause: error,
    });
  }
}

/**
 * Makes an empty file that only its user may read, before anything is in it; SQLite gives -wal and -shm the same mode. A file
 * that exists is not opened: closing any descriptor of a file frees all locks that the process has on it (fcntl(2)).
 */
export function makePrivate(path: string): void {
  try {
    if (!existsSync(path)) closeSync(openSync(path, "a", 0o600));
  } catch (error) {
    throw new SwarmError("unavailable", "The store's file could not be made.", {
      hint: "Give this user write permission in its folder, or set SWARM_STORE to another place.",
      retryable: false,
      cause: error,
    });
  }
  tighten(path);
}

function tighten(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat && (stat.mode & 0o077) !== 0 && process.getuid?.() === stat.uid) chmodSync(path, 0o600);
}
