/**
 * The bound of an inbox. A count that every send adds to would be one row that all senders fight for, so a sender counts the
 * inbox itself, once in many sends, and notes when it is full. From then on each send is refused until a count, at most one every
 * few seconds, finds room again. An inbox may so hold some hundred messages more than the bound, never many.
 *
 * | key | value | why |
 * |---|---|---|
 * | `inbox-full/<agent>` | FullRow | the inbox was full when it was last counted |
 */
import { type Random, SwarmError } from "@mcp-swarm/core";
import { prefixRange, SCAN_LIMIT_MAX, type Store, segment } from "@mcp-swarm/store";
import { messagePrefixes } from "./message-layer.ts";

/** Most messages an inbox holds that are ready, delayed or in flight. */
export const INBOX_MESSAGES_MAX = 100_000;
/** One send of so many counts the receiver's inbox. */
const COUNTED_EVERY = 256;
/** A full inbox is counted again after so long. */
const FULL_MS = 5_000;

type FullRow = { readonly at: number };
const fullKey = (agentId: string): string => `inbox-full/${segment(agentId)}`;

export interface InboxCount {
  readonly count: number;
  /** There are more than were counted. */
  readonly more: boolean;
}

/** Counts the rows of a range, a page at a time, and stops at `max`. */
export async function countRows(store: Pick<Store, "scan">, prefix: string, max: number): Promise<InboxCount> {
  let count = 0;
  let after: string | undefined;
  while (count <= max) {
    const limit = Math.min(SCAN_LIMIT_MAX, max + 1 - count);
    const page = await store.scan(prefixRange(prefix, limit, after === undefined ? {} : { after }));
    count += page.length;
    after = page.at(-1)?.key;
    if (page.length < limit) return { count, more: false };
  }
  return { count: max, more: true };
}

export class InboxRoom {
  readonly #random: Random;
  readonly #max: number;

  constructor({ random, max = INBOX_MESSAGES_MAX }: { random: Random; max?: number | undefined }) {
    this.#random = random;
    this.#max = max;
  }

  /** Which of these agents' inboxes take no more; read outside a transaction, once for each send. */
  async fullOf(store: Store, agentIds: readonly string[]): Promise<Set<string>> {
    const rows = await store.getMany(agentIds.map(fullKey));
    const full = new Set<string>();
    for (const [at, agentId] of agentIds.entries()) {
      const row = rows[at]?.value as FullRow | undefined;
      if (row === undefined && this.#random.integer(COUNTED_EVERY) !== 0) continue;
      const stillFull = row !== undefined && (await store.now()) - row.at < FULL_MS;
      if (stillFull || (await this.#count(store, agentId, row !== undefined))) full.add(agentId);
    }
    return full;
  }

  /** Counts and notes; whether the inbox is full. */
  async #count(store: Store, agentId: string, wasFull: boolean): Promise<boolean> {
    const ready = await countRows(store, messagePrefixes.ready(agentId), this.#max);
    const due = ready.more ? ready : await countRows(store, messagePrefixes.due(agentId), this.#max);
    const full = ready.more || due.more || ready.count + due.count >= this.#max;
    if (full || wasFull) {
      await store.transact((tx) => {
        if (full) tx.put(fullKey(agentId), { at: tx.now });
        else tx.delete(fullKey(agentId));
      });
    }
    return full;
  }
}

export function inboxIsFull(agentId: string): SwarmError {
  return new SwarmError("limit_exceeded", `The inbox of ${agentId} is full: it holds ${INBOX_MESSAGES_MAX} messages that wait.`, {
    hint: "Try again once it was read; if its agent is gone, send to another (list_agents).",
    retryable: true,
  });
}
