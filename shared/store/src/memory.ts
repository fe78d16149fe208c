import { type Clock, type Json, SwarmError, systemClock } from "@mcp-swarm/core";
import type { Keyv } from "keyv";
import BTreeModule from "sorted-btree";
import type { Entry, KeyRange, Snapshot, Store, TextQuery, Transaction } from "./contract.ts";
import { splitKey, splitRange } from "./keys.ts";
import { type KeyvRows, keyvOverRows } from "./keyv-view.ts";
import { compareBytes, decodeValue, encodeValue, expiry } from "./row.ts";
import { matches, parseQuery, TEXT_NAMESPACE, tokensOf } from "./search.ts";

const BTree = BTreeModule.default;

interface Row {
  text: string;
  rev: number;
  expiresAt: number | undefined;
}

/**
 * One process's memory as a store: for tests, simulations and a swarm that need not outlive its host. Transactions are
 * serial because each runs within one turn of the event loop. Several `Store` handles may share one.
 */
export class MemoryStore implements Store, KeyvRows {
  readonly engine = "memory";
  readonly location = "memory:";
  readonly #clock: Clock;
  /** Namespace → rows in byte order. */
  readonly #spaces = new Map<string, InstanceType<typeof BTree<string, Row>>>();
  readonly #watchers = new Set<{ prefix: string; wake: () => void }>();
  #lastRev = 0;
  #lastNow = 0;
  #closed = false;

  constructor(options: { clock?: Clock } = {}) {
    this.#clock = options.clock ?? systemClock;
  }

  async transact<T>(plan: (tx: Transaction) => T): Promise<T> {
    this.#open();
    const now = this.#tick();
    const staged = new Map<string, { value: Json; expiresAt: number | undefined } | undefined>();
    const get = (key: string): Entry | undefined => {
      splitKey(key);
      if (!staged.has(key)) return this.#read(key, now);
      const written = staged.get(key);
      if (!written || (written.expiresAt !== undefined && written.expiresAt <= now)) return undefined;
      return entry(key, structuredClone(written.value), "staged", written.expiresAt);
    };
    const scan = (range: KeyRange): Entry[] => this.#merge(range, now, staged, get);
    const result = plan({
      now,
      get,
      scan,
      pick: (range) => scan({ ...range, limit: 1 })[0],
      put: (key, value, { ttlMs } = {}) => {
        splitKey(key);
        const expiresAt = expiry(now, ttlMs);
        staged.set(key, { value: decodeValue(encodeValue(value, expiresAt)), expiresAt });
      },
      delete: (key) => {
        splitKey(key);
        staged.set(key, undefined);
      },
    });
    for (const [key, written] of staged) {
      if (written) this.#write(key, encodeValue(written.value, written.expiresAt), written.expiresAt);
      else this.#remove(key);
    }
    if (staged.size > 0) this.#wake([...staged.keys()]);
    return result;
  }

  async get(key: string): Promise<Entry | undefined> {
    this.#open();
    return this.#read(key, this.#tick());
  }

