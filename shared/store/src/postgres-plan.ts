import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Json, SwarmError } from "@mcp-swarm/core";
import type { Entry, KeyRange, Transaction } from "./contract.ts";
import { splitKey, splitRange } from "./keys.ts";
import { PREFIX_DEPTH } from "./postgres-schema.ts";
import { checksum, compareBytes, decodeValue, encodeValue, expiry } from "./row.ts";

/** From how many of the first entries a pick may choose (contract.ts). */
export const PICK_WIDTH_MAX = 16;

/** More locks than this become one lock on everything: the server's lock table is shared and bounded. */
const LOCKS_MAX = 512;

/** The lock that every commit takes shared. */
const EVERYTHING = "";

/** A row as it was read; whether it is still live is for the reader to say. */
export interface Row {
  key: string;
  text: string;
  rev: string;
  expiresAt: number | undefined;
}

/** A range in the form the stored functions take. */
interface Bounds {
  namespace: string;
  from: string;
  before: string | undefined;
  reverse: boolean;
}

export interface RangeRequest extends Bounds {
  /** Names the range among the reads of a transaction. */
  id: string;
  limit: number;
  /** A pick: which of the first entries, and how many segments its group leaves out. */
  pick?: { choice: number; share: number };
}

export interface ReadRequest {
  keys: Set<string>;
  ranges: Map<string, RangeRequest>;
}

/** A page of a range. `rows.length === limit` means that more may follow. */
interface Page {
  request: RangeRequest;
  rows: Row[];
}

/** What a transaction knows of the store. */
export class Reads {
  readonly keys = new Map<string, Row | undefined>();
  readonly pages = new Map<string, Page>();
  /** From how many snapshots it comes. */
  snapshots = 0;

  /** Everything known, as one request. */
  request(): ReadRequest {
    return {
      keys: new Set(this.keys.keys()),
      ranges: new Map([...this.pages].map(([id, { request }]) => [id, request])),
    };
  }
}

/** Thrown to leave a plan that reads what is not known yet; the plan runs again with it. One for all: nobody reads its stack. */
const READ_MISSING = new Error("a read that is not known yet");

/** NUL cannot be in a key, and PostgreSQL's text cannot hold it: what lies behind `x\0…` lies behind `x` or begins with `x\x01`. */
function storable(bound: string): string {
  const nul = bound.indexOf("\0");
  return nul < 0 ? bound : `${bound.slice(0, nul)}\u0001`;
}

function boundsOf(range: KeyRange): Bounds {
  const { namespace, from, before } = splitRange(range);
  return {
    namespace,
    from: storable(from),
    before: before === undefined ? undefined : storable(before),
    reverse: range.reverse === true,
  };
}

export function scanRequest(range: KeyRange, limit = range.limit): RangeRequest {
  const bounds = boundsOf(range);
  return { ...bounds, id: `scan ${rangeId(bounds)}`, limit };
}

function rangeId({ namespace, from, before, reverse }: Bounds): string {
  return `${reverse ? "-" : "+"}${namespace}/${from}\0${before ?? "\0"}`;
}

export function isLive(row: Row | undefined, now: number): row is Row {
  return row !== undefined && (row.expiresAt === undefined || row.expiresAt > now);
}

export function toEntry({ key, text, rev, expiresAt }: Row): Entry {
  const value = decoded(key, text);
  return expiresAt === undefined ? { key, value, rev } : { key, value, rev, expiresAt };
}

function decoded(key: string, text: string): Json {
  try {
    return decodeValue(text);
  } catch (cause) {
    throw new SwarmError("internal", `The entry ${key} does not hold what a store writes.`, {
      hint: "Another program may have written it; restore it or delete it.",
      cause,
    });
  }
}

interface Staged {
  text: string;
  expiresAt: number | undefined;
}

/** One run of a plan over what is known. Writes are staged; reads are noted so that the commit can check them. */
export class PlanRun implements Transaction {
  readonly now: number;
  /** What was read and is not known. When it is set, the run's outcome means nothing. */
  missing: ReadRequest | undefined;
  /** The live row, or none, that each key read had. */
  readonly checks = new Map<string, Row | undefined>();
  /** Keys whose row came from the process's own last commits, and those that a pick gave. */
  readonly fromRecent = new Set<string>();
  readonly picked = new Set<string>();
  readonly scans = new Map<string, { bounds: Bounds; limit: number; rows: Row[] }>();
  readonly staged = new Map<string, Staged | undefined>();
  over = false;
  readonly #reads: Reads;
  readonly #recent: ReadonlyMap<string, Row> | undefined;
  readonly #spread: number;

