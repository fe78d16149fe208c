import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { SwarmError } from "@mcp-swarm/core";
import { type Entry, SCAN_LIMIT_MAX, type Snapshot, type Store } from "./contract.ts";
import { FORMAT_KEY, refuseNewerFormat } from "./format.ts";
import { NAMESPACE, splitKey } from "./keys.ts";
import { openStore, sqlitePath } from "./open.ts";
import { shownPostgresUrl } from "./postgres-url.ts";
import { checksum, decodeValue, encodeValue } from "./row.ts";
import { isBusy, isDamage, sqliteError } from "./sqlite-errors.ts";
import { FORMAT, inUse, makePrivate, Presence, withLockRetry } from "./sqlite-file.ts";
import { outOfStep } from "./sqlite-text.ts";

/** Rows that one transaction of a copy writes. */
const COPY_PAGE = 500;
/** Expired rows that one call of the engine's sweep removes. */
const SWEEP_PAGE = 10_000;
/** Most problems that a check names; it counts them all. */
export const PROBLEMS_MAX = 100;

/** Removes what a server keeps no longer than its retention; answers how many records went. */
export interface Sweeper {
  name: string;
  sweep(store: Store): Promise<number>;
}

// ── where ──

export interface Place {
  engine: string;
  /** Without passwords. */
  location: string;
  /** SQLite alone: whether the file is there, and its size with its log. */
  exists?: boolean;
  bytes?: number;
}

/** Where a store's data is. Opens nothing. @throws SwarmError invalid_argument */
export function where(url: string): Place {
  if (url.startsWith("sqlite:")) {
    const path = sqlitePath(url);
    const sizes = [path, `${path}-wal`].map((file) => statSync(file, { throwIfNoEntry: false })?.size ?? 0);
    return { engine: "sqlite", location: `sqlite:${path}`, exists: existsSync(path), bytes: sizes.reduce((a, b) => a + b) };
  }
  if (/^postgres(ql)?:/.test(url)) return { engine: "postgres", location: shownPostgresUrl(url) };
  if (url === "memory:") return { engine: "memory", location: url };
  throw new SwarmError("invalid_argument", "The store's URL begins with no scheme that is known.", {
    hint: "Write sqlite:<path>, postgres://… or memory:.",
  });
}

// ── check ──

export interface CheckReport {
  location: string;
  rows: number;
  /** Rows without a checksum: written by a plain Keyv or by hand. */
  unsigned: number;
  problemCount: number;
  /** The first PROBLEMS_MAX, each in words. */
  problems: string[];
  /** SQLite alone: texts that another program wrote or deleted, so that search does not know them as they are. A sweep mends it. */
  outOfStep?: number;
}

/**
 * Reads every row and compares its checksum; on SQLite also the structure of the file. May run while the store is in use.
 * @throws SwarmError not_found when there is no such store
 */
export async function check(url: string): Promise<CheckReport> {
  if (url.startsWith("sqlite:")) return await checkFile(sqlitePath(url));
  return await using(url, async (store) => {
    const report: CheckReport = { location: store.location, rows: 0, unsigned: 0, problemCount: 0, problems: [] };
    await store.snapshot(async (view) => {
      for (const namespace of await view.namespaces()) {
        try {
          for await (const page of pages(view, namespace)) report.rows += page.length;
        } catch (error) {
          note(report, `${namespace}: ${sqliteError(error).message}`);
        }
      }
    });
    return report;
  });
}

