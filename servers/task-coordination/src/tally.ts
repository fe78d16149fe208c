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
/** Four buckets for each doubling. */
const BUCKETS_PER_OCTAVE = 4;
/** A percentile read from the buckets is off by at most this part and 1 ms: half a bucket, 2^(1/8) - 1. */
export const PERCENTILE_ERROR = 0.091;

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

/** Minutes of the past of which is known how many tasks were done in each, besides the one that runs. */
export const DONE_MINUTES_MAX = 60;
const MINUTE_MS = 60_000;

/** Tasks done in `minute` (since the epoch), in the minute before it, and so on back; at most DONE_MINUTES_MAX + 1 counts. */
export type DoneByMinute = { readonly minute: number; readonly counts: readonly number[] };

/** Bucket number → how many durations fell in it. */
export type Histogram = { readonly [bucket: string]: number | undefined };

export type Tally = {
  readonly status: { readonly [S in TaskStatus]?: number };
  readonly events: { readonly [E in TallyEvent]?: number };
  /** Absent until something was done. */
  readonly done?: DoneByMinute;
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

/** The middle of a bucket in ms, by the scale it is measured on. */
function middleOf(bucket: number): number {
  return 2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE) - 1;
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
    if (seen >= fraction * all && count > 0) return Math.round(middleOf(bucket));
  }
  return undefined;
}

/** How many durations were counted. */
export function histogramSize(histogram: Histogram): number {
  return Object.values(histogram).reduce<number>((sum, count) => sum + (count ?? 0), 0);
}

/** Their mean in ms, as far off as a percentile; undefined when none was counted. */
export function histogramMean(histogram: Histogram): number | undefined {
  const all = histogramSize(histogram);
  if (all === 0) return undefined;
  const sum = Object.entries(histogram).reduce((total, [bucket, count]) => total + middleOf(Number(bucket)) * (count ?? 0), 0);
  return Math.round(sum / all);
}

type Counts<K extends string> = { readonly [P in K]?: number };

function plus<K extends string>(a: Counts<K>, b: Counts<K>): Counts<K> {
  const added = Object.keys(b) as K[];
  if (added.length === 0) return a; // most changes touch one of the parts, and a histogram is long to copy
  const sum: { [P in K]?: number } = { ...a };
  for (const key of added) {
    const value = (sum[key] ?? 0) + (b[key] ?? 0);
    if (value === 0) delete sum[key];
    else sum[key] = value;
  }
  return sum;
}

/** Both rings by the later minute; what is older than DONE_MINUTES_MAX is forgotten. */
function plusDone(a: DoneByMinute | undefined, b: DoneByMinute | undefined): DoneByMinute | undefined {
  if (!a || !b) return a ?? b;
  const minute = Math.max(a.minute, b.minute);
  const length = Math.max(...[a, b].map((ring) => ring.counts.length + minute - ring.minute));
  const at = (ring: DoneByMinute, ago: number) => ring.counts[ago - (minute - ring.minute)] ?? 0;
  const counts = Array.from({ length: Math.min(length, DONE_MINUTES_MAX + 1) }, (_, ago) => at(a, ago) + at(b, ago));
  return { minute, counts };
}

/**
 * Tasks done per minute over the last `minutes` (1 to DONE_MINUTES_MAX) before `now`. The oldest minute, of which only a part is
 * within, counts by that part: a sliding window counter.
 */
export function donePerMinute(tally: Tally, now: number, minutes: number): number {
  if (!tally.done) return 0;
  const since = Math.floor(now / MINUTE_MS) - tally.done.minute;
  const partOfOldest = 1 - (now % MINUTE_MS) / MINUTE_MS;
  let done = 0;
  for (let ago = 0; ago <= minutes; ago++) {
    done += (tally.done.counts[ago - since] ?? 0) * (ago === minutes ? partOfOldest : 1);
  }
  return done / minutes;
}

export function addTallies(a: Tally, b: Tally): Tally {
  const done = plusDone(a.done, b.done);
  return {
    ...(done === undefined ? {} : { done }),
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

  /** @param now by the store's clock */
  happened(scopes: readonly string[], event: TallyEvent, now: number): void {
    const done = event === "done" ? { done: { minute: Math.floor(now / MINUTE_MS), counts: [1] } } : {};
    for (const scope of scopes) this.#add(scope, { events: { [event]: 1 }, ...done });
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
