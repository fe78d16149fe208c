import { setTimeout as sleep } from "node:timers/promises";
import { SwarmError } from "@mcp-swarm/core";
import type { Keyv } from "keyv";
import type pg from "pg";
import type { Entry, KeyRange, Snapshot, Store, TextQuery, Transaction, TransactOptions } from "./contract.ts";
import { FORMAT_KEY, refuseNewerFormat } from "./format.ts";
import { splitKey } from "./keys.ts";
import { type KeyvRows, keyvOverRows } from "./keyv-view.ts";
import { Connections, OUTAGE_MS_MAX, type Pending, randomId, Slot } from "./postgres-connections.ts";
import { ConnectionLost, isLostStatement, isMissingTable, isOtherObject, isRetry, postgresError } from "./postgres-errors.ts";
import {
  commitArguments,
  everything,
  holdsEverything,
  isLive,
  type Locks,
  lockArguments,
  locksOf,
  PICK_WIDTH_MAX,
  PlanRun,
  type RangeRequest,
  type ReadRequest,
  Reads,
  type Row,
  readArguments,
  scanRequest,
  toEntry,
} from "./postgres-plan.ts";
import { LOCKED_IDLE_MS_MAX, quoted, SERVER_MS, setupSql } from "./postgres-schema.ts";
import { type PostgresTarget, parsePostgresUrl } from "./postgres-url.ts";
import { Watch } from "./postgres-watch.ts";
import { checksum, encodeValue } from "./row.ts";
import { type ParsedQuery, parseQuery, TEXT_NAMESPACE } from "./search.ts";
import { areCurrent, nameTaken, postgresViewsQuery, postgresViewsSql, type SqlViews } from "./sql-views.ts";

/** The version of the layout of rows in PostgreSQL. */
const FORMAT = 1;

/** A transaction that others kept from committing for so long is given up. */
const TRANSACT_MS_MAX = 60_000;

/** Most times that one plan runs: each fetch and each conflict runs it again. */
const RUNS_MAX = 5_000;

/** Successes of picks after which the width of the choice is halved. */
const PICKS_UNTIL_NARROWER = 64;

/** Rows of this process's own last commits, kept as first guesses of the next plans: commits check them as any read. */
const RECENT_MAX = 512;
const RECENT_TEXT_MAX = 4_096;

/** The clock is asked again when it was not for so long, even if nothing else is. */
const CLOCK_AGE_MS_MAX = 10_000;

/**
 * After so many fetches in a row the runs of a plan keep one time. A range that ends at the time (all that is due) is another
 * range a millisecond later: with a fresh time for each run, what was fetched would never be what is wanted.
 */
const FETCHES_UNTIL_TIME_STAYS = 2;

/** How far the server's clock may be set back without a plan seeing it; the difference is waited out. */
const CLOCK_BACK_MS_MAX = 1_000;

/** The advisory lock of the process that sets a new database up. */
const SETUP_LOCK = 1;

/** Sessions that committed nothing for so long are forgotten when a store opens. */
const SESSION_AGE = "7 days";

/**
 * Opens a store in a PostgreSQL database (14 or newer), and sets the database up when it is new. What the other engines take
 * as options, the durability and the clock, is the server's own here.
 * @param url `postgres://…`; beside the driver's own options `schema=<name>` (default `public`) and `pooler=transaction`
 * @throws SwarmError invalid_argument, unavailable, failed_precondition (newer format)
 */
export async function openPostgres(url: string, { views }: { views?: SqlViews } = {}): Promise<PostgresStore> {
  const target = parsePostgresUrl(url);
  const store = new PostgresStore(target);
  try {
    await store.start(views);
  } catch (error) {
    await store.close();
    throw postgresError(error, target.location);
  }
  return store;
}

/**
 * One schema of a PostgreSQL database, shared by processes of any number of machines. A plan runs outside a transaction on
 * what was read; one stored function checks and commits. Two round trips where one read suffices, one where none is needed.
 */