async function checkFile(path: string): Promise<CheckReport> {
  mustExist(path);
  return await withLockRetry(() => {
    const report: CheckReport = { location: `sqlite:${path}`, rows: 0, unsigned: 0, problemCount: 0, problems: [] };
    const db = new DatabaseSync(path, { timeout: 0, readOnly: true });
    try {
      const { namespace, rest } = splitKey(FORMAT_KEY);
      const format = db.prepare("SELECT value FROM keyv WHERE namespace = ? AND key = ?").get(namespace, rest);
      if (!format) note(report, "The format record is missing.");
      else refuseNewerFormat(String(format.value), "reader", FORMAT);
      for (const row of db.prepare(`PRAGMA integrity_check(${PROBLEMS_MAX})`).iterate()) {
        if (row.integrity_check !== "ok") note(report, String(row.integrity_check));
      }
      for (const row of db.prepare("SELECT namespace, key, value, expires, sum FROM keyv").iterate()) {
        report.rows += 1;
        if (row.sum === null) report.unsigned += 1;
        const problem = rowProblem(String(row.namespace), String(row.key), row.value, row.expires, row.sum);
        if (problem) note(report, `${row.namespace}/${row.key}: ${problem}`);
      }
      report.outOfStep = outOfStep(db);
    } catch (error) {
      if (isBusy(error)) throw error;
      if (error instanceof SwarmError) throw error;
      if (!isDamage(error) && !/no such (table|column)/.test(String(error))) throw error;
      note(report, isDamage(error) ? "The file is damaged or is no SQLite database." : "The file holds no store.");
    } finally {
      db.close();
    }
    return report;
  });
}

function rowProblem(namespace: string, key: string, text: unknown, expires: unknown, sum: unknown): string | undefined {
  if (typeof text !== "string") return "has no value";
  if (sum !== null && checksum(namespace, key, text) !== sum) return "fails its checksum";
  try {
    decodeValue(text);
  } catch {
    return "is not JSON";
  }
  // the time of expiry is in the text too, under the checksum
  const told: unknown = Reflect.get(JSON.parse(text), "expires");
  return sum !== null && (told ?? null) !== expires ? "has a changed time of expiry" : undefined;
}

function note(report: CheckReport, problem: string): void {
  report.problemCount += 1;
  if (report.problems.length < PROBLEMS_MAX) report.problems.push(problem);
}

// ── backup and restore ──

export interface BackupReport {
  file: string;
  rows: number;
  bytes: number;
}

/**
 * Writes a verified copy of the store, as a SQLite database, to a new file; the store may be in use meanwhile.
 * @throws SwarmError already_exists, not_found, failed_precondition when the copy does not verify
 */
export async function backup(url: string, file: string): Promise<BackupReport> {
  const target = resolve(file);
  if (existsSync(target)) {
    throw new SwarmError("already_exists", "The file for the backup exists.", { hint: "Name a new file, or remove that one." });
  }
  const partial = `${target}.partial`;
  removeDatabase(partial);
  try {
    if (url.startsWith("sqlite:")) await vacuumInto(sqlitePath(url), partial);
    else await copy(url, `sqlite:${partial}`);
    const report = await mustVerify(partial, "The backup does not verify and was removed.");
    syncFile(partial);
    renameSync(partial, target);
    syncFolder(dirname(target));
    return { file: target, rows: report.rows, bytes: statSync(target).size };
  } finally {
    removeDatabase(partial);
  }
}

async function vacuumInto(path: string, target: string): Promise<void> {
  mustExist(path);
  makePrivate(target);
  await withLockRetry(() => {
    const db = new DatabaseSync(path, { timeout: 0 });
    try {
      db.prepare("VACUUM INTO ?").run(target);
    } finally {
      db.close();
    }
  });
}

export interface RestoreReport {
  location: string;
  rows: number;
  /** Where what was replaced is kept; the next restore replaces it. */
  replaced?: string;
}

/**
 * Puts a backup in a store's place. The backup is verified first, and nothing may have the store open: the lock file tells
 * of every process of ours, and SQLite's own exclusive lock of any other program.
 * @throws SwarmError failed_precondition when the store is in use, the backup is damaged or the store is not a SQLite file
 */