  /** @param spread from how many of the first entries a pick may choose */
  constructor(reads: Reads, recent: ReadonlyMap<string, Row> | undefined, now: number, spread: number) {
    this.#reads = reads;
    this.#recent = recent;
    this.now = now;
    this.#spread = spread;
  }

  get(key: string): Entry | undefined {
    this.#mustRun();
    splitKey(key);
    if (this.staged.has(key)) return this.#stagedEntry(key);
    const row = this.#row(key);
    return row && toEntry(row);
  }

  scan(range: KeyRange): Entry[] {
    this.#mustRun();
    const mine = this.#stagedIn(range);
    const request = scanRequest(range, range.limit + mine.keys.length);
    const page = this.#reads.pages.get(request.id);
    const enough = page && (page.rows.length < page.request.limit || page.request.limit >= request.limit);
    const live = enough ? page.rows.filter((row) => isLive(row, this.now)) : [];
    // an entry that ended since it was fetched leaves its place to one that is not known
    if (!enough || (live.length < page.rows.length && page.rows.length >= page.request.limit)) {
      return this.#miss({ keys: new Set(), ranges: new Map([[request.id, request]]) });
    }
    const seen = live.slice(0, request.limit);
    this.scans.set(`${request.id} ${request.limit}`, { bounds: request, limit: request.limit, rows: seen });
    const found = seen.filter(({ key }) => !this.staged.has(key)).map(toEntry);
    if (mine.live.length > 0) {
      found.push(...mine.live);
      found.sort((a, b) => (range.reverse ? compareBytes(b.key, a.key) : compareBytes(a.key, b.key)));
    }
    return found.slice(0, range.limit);
  }

  pick(range: KeyRange, share: number): Entry | undefined {
    this.#mustRun();
    const bounds = boundsOf(range);
    const mine = this.#stagedIn(range);
    const id = `pick ${share} ${rangeId(bounds)}`;
    const page = this.#reads.pages.get(id);
    const live = page?.rows.filter((row) => isLive(row, this.now) && !this.staged.has(row.key)) ?? [];
    if (!page || (live.length === 0 && page.rows.length >= page.request.limit)) {
      const limit = Math.max(this.#spread, (page?.request.limit ?? 0) * 2, mine.keys.length + 1);
      const choice = this.#spread > 1 ? Math.floor(Math.random() * this.#spread) : 0;
      return this.#miss({ keys: new Set(), ranges: new Map([[id, { ...bounds, id, limit, pick: { choice, share } }]]) });
    }
    const first = live[0];
    const own = mine.live.sort((a, b) => (bounds.reverse ? compareBytes(b.key, a.key) : compareBytes(a.key, b.key)))[0];
    if (!first) return own;
    if (own && (bounds.reverse ? compareBytes(own.key, first.key) > 0 : compareBytes(own.key, first.key) < 0)) return own;
    const group = groupOf(first.key, share);
    const candidates = live.slice(0, PICK_WIDTH_MAX).filter(({ key }) => key.startsWith(group));
    const chosen = candidates[(page.request.pick?.choice ?? 0) % candidates.length] ?? first;
    this.checks.set(chosen.key, chosen);
    this.picked.add(chosen.key);
    return toEntry(chosen);
  }

  put(key: string, value: Json, { ttlMs }: { ttlMs?: number } = {}): void {
    this.#mustRun();
    splitKey(key);
    const expiresAt = expiry(this.now, ttlMs);
    this.staged.set(key, { text: encodeValue(value, expiresAt), expiresAt });
  }

  delete(key: string): void {
    this.#mustRun();
    splitKey(key);
    this.staged.set(key, undefined);
  }

  /** A row's text as it is, for the Keyv view. */
  stage(key: string, written: { text: string; expiresAt: number | undefined }): void {
    splitKey(key);
    this.staged.set(key, written);
  }

  /** Whether a key has a live row, whatever its text. */
  has(key: string): boolean {
    return this.#row(key) !== undefined;
  }

  #mustRun(): void {
    if (this.over) throw new SwarmError("internal", "A transaction was used after its plan had ended.");
  }