export class PostgresStore implements Store, KeyvRows {
  readonly engine = "postgres";
  readonly location: string;
  readonly #target: PostgresTarget;
  readonly #connections: Connections;
  readonly #watch: Watch;
  readonly #sql: ReturnType<typeof statements>;
  #format = { ...splitKey(FORMAT_KEY), rev: "" };
  /** Server time and `performance.now()` of the last answer. */
  #serverMs = 0;
  #answeredAt = 0;
  #lastNow = 0;
  /** From how many of the first entries a pick chooses now, and how many picks in a row had no conflict. */
  #spread = 1;
  #calmPicks = 0;
  readonly #recent = new Map<string, Row>();
  /** Keys that others write too: for them one's own last write is a bad guess. */
  readonly #contended = new Set<string>();
  #closing: Promise<void> | undefined;
  #views: Promise<void> | undefined;

  constructor(target: PostgresTarget) {
    this.#target = target;
    this.location = target.location;
    this.#connections = new Connections(target);
    this.#watch = new Watch(target, this.#connections);
    this.#sql = statements(target.schema);
  }

  /** How commits of other processes are noticed; undefined until something is watched. */
  get watchMode(): "listen" | "poll" | undefined {
    return this.#watch.mode;
  }

  /** Connects, sets a new database up and checks its format. Views of a database that is not new are seen to in the background. */
  async start(views?: SqlViews): Promise<void> {
    await this.#connections.first();
    let isNew = false;
    try {
      await this.#loadFormat();
    } catch (error) {
      if (!isMissingTable(error)) throw error;
      isNew = true;
      await this.#setUp();
      await this.#loadFormat();
    }
    if (views) this.#views = this.#keepViews(views);
    if (isNew) await this.#views;
  }

  async transact<T>(plan: (tx: Transaction) => T, options: TransactOptions = {}): Promise<T> {
    this.#mustBeOpen();
    const attempt = new Attempt(plan, options);
    try {
      const outcome = await this.#connections.use((slot) => this.#run(slot, attempt));
      if ("refusal" in outcome) throw new Refused(outcome.refusal);
      return outcome.value;
    } catch (error) {
      if (error instanceof Refused) throw error.cause;
      throw postgresError(error, this.location);
    }
  }

  async get(key: string): Promise<Entry | undefined> {
    return (await this.getMany([key]))[0];
  }

  async getMany(keys: readonly string[]): Promise<(Entry | undefined)[]> {
    for (const key of keys) splitKey(key);
    const reads = await this.#readOnce({ keys: new Set(keys), ranges: new Map() });
    const now = this.#now();
    return keys.map((key) => {
      const row = reads.keys.get(key);
      return isLive(row, now) ? toEntry(row) : undefined;
    });
  }

  async scan(range: KeyRange): Promise<Entry[]> {
    const request = scanRequest(range);
    return await this.#ask((slot) => this.#page(slot, request));
  }

  async search(query: TextQuery): Promise<Entry[]> {
    const parsed = parseQuery(query);
    if (parsed.scopes.length === 0) return [];
    const values = [tsquery(parsed), parsed.before, parsed.limit];
    const { rows } = await this.#ask((slot) => slot.query({ ...this.#sql.search, values }));
    return rows.map(([rest, text, rev, expires, sum]) =>
      toEntry(rowOf(TEXT_NAMESPACE, String(rest), String(text), String(rev), expires, sum)),
    );
  }

  watch(prefix: string, wake: () => void): Disposable {
    this.#mustBeOpen();
    return this.#watch.watch(prefix, wake);
  }

  async now(): Promise<number> {
    await this.#ask(async (slot) => this.#sync(await slot.query(this.#sql.now)));
    return this.#now();
  }

  keyv(namespace: string): Keyv {
    this.#mustBeOpen();
    splitKey(`${namespace}/`);
    return keyvOverRows(this, namespace);
  }