export async function restore(file: string, url: string): Promise<RestoreReport> {
  if (!url.startsWith("sqlite:")) {
    throw new SwarmError("failed_precondition", "Only a SQLite store is restored in place.", {
      hint: "Make an empty PostgreSQL database, then run `mcp-swarm-store copy sqlite:<backup> <url>`.",
    });
  }
  const path = sqlitePath(url);
  await mustVerify(resolve(file), "The backup is damaged; the store was left as it is.");
  const fresh = `${path}.new`;
  const kept = `${path}.bak`;
  const presence = Presence.alone(path);
  let old: DatabaseSync | undefined;
  try {
    old = holdOld(path);
    removeDatabase(fresh);
    await vacuumInto(resolve(file), fresh); // with the backup's log, should it have one
    syncFile(fresh);
    const replaced = existsSync(path);
    if (replaced) {
      removeDatabase(kept);
      for (const suffix of ["-wal", "-shm", ""]) if (existsSync(path + suffix)) renameSync(path + suffix, kept + suffix);
    }
    try {
      renameSync(fresh, path);
      syncFolder(dirname(path));
      const report = await mustVerify(path, "The restored file does not verify; the store was put back as it was.");
      return { location: `sqlite:${path}`, rows: report.rows, ...(replaced ? { replaced: kept } : {}) };
    } catch (error) {
      removeDatabase(path);
      for (const suffix of ["", "-wal", "-shm"]) if (existsSync(kept + suffix)) renameSync(kept + suffix, path + suffix);
      throw error;
    }
  } finally {
    old?.close();
    removeDatabase(fresh);
    presence.leave();
  }
}

/**
 * Locks the present file against every other program, which also moves its log into it. A damaged file cannot be locked so;
 * it is replaced all the same, under our own lock.
 */
function holdOld(path: string): DatabaseSync | undefined {
  if (!existsSync(path)) return undefined;
  const db = new DatabaseSync(path, { timeout: 0 });
  try {
    db.exec("PRAGMA locking_mode=EXCLUSIVE");
    db.exec("PRAGMA journal_mode=DELETE"); // fails as busy while any connection has the WAL database open
    db.exec("BEGIN EXCLUSIVE");
    return db;
  } catch (error) {
    db.close();
    if (isBusy(error)) throw inUse(error);
    if (isDamage(error)) return undefined;
    throw sqliteError(error);
  }
}

// ── copy ──

export interface CopyReport {
  from: string;
  to: string;
  rows: number;
  /** Namespaces that a plain Keyv made and that are none of the store's, so that it cannot address their rows. */
  leftOut: string[];
}

/**
 * Copies every live entry, its expiry included, from one snapshot of a store into an empty one of any engine. Each page is
 * read back and compared; at the end the counts are.
 * @throws SwarmError failed_precondition when the target is not empty, internal when it does not hold what was written
 */
export async function copy(fromUrl: string, toUrl: string): Promise<CopyReport> {
  if (where(fromUrl).location === where(toUrl).location) {
    throw new SwarmError("invalid_argument", "The store to copy from is the one to copy to.", { hint: "Name two stores." });
  }
  if (fromUrl.startsWith("sqlite:")) mustExist(sqlitePath(fromUrl));
  return await using(fromUrl, (source) => using(toUrl, (target) => copyStore(source, target)));
}

/** The same between stores that are open. */
export async function copyStore(source: Store, target: Store): Promise<CopyReport> {
  if ((await count(target)) > 0) {
    throw new SwarmError("failed_precondition", "The store to copy to is not empty; nothing was copied.", {
      hint: "Name a new file or an empty database.",
    });
  }
  let rows = 0;
  const expiring: number[] = [];
  const leftOut: string[] = [];
  await source.snapshot(async (view) => {
    for (const namespace of await view.namespaces()) {
      if (!NAMESPACE.test(namespace)) {
        leftOut.push(namespace);
        continue;
      }
      for await (const page of pages(view, namespace)) {
        const written = await writePage(target, page.filter(isData));
        rows += written.length;
        for (const { expiresAt } of written) if (expiresAt !== undefined) expiring.push(expiresAt);
      }
    }
  });
  const held = await count(target);
  const now = await target.now();
  const expired = expiring.filter((at) => at <= now).length;
  if (held > rows || held < rows - expired) {
    throw new SwarmError("internal", `Of ${rows} entries the target holds ${held}.`, {
      hint: "Let nothing use the target while it is filled; empty it and copy again.",
    });
  }
  return { from: source.location, to: target.location, rows, leftOut };
}

