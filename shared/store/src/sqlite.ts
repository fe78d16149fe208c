import { DatabaseSync, type StatementSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { assert, type Clock, type Json, SwarmError, systemClock } from "@mcp-swarm/core";
import type { Keyv } from "keyv";
import type { Entry, KeyRange, Snapshot, Store, TextQuery, Transaction } from "./contract.ts";
import { FORMAT_KEY, refuseNewerFormat } from "./format.ts";
import { splitKey, splitRange } from "./keys.ts";
import type { Mounts } from "./local-disk.ts";
import { checksum, decodeValue, encodeValue, expiry } from "./row.ts";
import { type ParsedQuery, parseQuery, TEXT_NAMESPACE } from "./search.ts";
import type { SqlViews } from "./sql-views.ts";
import { damaged, isBusy, sqliteError } from "./sqlite-errors.ts";
import { FORMAT, fileIdentity, LOCK_WAIT_MS_MAX, type OpenFile, openFile, withLockRetry } from "./sqlite-file.ts";
import { keyvOverSqlite } from "./sqlite-keyv.ts";
import { TextIndex } from "./sqlite-text.ts";
import { Wake } from "./wake.ts";

/** Most transactions that share one commit, and the longest that one batch runs plans before it commits. */
const BATCH_MAX = 256;
const BATCH_MS_MAX = 10;

/** Most transactions of one process that wait for the lock; more are refused. */
const QUEUE_MAX = 20_000;

/**
 * How a lock that another process holds is waited for. A commit takes a fraction of a millisecond, which no timer of Node's
 * can wait, so the first tries are a short sleep of the thread apart; later ones let the event loop go on. All pauses are
 * random: processes that march in step starve one another.
 */
const NAPS_MAX = 6;
const NAP_MS = { least: 0.05, spread: 0.25 };
const RETRY_MS_MAX = 4;

/**
 * When the log is copied into the file, in pages. SQLite's own rule copies at each commit beyond 1,000 pages, and beside
 * other processes the log seldom starts anew, so that in the end every commit paid for two more syncs. Ours copies what has
 * come since the last copy, and makes the log start anew when it is long.
 */
const COPY_PAGES = 1_000;
const RESTART_PAGES = 4_000;
/** Tries to find a moment in which no other process reads the log. */
const RESTART_TRIES = 8;

/** How many rows one commit of a sweep removes. */
const SWEEP_BATCH = 500;

export interface SqliteOptions {
  /** `full` (default): an acknowledged commit survives power loss. `normal`: it survives the end of every process. */
  durability?: "full" | "normal";
  clock?: Clock;
  /** The file systems of this machine, for tests. */
  mounts?: Mounts;
  views?: SqlViews;
}

/** Work that waits for the write lock. */
interface Job {
  /** Runs inside the transaction. */
  run(): unknown;
  resolve(outcome: unknown): void;
  reject(error: unknown): void;
  /** By `performance.now()`. */
  deadline: number;
}

const FORMAT_ROW = [splitKey(FORMAT_KEY).namespace, splitKey(FORMAT_KEY).rest] as const;

/** Columns in the order that every read selects them. */
type RowColumns = [key: string, value: string | null, rev: number, sum: number | null, expires: number | null];

/** @throws SwarmError unavailable, failed_precondition (unsafe SQLite, network drive, newer format) */
export async function openSqlite(path: string, options: SqliteOptions = {}): Promise<SqliteStore> {
  const file = await openFile(path, { durability: options.durability ?? "full", mounts: options.mounts, views: options.views });
  return new SqliteStore(path, file, options.clock ?? systemClock);
}

/**
 * One file of SQLite, shared by any number of processes of one machine. Writers take turns: a transaction waits for the
 * lock without blocking the event loop, and all that wait in one process share one commit.
 */
export class SqliteStore implements Store {
  readonly engine = "sqlite";
  readonly location: string;
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #presence: OpenFile["presence"];
  readonly #identity: OpenFile["identity"];
  readonly #clock: Clock;
  readonly #rows: Rows;
  readonly #log: Log;
  readonly #wake: Wake;
  readonly #queue: Job[] = [];
  #draining: Promise<void> | undefined;
  #lastNow = 0;
  #closed = false;

  constructor(path: string, { db, presence, identity }: OpenFile, clock: Clock) {
    this.location = `sqlite:${path}`;
    this.#path = path;
    this.#db = db;
    this.#presence = presence;
    this.#identity = identity;
    this.#clock = clock;
    this.#rows = new Rows(db);
    this.#log = new Log(db);
    const dataVersion = db.prepare("PRAGMA data_version");
    this.#wake = new Wake(`${path}-wake`, () => {
      try {
        return Number(dataVersion.get()?.data_version);
      } catch {
        return Number.NaN; // differs from everything: the waiters wake, and see the failure when they read
      }
    });
  }

  async transact<T>(plan: (tx: Transaction) => T): Promise<T> {
    return await this.#enqueue(() => {
      const tx = new SqliteTransaction(this.#rows, this.#tick());
      try {
        return plan(tx);
      } finally {
        tx.over = true;
      }
    });
  }

  async get(key: string): Promise<Entry | undefined> {
    const { namespace, rest } = splitKey(key);
    return await this.#read(() => this.#rows.get(key, namespace, rest, this.#tick()));
  }

  async getMany(keys: readonly string[]): Promise<(Entry | undefined)[]> {
    const wanted = keys.map((key) => ({ key, ...splitKey(key) }));
    return await this.#read(() => {
      const now = this.#tick();
      this.#db.exec("BEGIN"); // one snapshot
      try {
        return wanted.map(({ key, namespace, rest }) => this.#rows.get(key, namespace, rest, now));
      } finally {
        if (this.#db.isTransaction) this.#db.exec("COMMIT"); // some failures end it
      }
    });
  }

  async scan(range: KeyRange): Promise<Entry[]> {
    splitRange(range);
    return await this.#read(() => this.#rows.scan(range, this.#tick()));
  }

  async search(query: TextQuery): Promise<Entry[]> {
    const parsed = parseQuery(query);
    return await this.#read(() => this.#rows.search(parsed, this.#tick()));
  }

  watch(prefix: string, wake: () => void): Disposable {
    this.#mustBeOpen();
    return this.#wake.watch(prefix, wake);
  }

  async now(): Promise<number> {
    this.#mustBeOpen();
    return this.#tick();
  }

  keyv(namespace: string): Keyv {
    this.#mustBeOpen();
    splitKey(`${namespace}/`);
    return keyvOverSqlite(namespace, {
      read: async (sql, parameters) => await this.#read(() => this.#db.prepare(sql).all(...parameters)),
      write: async (sql, parameters) =>
        await this.#enqueue(() => {
          this.#rows.beforeWrite();
          this.#rows.written = undefined; // the statement is not ours: nobody knows which keys it touches
          const answer = this.#db.prepare(sql).all(...parameters);
          if (namespace === TEXT_NAMESPACE) this.#rows.text.mendAll();
          return answer;
        }),
      now: () => this.#tick(),
    });
  }

  async snapshot<T>(read: (view: Snapshot) => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    this.#mustBeThere(); // a connection of its own would open, or make, whatever is there instead
    const db = new DatabaseSync(this.#path, { timeout: 0 });
    try {
      const rows = new Rows(db);
      await withLockRetry(() => {
        if (!db.isTransaction) db.exec("BEGIN");
        rows.namespaces(); // the first read takes the snapshot
      });
      const now = this.#tick();
      return await read({
        namespaces: () => withLockRetry(() => rows.namespaces()),
        scan: (range) => withLockRetry(() => rows.scan(range, now)),
      });
    } finally {
      db.close();
    }
  }

  async sweep(limit: number): Promise<number> {
    const now = this.#tick();
    const expired = await this.#read(() => this.#rows.expired(now, limit));
    let removed = 0;
    for (let start = 0; start < expired.length; start += SWEEP_BATCH) {
      const batch = expired.slice(start, start + SWEEP_BATCH);
      removed += await this.#enqueue(() => batch.reduce((sum, row) => sum + this.#rows.removeExpired(row, now), 0));
    }
    return removed;
  }

  /** Brings the index of words in step with rows that another program wrote into the file. Answers how many there were. */
  async mendIndex(): Promise<number> {
    let total = 0;
    for (let next: string | undefined = ""; next !== undefined; ) {
      const after: string = next;
      const done = await this.#enqueue(() => {
        this.#rows.beforeWrite();
        return this.#rows.text.mend(after);
      });
      total += done.mended;
      next = done.next;
    }
    return total;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true; // no more is taken in; what waits is finished
    await this.#draining;
    this.#wake.close();
    this.#db.close();
    this.#presence.leave();
  }

  // ── inside ──

  #mustBeOpen(): void {
    if (this.#closed) throw new SwarmError("unavailable", "The store is closed.");
  }

  /**
   * The system lets a file be deleted or replaced while it is open. What is written then goes with the file that nobody else
   * will ever see.
   */
  #mustBeThere(): void {
    if (fileIdentity(this.#path) === this.#identity) return;
    throw new SwarmError("unavailable", "The store's file was deleted or replaced while it was open; nothing was written.", {
      hint: "Restart this server in its host, so that it opens the store anew. What was in the deleted file is in a backup at best.",
      retryable: false,
    });
  }

  #tick(): number {
    this.#lastNow = Math.max(this.#lastNow, this.#clock.now());
    return this.#lastNow;
  }

  /** A read waits for no writer; only a log that is being recovered can make it try again. */
  async #read<T>(read: () => T): Promise<T> {
    return await withLockRetry(() => {
      this.#mustBeOpen();
      this.#mustBeThere();
      return read();
    });
  }

  #enqueue<T>(run: () => T): Promise<T> {
    this.#mustBeOpen();
    if (this.#queue.length >= QUEUE_MAX) {
      throw new SwarmError("unavailable", `More than ${QUEUE_MAX} transactions of this process wait for the store.`, {
        hint: "Send fewer calls at once, then try again.",
      });
    }
    return new Promise<T>((resolve, reject) => {
      const deadline = performance.now() + LOCK_WAIT_MS_MAX;
      this.#queue.push({ run, resolve: resolve as (outcome: unknown) => void, reject, deadline });
      this.#draining ??= this.#drain();
    });
  }

  async #drain(): Promise<void> {
    let attempts = 0;
    while (this.#queue.length > 0) {
      // a turn later, so that all callers of this turn share the commit
      if (attempts === 0) await new Promise(setImmediate);
      else if (attempts <= NAPS_MAX) nap();
      else await sleep(Math.random() * Math.min(attempts - NAPS_MAX, RETRY_MS_MAX));
      attempts = this.#commitBatch() ? 0 : attempts + 1;
    }
    this.#draining = undefined;
  }

  /** Runs and commits what waits. False when another process holds the lock; then all but the overdue still wait. */
  #commitBatch(): boolean {
    try {
      this.#mustBeThere();
      this.#rows.begin.run();
    } catch (error) {
      const now = performance.now();
      const failed = isBusy(error) ? this.#takeOverdue(now) : this.#queue.splice(0);
      for (const job of failed) job.reject(sqliteError(error));
      return !isBusy(error);
    }
    const done: { job: Job; outcome: unknown }[] = [];
    const refused: { job: Job; error: unknown }[] = [];
    try {
      this.#rows.startBatch();
      const until = performance.now() + BATCH_MS_MAX;
      while (done.length + refused.length < BATCH_MAX && performance.now() < until) {
        const job = this.#queue.shift();
        if (!job) break;
        this.#rows.startJob(done.length + refused.length + this.#queue.length === 0);
        try {
          done.push({ job, outcome: job.run() });
        } catch (error) {
          refused.push({ job, error });
          // after some failures (disk full, I/O) the engine has taken everything back: nothing of this batch can stay
          if (!this.#db.isTransaction) throw error;
          if (this.#rows.dropJob()) continue;
          break;
        }
        assert(this.#db.isTransaction, "a plan lets the engine's errors pass");
        this.#rows.keepJob();
      }
      if (this.#rows.changed) this.#rows.commit.run();
      else this.#rows.rollback.run();
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      const failed = sqliteError(error);
      if (done.length + refused.length === 0) done.push(...this.#queue.splice(0).map((job) => ({ job, outcome: undefined })));
      for (const { job } of done) job.reject(failed);
      for (const { job, error: own } of refused) job.reject(planError(own));
      return true;
    }
    if (this.#rows.changed) this.#wake.committed(this.#rows.written);
    for (const { job, outcome } of done) job.resolve(outcome);
    for (const { job, error } of refused) job.reject(planError(error));
    if (this.#rows.changed) this.#log.tidy();
    return true;
  }

  #takeOverdue(now: number): Job[] {
    const waiting = this.#queue.findIndex(({ deadline }) => deadline > now);
    return this.#queue.splice(0, waiting < 0 ? this.#queue.length : waiting);
  }
}

/** What a plan threw is its own; what the engine threw inside it is put in words. */
function planError(error: unknown): unknown {
  return error instanceof Error && "errcode" in error ? sqliteError(error) : error;
}

const NEVER_NOTIFIED = new Int32Array(new SharedArrayBuffer(4));

/** Sleeps for less than a millisecond, the whole thread. */
function nap(): void {
  Atomics.wait(NEVER_NOTIFIED, 0, 0, NAP_MS.least + Math.random() * NAP_MS.spread);
}

/** The write-ahead log, kept short. */
class Log {
  readonly #look: StatementSync;
  readonly #copy: StatementSync;
  readonly #restart: StatementSync;

  constructor(db: DatabaseSync) {
    const checkpoint = (mode: string): StatementSync => {
      const statement = db.prepare(`PRAGMA wal_checkpoint(${mode})`);
      statement.setReturnArrays(true);
      return statement;
    };
    this.#look = checkpoint("NOOP"); // 1.5 µs
    this.#copy = checkpoint("PASSIVE");
    this.#restart = checkpoint("RESTART");
  }

  /**
   * Copies the log's pages into the file when enough have come. A failure is of no account to the commit before it, which is
   * in the log: the next one tries again, and what is wrong with the disk shows there.
   */
  tidy(): void {
    try {
      const [, pages, copied] = this.#run(this.#look);
      if (pages >= RESTART_PAGES) {
        for (let tries = 0; tries < RESTART_TRIES && this.#run(this.#restart)[0] !== 0; tries++) nap();
      } else if (pages - copied >= COPY_PAGES) {
        this.#run(this.#copy);
      }
    } catch {
      return;
    }
  }

  #run(checkpoint: StatementSync): [busy: number, pages: number, copied: number] {
    return checkpoint.get() as unknown as [number, number, number];
  }
}

/** The statements, prepared once, and what the batch under way has written. */
class Rows {
  readonly begin: StatementSync;
  readonly commit: StatementSync;
  readonly rollback: StatementSync;
  /** Whether the batch wrote, and which keys; undefined when that is not known. */
  changed = false;
  written: string[] | undefined = [];
  readonly #one: StatementSync;
  readonly #forward: StatementSync;
  readonly #forwardToEnd: StatementSync;
  readonly #reverse: StatementSync;
  readonly #reverseFromEnd: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #formatRev: StatementSync;
  readonly #nextNamespace: StatementSync;
  readonly #expired: StatementSync;
  readonly #deleteExpired: StatementSync;
  readonly #savepoint: StatementSync;
  readonly #release: StatementSync;
  readonly #rollbackTo: StatementSync;
  readonly text: TextIndex;
  /** Whether the job under way has its batch to itself, so that the transaction is its savepoint. */
  #alone = false;
  /** Whether it has written, and so has a savepoint. */
  #saved = false;
  #knownFormat: number | undefined;

  constructor(db: DatabaseSync) {
    const rows = (sql: string): StatementSync => {
      const statement = db.prepare(sql);
      statement.setReturnArrays(true);
      return statement;
    };
    const columns = "SELECT key, value, rev, sum, expires FROM keyv WHERE namespace = ?";
    const live = "AND (expires IS NULL OR expires > ?)";
    // `LIMIT ? + 0`: for a bare `LIMIT ?` SQLite plans the statement anew whenever the number is bound, which takes 4 µs
    this.begin = db.prepare("BEGIN IMMEDIATE");
    this.commit = db.prepare("COMMIT");
    this.rollback = db.prepare("ROLLBACK");
    this.#one = rows(`${columns} AND key = ? ${live}`);
    this.#forward = rows(`${columns} AND key >= ? AND key < ? ${live} ORDER BY key LIMIT ? + 0`);
    this.#forwardToEnd = rows(`${columns} AND key >= ? ${live} ORDER BY key LIMIT ? + 0`);
    this.#reverse = rows(`${columns} AND key >= ? AND key < ? ${live} ORDER BY key DESC LIMIT ? + 0`);
    this.#reverseFromEnd = rows(`${columns} AND key >= ? ${live} ORDER BY key DESC LIMIT ? + 0`);
    this.#put = db.prepare("REPLACE INTO keyv(namespace, key, value, expires, rev, sum) VALUES(?, ?, ?, ?, ?, ?)");
    this.#delete = db.prepare("DELETE FROM keyv WHERE namespace = ? AND key = ?");
    this.#formatRev = rows("SELECT rev, value FROM keyv WHERE namespace = ? AND key = ?");
    this.#nextNamespace = rows("SELECT min(namespace) FROM keyv WHERE namespace > ?");
    this.#expired = rows("SELECT namespace, key FROM keyv WHERE expires IS NOT NULL AND expires <= ? LIMIT ? + 0");
    this.#deleteExpired = db.prepare("DELETE FROM keyv WHERE namespace = ? AND key = ? AND expires <= ?");
    this.#savepoint = db.prepare("SAVEPOINT job");
    this.#release = db.prepare("RELEASE job");
    this.#rollbackTo = db.prepare("ROLLBACK TO job");
    this.text = new TextIndex(db);
  }

  // ── a batch and its jobs ──

  /** @throws SwarmError failed_precondition when the store has moved to a format that this program may not write */
  startBatch(): void {
    this.changed = false;
    this.written = [];
    const row = this.#formatRev.get(...FORMAT_ROW) as unknown as [number, string] | undefined;
    if (!row) throw damaged("The store has lost its format record.");
    if (row[0] === this.#knownFormat) return;
    refuseNewerFormat(row[1], "writer", FORMAT);
    this.#knownFormat = row[0];
  }

  startJob(alone: boolean): void {
    this.#alone = alone;
    this.#saved = false;
  }

  /** To be called before a job writes: what it wrote can then be taken back without the rest of its batch. */
  beforeWrite(): void {
    this.changed = true;
    if (this.#saved || this.#alone) return;
    this.#savepoint.run();
    this.#saved = true;
  }

  keepJob(): void {
    if (this.#saved) this.#release.run();
  }

  /** Takes back what the job wrote. False when that takes the whole batch back, so that no other job may join it. */
  dropJob(): boolean {
    if (this.#alone) this.changed = false;
    if (this.#saved) {
      this.#rollbackTo.run();
      this.#release.run();
    }
    return !this.#alone;
  }

  // ── rows ──

  get(key: string, namespace: string, rest: string, now: number): Entry | undefined {
    const row = this.#one.get(namespace, rest, now) as unknown as RowColumns | undefined;
    return row && entry(key, namespace, row);
  }

  scan(range: KeyRange, now: number): Entry[] {
    const { namespace, from, before } = splitRange(range);
    const rows =
      before === undefined
        ? (range.reverse ? this.#reverseFromEnd : this.#forwardToEnd).all(namespace, from, now, range.limit)
        : (range.reverse ? this.#reverse : this.#forward).all(namespace, from, before, now, range.limit);
    return (rows as unknown as RowColumns[]).map((row) => entry(`${namespace}/${row[0]}`, namespace, row));
  }

  put(key: string, value: Json, expiresAt: number | undefined): void {
    const { namespace, rest } = splitKey(key);
    const text = encodeValue(value, expiresAt);
    this.beforeWrite();
    const rev = freshRev();
    this.#put.run(namespace, rest, text, expiresAt ?? null, rev, checksum(namespace, rest, text));
    if (namespace === TEXT_NAMESPACE) this.text.put(rest, value, rev);
    this.written?.push(key);
  }

  delete(key: string): void {
    const { namespace, rest } = splitKey(key);
    this.beforeWrite();
    this.#delete.run(namespace, rest);
    if (namespace === TEXT_NAMESPACE) this.text.remove(rest);
    this.written?.push(key);
  }

  search(query: ParsedQuery, now: number): Entry[] {
    const rows = this.text.search("k.key, k.value, k.rev, k.sum, k.expires", query, now) as RowColumns[];
    return rows.map((row) => entry(`${TEXT_NAMESPACE}/${row[0]}`, TEXT_NAMESPACE, row));
  }

  namespaces(): string[] {
    const found: string[] = [];
    for (let last = ""; ; ) {
      const [next] = this.#nextNamespace.get(last) as unknown as [string | null];
      if (next === null) return found;
      found.push(next);
      last = next;
    }
  }

  expired(now: number, limit: number): [namespace: string, key: string][] {
    return this.#expired.all(now, limit) as unknown as [string, string][];
  }

  /** How many rows went: none when the row was written again since. */
  removeExpired([namespace, key]: [namespace: string, key: string], now: number): number {
    this.beforeWrite();
    this.written?.push(`${namespace}/${key}`);
    const removed = Number(this.#deleteExpired.run(namespace, key, now).changes);
    if (removed > 0 && namespace === TEXT_NAMESPACE) this.text.remove(key);
    return removed;
  }
}

class SqliteTransaction implements Transaction {
  readonly now: number;
  readonly #rows: Rows;
  /** Set when the plan has ended: a transaction that was kept must not write into another's. */
  over = false;

  constructor(rows: Rows, now: number) {
    this.#rows = rows;
    this.now = now;
  }

  get(key: string): Entry | undefined {
    this.#mustRun();
    const { namespace, rest } = splitKey(key);
    return this.#rows.get(key, namespace, rest, this.now);
  }

  scan(range: KeyRange): Entry[] {
    this.#mustRun();
    return this.#rows.scan(range, this.now);
  }

  /** The first: writers of one file take turns anyway, so choosing another would save no conflict. */
  pick(range: KeyRange): Entry | undefined {
    this.#mustRun();
    return this.#rows.scan({ ...range, limit: 1 }, this.now)[0];
  }

  put(key: string, value: Json, options?: { ttlMs?: number }): void {
    this.#mustRun();
    this.#rows.put(key, value, expiry(this.now, options?.ttlMs));
  }

  delete(key: string): void {
    this.#mustRun();
    this.#rows.delete(key);
  }

  #mustRun(): void {
    if (this.over) throw new SwarmError("internal", "A transaction was used after its plan had ended.");
  }
}

/** 48 bits of chance: SQLite keeps them in six bytes. */
function freshRev(): number {
  return Math.floor(Math.random() * 2 ** 48);
}

/** @throws SwarmError internal when the row is not what was written */
function entry(key: string, namespace: string, [rest, text, rev, sum, expires]: RowColumns): Entry {
  if (text === null || (sum !== null && checksum(namespace, rest, text) !== sum)) {
    throw damaged(`A record of namespace ${namespace} fails its checksum.`);
  }
  let value: Json;
  try {
    value = decodeValue(text);
  } catch (error) {
    throw damaged(`A record of namespace ${namespace} is not JSON.`, error);
  }
  return expires === null ? { key, value, rev: String(rev) } : { key, value, rev: String(rev), expiresAt: expires };
}