  /** On a connection of its own: a copy may take long, and its reader may commit meanwhile. */
  async snapshot<T>(read: (view: Snapshot) => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    const slot = new Slot(this.#target, () => false);
    const engine = async <R>(work: () => Promise<R>): Promise<R> => {
      try {
        return await work();
      } catch (error) {
        throw postgresError(error, this.location);
      }
    };
    try {
      await engine(async () => {
        await this.#connections.reconnect(slot, performance.now() + OUTAGE_MS_MAX);
        // the first statement that reads takes the snapshot
        await slot.script(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ${this.#sql.namespaces.text}`);
      });
      return await read({
        namespaces: () =>
          engine(async () => {
            const { rows } = await slot.query(this.#sql.namespaces);
            return rows.map((row) => String(row[0]));
          }),
        scan: (range) => engine(() => this.#page(slot, scanRequest(range))),
      });
    } finally {
      await slot.end(); // which ends the transaction: it wrote nothing
    }
  }

  async sweep(limit: number): Promise<number> {
    const { rows } = await this.#ask((slot) => slot.query({ ...this.#sql.sweep, values: [limit] }));
    return Number(rows[0]?.[0]);
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#connections.beginClosing();
      await this.#watch.close();
      await this.#connections.close();
    })();
    return this.#closing;
  }

  // ── rows as Keyv sees them ──

  async read(namespace: string, keys: readonly string[]): Promise<(string | undefined)[]> {
    const whole = keys.map((key) => `${namespace}/${key}`);
    for (const key of whole) splitKey(key);
    const reads = await this.#readOnce({ keys: new Set(whole), ranges: new Map() });
    const now = this.#now();
    return whole.map((key) => {
      const row = reads.keys.get(key);
      return isLive(row, now) ? row.text : undefined;
    });
  }

  async write(namespace: string, rows: readonly { key: string; text: string; expiresAt: number | undefined }[]): Promise<void> {
    const staged = rows.map(({ key, text, expiresAt }) => [`${namespace}/${key}`, { text, expiresAt }] as const);
    await this.transact((tx) => {
      for (const [key, row] of staged) (tx as PlanRun).stage(key, row);
    });
  }

  async remove(namespace: string, keys: readonly string[]): Promise<boolean[]> {
    const whole = keys.map((key) => `${namespace}/${key}`);
    return await this.transact(
      (tx) => {
        const found = whole.map((key) => (tx as PlanRun).has(key));
        for (const [index, key] of whole.entries()) if (found[index]) tx.delete(key);
        return found;
      },
      { prefetch: { keys: whole } },
    );
  }

  async clear(namespace: string): Promise<void> {
    const [keys, modes] = lockArguments(everything());
    const { lock, removeAll } = this.#sql;
    const { lockClass } = this.#target;
    await this.#ask((slot) =>
      slot.script(`BEGIN; ${inline(lock, [lockClass, keys, modes, true])}; ${inline(removeAll, [namespace])}; COMMIT`),
    );
    this.#recent.clear();
    this.#watch.committed([`${namespace}/`], true);
  }

  async page(namespace: string, after: string | undefined, limit: number): Promise<{ key: string; text: string }[]> {
    const from = after === undefined ? `${namespace}/` : `${namespace}/${after}\0`;
    const request = scanRequest({ from, before: `${namespace}0`, limit });
    const reads = await this.#readOnce({ keys: new Set(), ranges: new Map([[request.id, request]]) });
    const rows = reads.pages.get(request.id)?.rows ?? [];
    return rows.map(({ key, text }) => ({ key: key.slice(namespace.length + 1), text }));
  }

  // ── opening ──

  async #loadFormat(): Promise<void> {
    const { rows } = await this.#ask((slot) => slot.query(this.#sql.format));
    const row = rows[0];
    if (!row) throw Object.assign(new Error("no format record"), { code: "42P01" });
    refuseNewerFormat(String(row[0]), "writer", FORMAT);
    this.#format = { ...splitKey(FORMAT_KEY), rev: String(row[1]) };
    this.#sync({ rows: [[row[2]]] });
  }

  /** In one transaction and under one lock: of processes that open a new database at once, one does it. */
  async #setUp(): Promise<void> {
    const { lockClass, schema } = this.#target;
    const { namespace, rest } = splitKey(FORMAT_KEY);
    const text = encodeValue({ reader: FORMAT, writer: FORMAT }, undefined);
    const record = inline(
      {
        text: `INSERT INTO ${quoted(schema)}.keyv (namespace, key, value, sum) VALUES ($1, $2, $3, $4) ON CONFLICT (namespace, key) DO NOTHING`,
      },
      [namespace, rest, text, checksum(namespace, rest, text)],
    );
    const create = schema === "public" ? "" : `CREATE SCHEMA IF NOT EXISTS ${quoted(schema)};`;
    await this.#ask((slot) =>
      slot.script(`BEGIN; SELECT pg_advisory_xact_lock(${lockClass}, ${SETUP_LOCK}); ${create} ${setupSql(schema)}
        DELETE FROM ${quoted(schema)}.mcp_swarm_session WHERE used < now() - interval '${SESSION_AGE}'; ${record}; COMMIT`),
    );
  }

  /** Makes the views that are missing or older. What stands in their way is told, and the store works without them. */
  async #keepViews(views: SqlViews): Promise<void> {
    const { lockClass, schema } = this.#target;
    try {
      const [found] = await this.#ask((slot) => slot.script(postgresViewsQuery(schema, views)));
      const [version, ...marks]: unknown[] = found?.rows[0] ?? [];
      if (areCurrent(views, marks)) return;
      const sql = postgresViewsSql(schema, views, await views.load(), Number(version));
      await this.#ask((slot) => slot.script(`SELECT pg_advisory_xact_lock(${lockClass}, ${SETUP_LOCK}); ${sql}`));
    } catch (error) {
      if (this.#closing) return; // who closes at once has seen nothing fail
      views.onError(isOtherObject(error) ? nameTaken(views.names.join(" or ")) : postgresError(error, this.location));
    }
  }

  // ── transactions ──

  async #run<T>(slot: Slot, attempt: Attempt<T>): Promise<Outcome<T>> {
    const until = performance.now() + TRANSACT_MS_MAX;
    try {
      for (let runs = 0; runs < RUNS_MAX && performance.now() < until; runs++) {
        try {
          const outcome = await this.#step(slot, attempt);
          if (outcome) return outcome;
        } catch (error) {
          await this.#recover(slot, attempt, error);
        }
      }
    } finally {
      if (attempt.held) await this.#letGo(slot, attempt);
    }
    throw new SwarmError("unavailable", "Others changed the same entries for so long that the transaction was given up.", {
      hint: "Try again a little later.",
    });
  }

  /** One run of the plan and the round trip that it asks for. Undefined: go on. */
  async #step<T>(slot: Slot, attempt: Attempt<T>): Promise<Outcome<T> | undefined> {
    if (attempt.lockFirst && !attempt.held) await this.#lockAndRead(slot, attempt, attempt.lockFirst);
    if (performance.now() - this.#answeredAt > CLOCK_AGE_MS_MAX) this.#sync(await slot.query(this.#sql.now));
    const recent = attempt.guesses ? this.#recent : undefined;
    const run = new PlanRun(attempt.reads, recent, attempt.time ?? this.#now(), this.#spread);
    const outcome = runPlan(attempt.plan, run);
    if (run.missing) {
      await this.#fetch(slot, attempt, run, run.missing);
      attempt.fetches += 1;
      if (attempt.fetches >= FETCHES_UNTIL_TIME_STAYS) attempt.time = run.now;
      return undefined;
    }
    if ("refusal" in outcome || run.staged.size === 0) {
      if (attempt.reads.snapshots <= 1 && run.fromRecent.size === 0) return outcome;
      // what it saw must be one snapshot before the caller may rely on it
      if (attempt.held) await this.#letGo(slot, attempt);
      attempt.oneSnapshot = true;
      for (const key of run.fromRecent) attempt.reads.keys.set(key, undefined);
      attempt.guesses = false;
      const request = attempt.reads.request();
      attempt.reads = new Reads();
      await this.#read(slot, request, attempt.reads);
      return undefined;
    }
    return (await this.#commit(slot, attempt, run)) ? outcome : undefined;
  }

  /** Brings what a run lacked, with all that is likely to be wanted next. */
  async #fetch<T>(slot: Slot, attempt: Attempt<T>, run: PlanRun, missing: ReadRequest): Promise<void> {
    const request = attempt.oneSnapshot ? attempt.reads.request() : { keys: new Set<string>(), ranges: new Map() };
    for (const key of missing.keys) request.keys.add(key);
    for (const [id, range] of missing.ranges) request.ranges.set(id, range);
    for (const key of run.fromRecent) request.keys.add(key); // a guess need not stay one
    for (const key of attempt.hints.keys) if (!attempt.reads.keys.has(key)) request.keys.add(key);
    for (const [id, range] of attempt.hints.ranges)
      if (!attempt.reads.pages.has(id) && !request.ranges.has(id)) request.ranges.set(id, range);
    attempt.hints = { keys: new Set(), ranges: new Map() };
    if (attempt.oneSnapshot) attempt.reads = new Reads();
    await this.#read(slot, request, attempt.reads, attempt.held !== undefined);
  }

  /** True when the run is committed; else the attempt says how to go on. */
  async #commit<T>(slot: Slot, attempt: Attempt<T>, run: PlanRun): Promise<boolean> {
    attempt.fetches = 0;
    attempt.time = undefined;
    const session = await slot.session();
    const id = randomId();
    const locks = locksOf(run);
    const { held } = attempt;
    const values = [
      ...[session.id, session.last, id, run.now, this.#target.watchClass, this.#target.lockClass],
      ...(held && holdsEverything(held) ? ["{}", "{}"] : lockArguments(locks, held)),
      held === undefined,
      ...commitArguments(run.checks, run.scans.values(), run.staged, this.#format),
    ];
    let answer: string;
    try {
      if (held) {
        const results = await slot.script(`${inline(this.#sql.commit, values)}; COMMIT`);
        answer = String(results[0]?.rows[0]?.[0]);
        attempt.held = undefined;
      } else {
        answer = String((await slot.query({ ...this.#sql.commit, values })).rows[0]?.[0]);
      }
    } catch (error) {
      attempt.held = undefined; // the server has ended the transaction, or the connection with it
      if (!(error instanceof ConnectionLost)) {
        if (held) await slot.script("ROLLBACK");
        throw error;
      }
      attempt.reads = new Reads();
      if (!(await this.#settle(slot, { session: session.id, before: session.last, id, fence: randomId() }))) return false;
      this.#committed(run, id, true);
      return true;
    }
    const [state, at, watched, changed] = answer.split(" ");
    this.#sync({ rows: [[at]] });
    switch (state) {
      case "ok":
        slot.committed(id);
        this.#committed(run, id, watched === "t");
        return true;
      case "clock":
        // our time lies ahead only when the server's clock was set back
        if (run.now > Number(at)) await sleep(Math.min(run.now - Number(at), CLOCK_BACK_MS_MAX));
        return false;
      case "fenced":
        slot.forgetSession();
        return false;
      case "locked":
        attempt.lockFirst = union(locks, held);
        return false;
      default:
        await this.#conflict(attempt, run, locks, changed ?? "");
        return false;
    }
  }

  /** Decides how the next try goes about it. @param changed what the commit found changed: numbers of checks, s<number> of scans */
  async #conflict<T>(attempt: Attempt<T>, run: PlanRun, locks: Locks, changed: string): Promise<void> {
    const keys = [...run.checks.keys()];
    let lasting = false;
    let pickLost = false;
    for (const item of changed.split(",")) {
      if (item === "1") {
        await this.#loadFormat();
        continue;
      }
      const key = item.startsWith("s") ? undefined : keys[Number(item) - 2];
      if (key !== undefined && run.picked.has(key)) {
        this.#spread = Math.min(this.#spread * 2, PICK_WIDTH_MAX);
        this.#calmPicks = 0;
        pickLost = true;
      } else if (key !== undefined && run.fromRecent.has(key)) {
        this.#recent.delete(key);
        this.#contended.add(key);
        trim(this.#contended);
      } else {
        lasting = true;
      }
    }
    attempt.guesses = false;
    const known = attempt.reads.request();
    for (const key of run.checks.keys()) if (!run.picked.has(key)) known.keys.add(key);
    for (const [id, range] of known.ranges) if (range.pick) known.ranges.delete(id); // chosen anew, from a wider front
    attempt.reads = new Reads();
    attempt.hints = known;
    // what was read by way of a picked entry has most likely changed with it, and the next try picks another
    attempt.lockFirst = lasting && !pickLost ? union(locks, attempt.lockFirst) : undefined;
  }

  async #settle(slot: Slot, pending: Pending): Promise<boolean> {
    const until = performance.now() + OUTAGE_MS_MAX;
    for (;;) {
      try {
        await this.#connections.reconnect(slot, until);
        return await slot.settle(pending);
      } catch (error) {
        if (!(error instanceof ConnectionLost) || performance.now() > until) throw error;
      }
    }
  }

  /** Takes the locks of the last try before anything is read, so that nobody comes between. */
  async #lockAndRead<T>(slot: Slot, attempt: Attempt<T>, locks: Locks): Promise<void> {
    const { lock, read } = this.#sql;
    const known = attempt.reads.request();
    for (const key of attempt.hints.keys) known.keys.add(key);
    for (const [id, range] of attempt.hints.ranges) known.ranges.set(id, range);
    await slot.session(); // entered by a transaction of its own: the one that begins here may be taken back
    attempt.held = locks;
    attempt.reads = new Reads();
    const [keys, modes] = lockArguments(locks);
    const results = await slot.script(
      `BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${LOCKED_IDLE_MS_MAX};
       ${inline(lock, [this.#target.lockClass, keys, modes, true])}; ${inline(read, readArguments(known))}`,
    );
    this.#note(results.at(-1)?.rows ?? [], known, attempt.reads);
  }

  async #letGo<T>(slot: Slot, attempt: Attempt<T>): Promise<void> {
    attempt.held = undefined;
    try {
      await slot.script("ROLLBACK");
    } catch {
      slot.drop(); // the server takes the transaction back by itself
    }
  }

  /** After a failure that is not the caller's problem: makes the next try possible. Rethrows any other. */
  async #recover<T>(slot: Slot, attempt: Attempt<T>, error: unknown): Promise<void> {
    if (attempt.held) await this.#letGo(slot, attempt);
    attempt.reads = new Reads();
    if (error instanceof ConnectionLost) {
      await this.#connections.reconnect(slot, performance.now() + OUTAGE_MS_MAX);
    } else if (isLostStatement(error)) {
      this.#connections.withoutNames();
    } else if (!isRetry(error)) {
      throw error;
    }
  }

  #committed(run: PlanRun, id: string, told: boolean): void {
    for (const [key, written] of run.staged) {
      this.#recent.delete(key);
      if (written && written.text.length <= RECENT_TEXT_MAX && !this.#contended.has(key)) {
        this.#recent.set(key, { key, text: written.text, rev: id, expiresAt: written.expiresAt });
      }
    }
    trim(this.#recent);
    if (run.picked.size > 0 && this.#spread > 1 && ++this.#calmPicks >= PICKS_UNTIL_NARROWER) {
      this.#spread /= 2;
      this.#calmPicks = 0;
    }
    this.#watch.committed(run.staged.keys(), told);
  }

  // ── reading ──

  /** A read outside a transaction; it may be repeated freely. */
  async #readOnce(request: ReadRequest): Promise<Reads> {
    return await this.#ask(async (slot) => {
      const reads = new Reads();
      await this.#read(slot, request, reads);
      return reads;
    });
  }

  async #page(slot: Slot, request: RangeRequest): Promise<Entry[]> {
    const reads = new Reads();
    await this.#read(slot, { keys: new Set(), ranges: new Map([[request.id, request]]) }, reads);
    return reads.pages.get(request.id)?.rows.map(toEntry) ?? [];
  }

  async #read(slot: Slot, request: ReadRequest, reads: Reads, held = false): Promise<void> {
    const values = readArguments(request);
    const { read } = this.#sql;
    // inside a transaction that holds locks nothing may be left on the connection
    const rows = held ? (await slot.script(inline(read, values)))[0]?.rows : (await slot.query({ ...read, values })).rows;
    this.#note(rows ?? [], request, reads);
  }

  /** Adds the rows of `mcp_swarm_read_v1` to what is known. */
  #note(rows: readonly (string | null)[][], { ranges }: ReadRequest, reads: Reads): void {
    reads.snapshots++;
    const pages = [...ranges.values()].map((request) => ({ request, rows: [] as Row[] }));
    for (const page of pages) reads.pages.set(page.request.id, page);
    for (const [slot, namespace, rest, text, rev, expires, sum] of rows) {
      if (slot === "-2") {
        this.#sync({ rows: [[expires ?? ""]] });
        continue;
      }
      const key = `${namespace}/${rest}`;
      if (rev === null || rev === undefined) {
        reads.keys.set(key, undefined);
        continue;
      }
      const row = rowOf(String(namespace), String(rest), text ?? "", rev, expires, sum);
      reads.keys.set(key, row);
      pages[Number(slot)]?.rows.push(row);
    }
  }

  /** Something that may be asked again when the connection is lost. */
  async #ask<T>(work: (slot: Slot) => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    const until = performance.now() + OUTAGE_MS_MAX;
    try {
      return await this.#connections.use(async (slot) => {
        for (;;) {
          try {
            return await work(slot);
          } catch (error) {
            if (isLostStatement(error)) this.#connections.withoutNames();
            else if (error instanceof ConnectionLost && performance.now() < until) await this.#connections.reconnect(slot, until);
            else throw error;
          }
        }
      });
    } catch (error) {
      throw isMissingTable(error) ? error : postgresError(error, this.location);
    }
  }

  // ── clock ──

  #sync({ rows }: Pick<pg.QueryResult, "rows">): void {
    const serverMs = Number(rows[0]?.[0]);
    this.#serverMs = serverMs;
    this.#answeredAt = performance.now();
    if (this.#lastNow > serverMs + CLOCK_BACK_MS_MAX) this.#lastNow = serverMs; // set back by more than can be waited out
  }

  /** At most the server's time: its last answer was given before it arrived. */
  #now(): number {
    this.#lastNow = Math.max(this.#lastNow, this.#serverMs + Math.floor(performance.now() - this.#answeredAt));
    return this.#lastNow;
  }

  #mustBeOpen(): void {
    if (this.#closing) throw new SwarmError("unavailable", "The store is closed.");
  }
}

