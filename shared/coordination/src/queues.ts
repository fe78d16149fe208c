/** Queues of things that wait to be taken: which queues there are, and the order of what waits in one. */
import { createHash } from "node:crypto";
import type { Json, Random } from "@mcp-swarm/core";
import { type Entry, ordered, prefixRange, type Rev, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";

/** Each such stretch of waiting counts as one level of priority, so that nothing starves. */
export const AGE_MS = 600_000;
const WINDOW_DIGITS = 10;

/**
 * Key segment by which what waits in a queue is ordered: highest priority first, then earliest deadline, then (by what follows in
 * the key) oldest; each AGE_MS of waiting weighs as much as one level of priority.
 * @param level 0 to 9, the most urgent first
 */
export function rankAt(level: number, readyAt: number, deadlineAt?: number): string {
  const window = String(Math.floor(readyAt / AGE_MS) + level).padStart(WINDOW_DIGITS, "0");
  return `${window}${level}${ordered(deadlineAt ?? Number.MAX_SAFE_INTEGER)}`;
}

/**
 * Makes key segments that keep the order of creation within one process, without a shared counter. The time comes in front,
 * by the store's clock, inside the transaction.
 */
export class SequenceSource {
  readonly #tag: string;
  #last = 0;

  constructor(random: Random) {
    this.#tag = random
      .integer(36 ** 4)
      .toString(36)
      .padStart(4, "0");
  }

  /** The part that is made outside the plan. */
  next(): string {
    this.#last += 1;
    return this.#last.toString(36).padStart(8, "0") + this.#tag;
  }
}

export function sequenceAt(now: number, part: string): string {
  return `${ordered(now)}${part}`;
}

/** Names that were made: every claim asks for those of the queues it may take from. */
const names = new Map<string, string>();
const NAMES_MAX = 1_000;

/** A short name that fits keys, of what all in a queue have in common; equal queues have equal names. */
export function queueNameOf(common: Json): string {
  const text = JSON.stringify(common);
  const known = names.get(text);
  if (known !== undefined) return known;
  const name = createHash("sha256").update(text).digest("hex").slice(0, 24);
  if (names.size >= NAMES_MAX) names.clear();
  names.set(text, name);
  return name;
}

/** The queues as of one revision. */
export interface KnownQueues<Q> {
  readonly rev: Rev | undefined;
  readonly queues: readonly Q[];
}

/**
 * Which queues there are. Every claim needs to know and they hardly ever change, so a process remembers them, and a claim
 * reads one key to see that nothing changed. (To scan them in every claim would also make claims wait for one another, where
 * an engine locks what was scanned.)
 *
 * | key | value | why |
 * |---|---|---|
 * | `<prefix><queue>` | Q | which queues there are |
 * | `<versionKey>` | when it changed | its revision moves whenever a queue comes or goes |
 */
export class QueueDirectory<Q extends Json> {
  readonly prefix: string;
  readonly versionKey: string;
  readonly #nameOf: (queue: Q) => string;

  constructor(options: { prefix: string; versionKey: string; nameOf: (queue: Q) => string }) {
    this.prefix = options.prefix;
    this.versionKey = options.versionKey;
    this.#nameOf = options.nameOf;
  }

  /** All of them: a domain bounds how many there may be. */
  get all() {
    return prefixRange(this.prefix, SCAN_LIMIT_MAX);
  }

  key(queue: Q): string {
    return `${this.prefix}${this.#nameOf(queue)}`;
  }

  /** The queues as a transaction sees them; `known` when it still holds. */
  in(tx: Transaction, known: KnownQueues<Q> | undefined): { queues: readonly Q[]; changed: boolean } {
    if (known && tx.get(this.versionKey)?.rev === known.rev) return { queues: known.queues, changed: false };
    return { queues: queuesOf(tx.scan(this.all)), changed: true };
  }

  /** What a process may remember; `known` when it still holds. Read in this order, a change in between is noticed by the next claim. */
  async read(store: Store, known?: KnownQueues<Q>): Promise<KnownQueues<Q>> {
    const rev = (await store.get(this.versionKey))?.rev;
    if (known && known.rev === rev) return known;
    return { rev, queues: queuesOf(await store.scan(this.all)) };
  }

  keep(tx: Transaction, queue: Q): void {
    const key = this.key(queue);
    if (tx.get(key)) return;
    tx.put(key, queue);
    tx.put(this.versionKey, tx.now);
  }

  drop(tx: Transaction, keys: readonly string[]): void {
    for (const key of keys) tx.delete(key);
    if (keys.length > 0) tx.put(this.versionKey, tx.now);
  }

  /** Drops those of up to `limit` queues behind `after` that are empty; answers where to go on, undefined at the end. */
  async dropEmpty(
    store: Store,
    { after, limit, isEmpty }: { after: string | undefined; limit: number; isEmpty: (tx: Transaction, queue: Q) => boolean },
  ): Promise<string | undefined> {
    const range = prefixRange(this.prefix, limit, after === undefined ? {} : { after });
    return store.transact((tx) => {
      const entries = tx.scan(range);
      const empty = entries.filter(({ value }) => isEmpty(tx, value as Q));
      this.drop(
        tx,
        empty.map(({ key }) => key),
      );
      return entries.length === range.limit ? entries.at(-1)?.key : undefined;
    });
  }
}

function queuesOf<Q>(entries: readonly Entry[]): Q[] {
  return entries.map((entry) => entry.value as Q);
}
