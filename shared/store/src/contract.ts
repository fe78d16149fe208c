import type { Json } from "@mcp-swarm/core";
import type { Keyv } from "keyv";

/** Changes whenever the entry is written; compare for equality only. Never repeats for a key, even after a delete. */
export type Rev = string;

export interface Entry {
  key: string;
  value: Json;
  rev: Rev;
  /** Ms since the epoch by the engine's clock; from then on the entry reads as missing. */
  expiresAt?: number;
}

/**
 * Keys from `from` (included) to `before` (excluded) in byte order, at most `limit` entries.
 * Both bounds lie in one namespace (see `Store`): use `prefixRange` of keys.ts to make one.
 */
export interface KeyRange {
  from: string;
  before: string;
  /** 1 to `SCAN_LIMIT_MAX`. */
  limit: number;
  /** From the end of the range backwards. */
  reverse?: boolean;
}

/** The largest page of one scan. */
export const SCAN_LIMIT_MAX = 1_000;

export interface Transaction {
  /**
   * The engine's clock, ms since the epoch; one value throughout the transaction. Never goes back within one process. Between
   * processes a commit's time may lie up to 500 ms behind the one before it: PostgreSQL accepts a plan that ran so long ago.
   */
  readonly now: number;
  get(key: string): Entry | undefined;
  /** Checked at commit: nothing was added to, removed from or changed in what was read. Sees this transaction's own writes. */
  scan(range: KeyRange): Entry[];
  /**
   * One entry at the front of a range from which others pick too. Without contention it is the first; under contention an
   * engine may give another of the first 16 that share the first's group, and nothing but the given entry is checked at commit.
   * The group is all of the key up to its last `share` segments (so share = 2 on `ready/q/p/seq/id` lets engines choose
   * among entries that begin with `ready/q/p/`).
   */
  pick(range: KeyRange, share: number): Entry | undefined;
  /**
   * `ttlMs` is a whole number of at least 0; without it the entry stays until it is deleted.
   * @throws SwarmError limit_exceeded when the value is over RECORD_BYTES_MAX (a little over 1 MiB), invalid_argument when the key is not one.
   */
  put(key: string, value: Json, options?: { ttlMs?: number }): void;
  delete(key: string): void;
}

/** Committed entries as they were when the snapshot was taken; over when its reader is. */
export interface Snapshot {
  /** The namespaces that hold rows, in byte order. */
  namespaces(): Promise<string[]>;
  scan(range: KeyRange): Promise<Entry[]>;
}

/** What to find among the rows of the namespace `text` (search.ts: `searchable` makes their values). */
export interface TextQuery {
  /**
   * The words that an entry must hold, all of them, in any order. Case and the accents of Latin, Greek and Cyrillic do not
   * matter; what is no letter, mark or digit parts words and has no meaning. The last word, from two characters on, stands
   * for all that begin with it, unless a quotation mark closes it.
   */
  text: string;
  /** An entry must have at least one of them; none finds nothing. */
  scopes: readonly string[];
  /** 1 to `SCAN_LIMIT_MAX`. */
  limit: number;
  /** The last key of the page before. */
  before?: string;
}

export interface TransactOptions {
  /** Keys and ranges the plan will most likely read: an engine across a network fetches them in one round trip. Only a hint. */
  prefetch?: { keys?: readonly string[]; ranges?: readonly KeyRange[] };
}

/**
 * Ordered keys with serializable transactions. A key is `<namespace>/<rest>`: the namespace (`[a-z0-9_-]{1,32}`) is the Keyv
 * namespace the row is in, the rest its Keyv key, so `keyv("task").get("a")` reads what `get("task/a")` reads.
 * Whole keys are at most 255 bytes of UTF-8, and hold no NUL and no lone surrogate (engines differ on them, or lose them).
 *
 * A value may have a field `refs`: string[], whole keys that whoever reads this entry most likely reads next; an engine may
 * fetch them along with it. It has no other meaning.
 *
 * The namespace `text` is searched by words: its keys are `text/<ordered time>…` and its values hold what `searchable` makes.
 * Its index is in step with every commit of this store; rows that are not made so are ordinary rows that no search finds.
 *
 * Every method throws SwarmError `unavailable` when the engine cannot be reached, `internal` when a row fails its checksum
 * and the engine's own words as `cause`. A lock error is never the caller's problem: engines retry.
 */
export interface Store {
  /** `sqlite`, `postgres` or `memory`. */
  readonly engine: string;
  /** Where the data is, fit to be shown: passwords are left out. */
  readonly location: string;
  /**
   * Runs `plan` on one snapshot and commits all it wrote, or nothing. Serializable. `plan` is synchronous and pure: it may run
   * again, so it decides from what it reads, and ids and chance are made outside. What it throws reaches the caller, and
   * then nothing was written.
   * @throws SwarmError unavailable, limit_exceeded (disk full)
   */
  transact<T>(plan: (tx: Transaction) => T, options?: TransactOptions): Promise<T>;
  /** The committed entry, outside a transaction. I/O failure throws and never reads as "missing". */
  get(key: string): Promise<Entry | undefined>;
  /** Several committed entries in the order asked, from one snapshot. */
  getMany(keys: readonly string[]): Promise<(Entry | undefined)[]>;
  scan(range: KeyRange): Promise<Entry[]>;
  /**
   * The newest live entries that answer a query, by descending key.
   * @throws SwarmError invalid_argument when the text has no word, or a bound is wrong
   */
  search(query: TextQuery): Promise<Entry[]>;
  /**
   * Calls `wake` after a commit by any process that may have touched a key under `prefix`. Wakes may coalesce and may be
   * spurious; after `watch` returned none is missed. Dispose to stop.
   */
  watch(prefix: string, wake: () => void): Disposable;
  /** The engine's clock now, ms since the epoch. */
  now(): Promise<number>;
  /** The ordinary Keyv view of the rows of one namespace; a fresh adapter instance each. Not for coordination. */
  keyv(namespace: string): Keyv;
  /** Calls `read` with one snapshot that no later commit changes, however many pages it reads: for copies and checks. */
  snapshot<T>(read: (view: Snapshot) => Promise<T>): Promise<T>;
  /** Removes up to `limit` expired rows; answers how many. */
  sweep(limit: number): Promise<number>;
  /** Waits for commits under way and lets go of every handle. Later calls throw `unavailable`. */
  close(): Promise<void>;
}