type Column = string | null | undefined;

/** @throws SwarmError internal when the row is not what was written */
function rowOf(namespace: string, rest: string, text: string, rev: string, expires: Column, sum: Column): Row {
  const key = `${namespace}/${rest}`;
  if (sum !== null && Number(sum) !== checksum(namespace, rest, text)) {
    throw new SwarmError("internal", `The entry ${key} is damaged: its checksum does not match.`, {
      hint: "Restore the database from a backup, or delete the entry.",
    });
  }
  return { key, text, rev, expiresAt: expires === null ? undefined : Number(expires) };
}

/** A search in PostgreSQL's own form. Words and scopes hold neither quotes nor backslashes. */
function tsquery({ words, prefix, scopes }: ParsedQuery): string {
  const all = words.map((word) => `'${word}'`);
  if (prefix !== undefined) all.push(`'${prefix}':*`);
  return [...all, `(${scopes.map((scope) => `'${scope}'`).join(" | ")})`].join(" & ");
}

type Outcome<T> = { value: T } | { refusal: unknown };

/** Carries what a plan threw past the translation of the engine's own errors. */
class Refused extends Error {
  constructor(cause: unknown) {
    super("refused", { cause });
  }
}

/** One call of `transact` on its way. */
class Attempt<T> {
  readonly plan: (tx: Transaction) => T;
  reads = new Reads();
  /** What to fetch along with the first thing that is missing. */
  hints: ReadRequest;
  /** Whether rows of the process's own last commits may stand in for reads. */
  guesses = true;
  /** Every fetch brings all that is known anew. */
  oneSnapshot = false;
  /** Fetches since a commit was last tried, and the time that its runs keep from then on. */
  fetches = 0;
  time: number | undefined;
  /** Locks to take before the next run; and those that an open transaction on the slot's connection holds. */
  lockFirst: Locks | undefined;
  held: Locks | undefined;

