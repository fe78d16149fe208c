/**
 * Counts without a hot key: each process adds to its own shard, a reader sums all shards.
 *
 * | key | value | why |
 * |---|---|---|
 * | `task-tally/<scope>/<shard>` | Tally | counts of the swarm, of one workflow (`wf.<id>`), of one agent (`agent.<id>`) |
 *
 * One shard alone may count below zero (a task added through one process and finished through another); the sum never does.
 */
import { type Store, segment, type Transaction } from "@mcp-swarm/store";
import { TASK_STATUSES, type TaskStatus } from "./task-record.ts";

export const TALLY_SHARDS = 16;
/** Four buckets for each doubling: a percentile read from them is at most 9% off. */
const BUCKETS_PER_OCTAVE = 4;

export const TALLY_EVENTS = [
  "added",
  "claimed",
  "done",
  "failed",
  "cancelled",
  "retried",
  "expired",
  "timedOut",
  "givenBack",
  "reset",
] as const;
export type TallyEvent = (typeof TALLY_EVENTS)[number];

/** Bucket number → how many durations fell in it. */
export type Histogram = { readonly [bucket: string]: number | undefined };

export type Tally = {
  readonly status: { readonly [S in TaskStatus]?: number };
  readonly events: { readonly [E in TallyEvent]?: number };
  /** Ms from available to claimed. */
  readonly waitMs: Histogram;
  /** Ms from claimed to done. */
  readonly runMs: Histogram;
};

export const swarmScope = "swarm";
export const workflowScope = (workflowId: string): string => `wf.${workflowId}`;
export const agentScope = (agentId: string): string => `agent.${agentId}`;

const NOTHING: Tally = { status: {}, events: {}, waitMs: {}, runMs: {} };

function bucketOf(durationMs: number): string {
  return String(Math.floor(BUCKETS_PER_OCTAVE * Math.log2(Math.max(0, durationMs) + 1)));
}

/** The duration, in ms, that `fraction` (0 to 1) of the counted ones do not exceed; undefined when none was counted. */
export function percentile(histogram: Histogram, fraction: number): number | undefined {
  const buckets = Object.entries(histogram)
    .map(([bucket, count]) => ({ bucket: Number(bucket), count: count ?? 0 }))
    .sort((a, b) => a.bucket - b.bucket);
  const all = buckets.reduce((sum, { count }) => sum + count, 0);
  let seen = 0;
  for (const { bucket, count } of buckets) {
    seen += count;
    // the middle of the bucket, by the scale it is measured on
    if (seen >= fraction * all && count > 0) return Math.round(2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE) - 1);
  }
  return undefined;
}

function plus<K extends string>(a: { readonly [P in K]?: number }, b: { readonly [P in K]?: number }): { [P in K]?: number } {
  const sum: { [P in K]?: number } = { ...a };
  for (const key of Object.keys(b) as K[]) {
    const value = (sum[key] ?? 0) + (b[key] ?? 0);
    if (value === 0) delete sum[key];
    else sum[key] = value;
  }
  return sum;
}

export function addTallies(a: Tally, b: Tally): Tally {
  return {
    status: plus<TaskStatus>(a.status, b.status),
    events: plus<TallyEvent>(a.events, b.events),
    waitMs: plus<string>(a.waitMs, b.waitMs),
    runMs: plus<string>(a.runMs, b.runMs),
  };
}

export function tallyKey(scope: string, shard: number): string {
  return `task-tally/${segment(scope)}/${String(shard).padStart(2, "0")}`;
}

/** What one transaction changes in the counts: gathered first, then written once for each scope. */
export class TallyChanges {
  readonly #scopes = new Map<string, Tally>();

  #add(scope: string, change: Partial<Tally>): void {
    this.#scopes.set(scope, addTallies(this.#scopes.get(scope) ?? NOTHING, { ...NOTHING, ...change }));
  }

  /** A task went from one status to another; undefined stands for a task that is not there. */
  moved(scopes: readonly string[], from: TaskStatus | undefined, to: TaskStatus | undefined): void {
    if (from === to) return;
    for (const scope of scopes) {
      if (from !== undefined) this.#add(scope, { status: { [from]: -1 } });
      if (to !== undefined) this.#add(scope, { status: { [to]: 1 } });
    }
  }

  happened(scopes: readonly string[], event: TallyEvent): void {
    for (const scope of scopes) this.#add(scope, { events: { [event]: 1 } });
  }

  waited(scopes: readonly string[], durationMs: number): void {
    for (const scope of scopes) this.#add(scope, { waitMs: { [bucketOf(durationMs)]: 1 } });
  }

  ran(scopes: readonly string[], durationMs: number): void {
    for (const scope of scopes) this.#add(scope, { runMs: { [bucketOf(durationMs)]: 1 } });
  }

  write(tx: Transaction, shard: number): void {
    for (const [scope, change] of this.#scopes) {
      const key = tallyKey(scope, shard);
      const before = (tx.get(key)?.value ?? NOTHING) as Tally;
      tx.put(key, addTallies(before, change));
    }
  }
}

/** The sum over all shards of a scope. */
export async function readTally(store: Store, scope: string): Promise<Tally> {
  const keys = Array.from({ length: TALLY_SHARDS }, (_, shard) => tallyKey(scope, shard));
  const shards = await store.getMany(keys);
  return shards.reduce((sum, shard) => (shard ? addTallies(sum, shard.value as Tally) : sum), NOTHING);
}

/** How many tasks of a tally have not ended. */
export function openTasks(tally: Tally): number {
  return TASK_STATUSES.reduce(
    (sum, status) =>
      status === "done" || status === "failed" || status === "cancelled" ? sum : sum + (tally.status[status] ?? 0),
    0,
  );
}