  async getMany(keys: readonly string[]): Promise<(Entry | undefined)[]> {
    this.#open();
    const now = this.#tick();
    return keys.map((key) => this.#read(key, now));
  }

  async scan(range: KeyRange): Promise<Entry[]> {
    this.#open();
    const now = this.#tick();
    return this.#merge(range, now, new Map(), () => undefined);
  }

  async search(query: TextQuery): Promise<Entry[]> {
    this.#open();
    const parsed = parseQuery(query);
    const now = this.#tick();
    const found: Entry[] = [];
    for (const [rest, row] of this.#space(TEXT_NAMESPACE).entriesReversed(parsed.before)) {
      if (found.length === parsed.limit) break;
      if (compareBytes(rest, parsed.before) >= 0 || !this.#live(row, now)) continue;
      const value = decodeValue(row.text);
      const tokens = tokensOf(rest, value)?.tokens;
      if (tokens !== undefined && matches(tokens, parsed)) {
        found.push(entry(`${TEXT_NAMESPACE}/${rest}`, value, String(row.rev), row.expiresAt));
      }
    }
    return found;
  }

  watch(prefix: string, wake: () => void): Disposable {
    this.#open();
    const watcher = { prefix, wake };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  async now(): Promise<number> {
    this.#open();
    return this.#tick();
  }

  keyv(namespace: string): Keyv {
    this.#open();
    return keyvOverRows(this, namespace);
  }

  async snapshot<T>(read: (view: Snapshot) => Promise<T>): Promise<T> {
    this.#open();
    const now = this.#tick();
    const spaces = new Map([...this.#spaces].map(([namespace, rows]) => [namespace, rows.clone()]));
    return await read({
      namespaces: async () => [...spaces].flatMap(([namespace, rows]) => (rows.size > 0 ? [namespace] : [])).sort(compareBytes),
      scan: async (range) => this.#merge(range, now, new Map(), () => undefined, spaces),
    });
  }

  async sweep(limit: number): Promise<number> {
    this.#open();
    const now = this.#tick();
    let removed = 0;
    for (const rows of this.#spaces.values()) {
      const expired: string[] = []; // collected first: the tree does not allow for a delete while it is walked
      for (const [key, row] of rows.entries()) {
        if (removed + expired.length === limit) break;
        if (row.expiresAt !== undefined && row.expiresAt <= now) expired.push(key);
      }
      removed += rows.deleteKeys(expired);
    }
    return removed;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watchers.clear();
  }

  // ── rows as Keyv sees them ──

  async read(namespace: string, keys: readonly string[]) {
    this.#open();
    const now = this.#tick();
    return keys.map((key) => this.#live(this.#space(namespace).get(key), now)?.text);
  }

  async write(namespace: string, rows: readonly { key: string; text: string; expiresAt: number | undefined }[]) {
    this.#open();
    for (const { key, text, expiresAt } of rows) this.#write(`${namespace}/${key}`, text, expiresAt);
    this.#wake(rows.map(({ key }) => `${namespace}/${key}`));
  }

  async remove(namespace: string, keys: readonly string[]) {
    const found = (await this.read(namespace, keys)).map((text) => text !== undefined);
    for (const key of keys) this.#remove(`${namespace}/${key}`);
    this.#wake(keys.map((key) => `${namespace}/${key}`));
    return found;
  }

  async clear(namespace: string) {
    this.#open();
    this.#spaces.delete(namespace);
    this.#wake([`${namespace}/`]);
  }

  async page(namespace: string, after: string | undefined, limit: number) {
    this.#open();
    const now = this.#tick();
    const page: { key: string; text: string }[] = [];
    for (const [key, row] of this.#space(namespace).entries(after)) {
      if (page.length === limit) break;
      if (key !== after && this.#live(row, now)) page.push({ key, text: row.text });
    }
    return page;
  }

  // ── inside ──

  #open(): void {
    if (this.#closed) throw new SwarmError("unavailable", "The store is closed.");
  }

  #tick(): number {
    this.#lastNow = Math.max(this.#lastNow, this.#clock.now());
    return this.#lastNow;
  }

  #space(namespace: string) {
    let rows = this.#spaces.get(namespace);
    if (!rows) {
      rows = new BTree<string, Row>(undefined, compareBytes);
      this.#spaces.set(namespace, rows);
    }
    return rows;
  }

  #live(row: Row | undefined, now: number): Row | undefined {
    return row && (row.expiresAt === undefined || row.expiresAt > now) ? row : undefined;
  }

  #read(key: string, now: number): Entry | undefined {
    const { namespace, rest } = splitKey(key);
    const row = this.#live(this.#space(namespace).get(rest), now);
    return row && entry(key, decodeValue(row.text), String(row.rev), row.expiresAt);
  }

  #write(key: string, text: string, expiresAt: number | undefined): void {
    const { namespace, rest } = splitKey(key);
    this.#lastRev += 1;
    this.#space(namespace).set(rest, { text, rev: this.#lastRev, expiresAt });
  }

  #remove(key: string): void {
    const { namespace, rest } = splitKey(key);
    this.#space(namespace).delete(rest);
  }

  /** Committed rows of a range with what the transaction staged laid over them. */
  #merge(
    range: KeyRange,
    now: number,
    staged: ReadonlyMap<string, unknown>,
    get: (key: string) => Entry | undefined,
    spaces = this.#spaces,
  ): Entry[] {
    const { namespace, from, before } = splitRange(range);
    const inside = (rest: string) => compareBytes(rest, from) >= 0 && (before === undefined || compareBytes(rest, before) < 0);
    const found: Entry[] = [];
    for (const key of staged.keys()) {
      const split = splitKey(key);
      if (split.namespace !== namespace || !inside(split.rest)) continue;
      const mine = get(key);
      if (mine) found.push(mine);
    }
    const rows = spaces.get(namespace) ?? this.#space(namespace);
    let committed = 0;
    const walk = range.reverse ? rows.entriesReversed(before) : rows.entries(from);
    for (const [rest, row] of walk) {
      if (range.reverse && before !== undefined && compareBytes(rest, before) >= 0) continue;
      if (!inside(rest) || committed === range.limit) break;
      const key = `${namespace}/${rest}`;
      if (staged.has(key) || !this.#live(row, now)) continue;
      found.push(entry(key, decodeValue(row.text), String(row.rev), row.expiresAt));
      committed++;
    }
    found.sort((a, b) => (range.reverse ? compareBytes(b.key, a.key) : compareBytes(a.key, b.key)));
    return found.slice(0, range.limit);
  }

  #wake(keys: readonly string[]): void {
    for (const { prefix, wake } of [...this.#watchers]) {
      if (keys.some((key) => key.startsWith(prefix) || prefix.startsWith(key))) queueMicrotask(wake);
    }
  }
}

function entry(key: string, value: Json, rev: string, expiresAt: number | undefined): Entry {
  return expiresAt === undefined ? { key, value, rev } : { key, value, rev, expiresAt };
}
