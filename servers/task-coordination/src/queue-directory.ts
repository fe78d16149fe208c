/**
 * Which queues there are. Every claim needs to know and they hardly ever change, so a process remembers them, and a claim
 * reads one key to see that nothing changed. (To scan them in every claim would also make claims wait for one another, where
 * an engine locks what was scanned.)
 *
 * | key | value | why |
 * |---|---|---|
 * | `task-queue/<queue>` | Queue | which queues there are |
 * | `task-queues/version` | when it changed | its revision moves whenever a queue comes or goes |
 */
import { type Entry, prefixRange, type Rev, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";
import { type Queue, queueName } from "./task-queue.ts";

export const QUEUES_PREFIX = "task-queue/";
export const QUEUES_VERSION_KEY = "task-queues/version";
/** All of them: QUEUES_MAX bounds how many new tasks make, and what becomes available again adds few. */
export const ALL_QUEUES = prefixRange(QUEUES_PREFIX, SCAN_LIMIT_MAX);

/** The queues as of one revision. */
export interface KnownQueues {
  readonly rev: Rev | undefined;
  readonly queues: readonly Queue[];
}

function queuesOf(entries: readonly Entry[]): Queue[] {
  return entries.map((entry) => entry.value as Queue);
}

/** The queues as a transaction sees them; `known` when it still holds. */
export function queuesIn(tx: Transaction, known: KnownQueues | undefined): { queues: readonly Queue[]; changed: boolean } {
  if (known && tx.get(QUEUES_VERSION_KEY)?.rev === known.rev) return { queues: known.queues, changed: false };
  return { queues: queuesOf(tx.scan(ALL_QUEUES)), changed: true };
}

/** What a process may remember. Read in this order, a change in between is noticed by the next claim. */
export async function readQueues(store: Store): Promise<KnownQueues> {
  const rev = (await store.get(QUEUES_VERSION_KEY))?.rev;
  return { rev, queues: queuesOf(await store.scan(ALL_QUEUES)) };
}

export function keepQueue(tx: Transaction, queue: Queue): void {
  const key = `${QUEUES_PREFIX}${queueName(queue)}`;
  if (tx.get(key)) return;
  tx.put(key, queue);
  tx.put(QUEUES_VERSION_KEY, tx.now);
}

export function dropQueues(tx: Transaction, keys: readonly string[]): void {
  for (const key of keys) tx.delete(key);
  if (keys.length > 0) tx.put(QUEUES_VERSION_KEY, tx.now);
}