/** Writes entries and reads them back. Answers those that were written: what has expired by now is not. */
async function writePage(target: Store, page: readonly Entry[]): Promise<Entry[]> {
  const written = await target.transact((tx) => {
    const live = page.filter(({ expiresAt }) => expiresAt === undefined || expiresAt > tx.now);
    for (const { key, value, expiresAt } of live) {
      tx.put(key, value, expiresAt === undefined ? {} : { ttlMs: expiresAt - tx.now });
    }
    return live;
  });
  const held = await target.getMany(written.map(({ key }) => key));
  const now = await target.now();
  for (const [index, { key, value, expiresAt }] of written.entries()) {
    const found = held[index];
    if (!found && expiresAt !== undefined && expiresAt <= now) continue;
    if (!found || found.expiresAt !== expiresAt || encodeValue(found.value, undefined) !== encodeValue(value, undefined)) {
      throw new SwarmError("internal", `The target does not hold what was written under ${key.slice(0, key.indexOf("/"))}.`, {
        hint: "Let nothing use the target while it is filled; empty it and copy again.",
      });
    }
  }
  return written;
}

async function count(store: Store): Promise<number> {
  return await store.snapshot(async (view) => {
    let rows = 0;
    for (const namespace of (await view.namespaces()).filter((name) => NAMESPACE.test(name))) {
      for await (const page of pages(view, namespace)) rows += page.filter(isData).length;
    }
    return rows;
  });
}

/** Every store has a format record of its own. */
function isData({ key }: Entry): boolean {
  return key !== FORMAT_KEY;
}

async function* pages(view: Snapshot, namespace: string): AsyncGenerator<Entry[]> {
  const limit = Math.min(COPY_PAGE, SCAN_LIMIT_MAX);
  for (let from = `${namespace}/`; ; ) {
    const page = await view.scan({ from, before: `${namespace}0`, limit });
    const last = page.at(-1);
    if (last) yield page;
    if (!last || page.length < limit) return;
    from = `${last.key}\0`;
  }
}

// ── sweep ──

export interface SweepReport {
  expired: number;
  /** Texts that another program wrote or deleted past the index of words, which is in step with them now. */
  reindexed: number;
  /** Sweeper → records removed. */
  retained: Record<string, number>;
}

/** Removes expired rows, and what the sweepers given find to be past its retention. */
export async function sweep(url: string, sweepers: readonly Sweeper[] = []): Promise<SweepReport> {
  if (url.startsWith("sqlite:")) mustExist(sqlitePath(url));
  return await using(url, async (store) => {
    const report: SweepReport = { expired: 0, reindexed: 0, retained: {} };
    for (let removed = SWEEP_PAGE; removed === SWEEP_PAGE; report.expired += removed) removed = await store.sweep(SWEEP_PAGE);
    if (url.startsWith("sqlite:")) {
      const { SqliteStore } = await import("./sqlite.ts");
      if (store instanceof SqliteStore) report.reindexed = await store.mendIndex();
    }
    for (const sweeper of sweepers) report.retained[sweeper.name] = await sweeper.sweep(store);
    return report;
  });
}

// ── inside ──

async function using<T>(url: string, use: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore(url);
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

function mustExist(path: string): void {
  if (existsSync(path)) return;
  throw new SwarmError("not_found", "There is no store at that path.", {
    hint: "Look at the path with `mcp-swarm-store where`; a store is made when a server first uses it.",
  });
}

async function mustVerify(path: string, otherwise: string): Promise<CheckReport> {
  const report = await checkFile(path);
  if (report.problemCount === 0) return report;
  throw new SwarmError("failed_precondition", otherwise, {
    hint: `Run \`mcp-swarm-store --store sqlite:<file> check\` to see what is wrong.`,
    cause: report.problems,
  });
}

function removeDatabase(path: string): void {
  for (const suffix of ["", "-wal", "-shm", "-journal", "-lock", "-wake"]) rmSync(path + suffix, { force: true });
}

function syncFile(path: string): void {
  const file = openSync(path, "r+");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Makes a rename last: POSIX keeps names in the folder. Windows has no such call for folders and does it by itself. */
function syncFolder(path: string): void {
  if (process.platform === "win32") return;
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