  /** The committed row, which the commit will check. */
  #row(key: string): Row | undefined {
    let row = this.#reads.keys.get(key);
    if (row === undefined && !this.#reads.keys.has(key)) {
      row = this.#recent?.get(key);
      if (row === undefined) return this.#miss({ keys: new Set([key]), ranges: new Map() });
      this.fromRecent.add(key);
    }
    const live = isLive(row, this.now) ? row : undefined;
    this.checks.set(key, live);
    return live;
  }

  #miss(request: ReadRequest): never {
    this.missing = request;
    throw READ_MISSING;
  }

  #stagedEntry(key: string): Entry | undefined {
    const written = this.staged.get(key);
    if (!written || (written.expiresAt !== undefined && written.expiresAt <= this.now)) return undefined;
    return toEntry({ key, rev: "staged", ...written });
  }

  /** This transaction's own writes in a range: all keys, and the live entries among them. */
  #stagedIn(range: KeyRange): { keys: string[]; live: Entry[] } {
    if (this.staged.size === 0) return { keys: [], live: [] };
    const keys = [...this.staged.keys()].filter(
      (key) => compareBytes(key, range.from) >= 0 && compareBytes(key, range.before) < 0,
    );
    return { keys, live: keys.map((key) => this.#stagedEntry(key)).filter((entry) => entry !== undefined) };
  }
}

/** All of a key up to its last `share` segments, never less than the namespace. */
function groupOf(key: string, share: number): string {
  const segments = key.split("/");
  return `${segments.slice(0, Math.max(1, segments.length - share)).join("/")}/`;
}

// ── locks ──

/** Second number of an advisory lock → whether it is exclusive. */
export type Locks = ReadonlyMap<number, boolean>;

/**
 * The locks under which a run's reads and writes are serializable: written keys exclusive, read keys shared, and for a scan
 * the prefix that holds it exclusive, which every writer below it takes shared. So writers do not wait for one another, and
 * nothing appears in a range while its scan is being checked. Two names that share a number only wait more than they must.
 */
export function locksOf(run: PlanRun): Map<number, boolean> {
  const locks = new Map<number, boolean>();
  const share = (name: string) => {
    const lock = lockOf(name);
    if (!locks.has(lock)) locks.set(lock, false);
  };
  share(EVERYTHING);
  for (const key of run.staged.keys()) {
    locks.set(lockOf(key), true);
    let slash = -1;
    for (let depth = 0; depth < PREFIX_DEPTH; depth++) {
      slash = key.indexOf("/", slash + 1);
      if (slash < 0) break;
      share(key.slice(0, slash + 1));
    }
  }
  for (const key of run.checks.keys()) share(key);
  for (const { bounds } of run.scans.values()) locks.set(lockOf(scanPrefix(bounds)), true);
  return locks.size > LOCKS_MAX ? everything() : locks;
}

export function everything(): Map<number, boolean> {
  return new Map([[lockOf(EVERYTHING), true]]);
}

/** Whether `held` is the lock on everything. */
export function holdsEverything(held: Locks): boolean {
  return held.get(lockOf(EVERYTHING)) === true;
}

function lockOf(name: string): number {
  return crc32(name) | 0;
}

/** The longest "/"-terminated prefix that all keys of a range have, at most `PREFIX_DEPTH` segments. */
function scanPrefix({ namespace, from, before }: Bounds): string {
  const low = `${namespace}/${from}`;
  const high = before === undefined ? `${namespace}0` : `${namespace}/${before}`;
  const parent = `${high.slice(0, -1)}/`; // the range up to `a/b0` is all of `a/b/`
  let common = 0;
  if (high.endsWith("0") && low.startsWith(parent)) common = parent.length;
  else while (common < low.length && low[common] === high[common]) common++;
  let end = 0;
  for (let depth = 0, slash = low.indexOf("/"); depth < PREFIX_DEPTH && slash >= 0 && slash < common; depth++) {
    end = slash + 1;
    slash = low.indexOf("/", slash + 1);
  }
  return low.slice(0, end);
}