  constructor(plan: (tx: Transaction) => T, { prefetch }: TransactOptions) {
    this.plan = plan;
    const ranges = (prefetch?.ranges ?? []).map((range) => scanRequest(range));
    this.hints = { keys: new Set(prefetch?.keys), ranges: new Map(ranges.map((request) => [request.id, request])) };
  }
}

function runPlan<T>(plan: (tx: Transaction) => T, run: PlanRun): Outcome<T> {
  try {
    return { value: plan(run) };
  } catch (refusal) {
    return { refusal };
  } finally {
    run.over = true;
  }
}

function union(locks: Locks, more: Locks | undefined): Locks {
  const all = new Map(locks);
  for (const [lock, exclusive] of more ?? []) all.set(lock, exclusive || all.get(lock) === true);
  return all;
}

/** Forgets the oldest when there are twice as many as are kept: one at a time, each would walk over the gaps of the last. */
function trim(kept: Map<string, unknown> | Set<string>): void {
  if (kept.size < RECENT_MAX * 2) return;
  for (const oldest of kept.keys()) {
    kept.delete(oldest);
    if (kept.size <= RECENT_MAX) return;
  }
}

/** The statements of one schema. Their names go with the text, so that a connection prepares each once. */
function statements(schema: string) {
  const s = quoted(schema);
  const parameters = (count: number) => Array.from({ length: count }, (_, index) => `$${index + 1}`).join(", ");
  const live = `(expires IS NULL OR expires > ${SERVER_MS})`;
  return {
    now: { name: "mcp_swarm_now", text: `SELECT ${SERVER_MS}`, values: [] },
    format: {
      name: "mcp_swarm_format",
      // a database that an older version made has no table of texts
      text: `SELECT value, rev, ${SERVER_MS} FROM ${s}.keyv WHERE namespace = 'meta' AND key = 'format'
        AND to_regclass(${literal(`${s}.mcp_swarm_text`)}) IS NOT NULL`,
      values: [],
    },
    read: { name: "mcp_swarm_read", text: `SELECT * FROM ${s}.mcp_swarm_read_v1(${parameters(9)})`, values: [] },
    lock: { name: "mcp_swarm_lock", text: `SELECT ${s}.mcp_swarm_lock_v1(${parameters(4)})`, values: [] },
    commit: { name: "mcp_swarm_commit", text: `SELECT ${s}.mcp_swarm_commit_v1(${parameters(25)})`, values: [] },
    search: {
      name: "mcp_swarm_search",
      text: `SELECT key, value, rev, expires, sum FROM ${s}.mcp_swarm_search_v1(${parameters(3)})`,
      values: [],
    },
    removeAll: { name: "mcp_swarm_remove_all", text: `DELETE FROM ${s}.keyv WHERE namespace = $1`, values: [] },
    namespaces: {
      name: "mcp_swarm_namespaces",
      // from each namespace to the next one by the index: rows are many, namespaces few
      text: `WITH RECURSIVE found AS (
          (SELECT namespace FROM ${s}.keyv ORDER BY namespace LIMIT 1)
          UNION ALL
          SELECT (SELECT k.namespace FROM ${s}.keyv k WHERE k.namespace > found.namespace ORDER BY k.namespace LIMIT 1)
          FROM found WHERE found.namespace IS NOT NULL
        ) SELECT namespace FROM found WHERE namespace <> ''`,
      values: [],
    },
    sweep: {
      name: "mcp_swarm_sweep",
      text: `WITH gone AS (
          DELETE FROM ${s}.keyv WHERE (namespace, key) IN (
            SELECT namespace, key FROM ${s}.keyv WHERE NOT ${live} ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED
          ) RETURNING 1
        ) SELECT count(*) FROM gone`,
      values: [],
    },
  };
}

/** A statement with its parameters written into it, for several statements in one round trip. */
function inline({ text }: { text: string }, values: readonly unknown[]): string {
  return text.replace(/\$(\d+)/g, (_, number: string) => literal(values[Number(number) - 1]));
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return "NULL";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  const escaped = String(value).replaceAll("'", "''").replaceAll("\\", "\\\\");
  return escaped.includes("\\") ? ` E'${escaped}'` : `'${escaped}'`;
}