// ── arguments of the stored functions ──

/** An array in PostgreSQL's own text form. */
function arrayText(items: readonly (string | number | boolean | null | undefined)[]): string {
  let text = "{";
  for (const [index, item] of items.entries()) {
    if (index > 0) text += ",";
    if (item === null || item === undefined) text += "NULL";
    else if (typeof item === "string") text += `"${/["\\]/.test(item) ? item.replace(/["\\]/g, "\\$&") : item}"`;
    else text += String(item);
  }
  return `${text}}`;
}

/** Arguments of `mcp_swarm_read_v1`. */
export function readArguments({ keys, ranges }: ReadRequest): string[] {
  const split = [...keys].map(splitKey);
  const list = [...ranges.values()];
  return [
    arrayText(split.map(({ namespace }) => namespace)),
    arrayText(split.map(({ rest }) => rest)),
    arrayText(list.map(({ namespace }) => namespace)),
    arrayText(list.map(({ from }) => from)),
    arrayText(list.map(({ before }) => before)),
    arrayText(list.map(({ limit }) => limit)),
    arrayText(list.map(({ reverse }) => reverse)),
    arrayText(list.map(({ pick }) => pick?.choice)),
    arrayText(list.map(({ pick }) => pick?.share)),
  ];
}

/** The first two arguments after the class of every function that locks: numbers in one order for all, and their modes. */
export function lockArguments(locks: Locks, held?: Locks): string[] {
  const wanted = [...locks].filter(([lock, exclusive]) => {
    const mine = held?.get(lock);
    return mine === undefined || (exclusive && !mine);
  });
  wanted.sort(([a], [b]) => a - b);
  return [arrayText(wanted.map(([lock]) => lock)), arrayText(wanted.map(([, exclusive]) => exclusive))];
}

/** Arguments of `mcp_swarm_commit_v1` from the checks on. `format` is the revision of the record `meta/format`, checked first. */
export function commitArguments(
  checks: ReadonlyMap<string, Row | undefined>,
  scans: Iterable<{ bounds: Bounds; limit: number; rows: Row[] }>,
  staged: ReadonlyMap<string, { text: string; expiresAt: number | undefined } | undefined>,
  format: { namespace: string; rest: string; rev: string },
): string[] {
  const read = [...checks].map(([key, row]) => ({ ...splitKey(key), rev: row?.rev }));
  read.unshift(format);
  const ranges = [...scans];
  const puts: { namespace: string; rest: string; text: string; expiresAt: number | undefined }[] = [];
  const deletes: { namespace: string; rest: string }[] = [];
  for (const [key, written] of staged) {
    if (written) puts.push({ ...splitKey(key), ...written });
    else deletes.push(splitKey(key));
  }
  return [
    arrayText(read.map(({ namespace }) => namespace)),
    arrayText(read.map(({ rest }) => rest)),
    arrayText(read.map(({ rev }) => rev)),
    arrayText(ranges.map(({ bounds }) => bounds.namespace)),
    arrayText(ranges.map(({ bounds }) => bounds.from)),
    arrayText(ranges.map(({ bounds }) => bounds.before)),
    arrayText(ranges.map(({ limit }) => limit)),
    arrayText(ranges.map(({ bounds }) => bounds.reverse)),
    arrayText(ranges.map(({ rows }) => digest(rows))),
    arrayText(puts.map(({ namespace }) => namespace)),
    arrayText(puts.map(({ rest }) => rest)),
    arrayText(puts.map(({ text }) => text)),
    arrayText(puts.map(({ expiresAt }) => expiresAt)),
    arrayText(puts.map(({ namespace, rest, text }) => checksum(namespace, rest, text))),
    arrayText(deletes.map(({ namespace }) => namespace)),
    arrayText(deletes.map(({ rest }) => rest)),
  ];
}

/** What the stored function computes over the same rows. */
function digest(rows: readonly Row[]): string {
  const seen = rows.map(({ key, rev }) => `${key.slice(key.indexOf("/") + 1)} ${rev}`).join(",");
  return createHash("md5").update(seen).digest("hex");
}
