/**
 * Counts without a hot key: each process adds to its own shard, a reader sums all shards. An agent has one row: mostly it is
 * one process that writes it.
 *
 * | key | value | why |
 * |---|---|---|
 * | `task-live/tally/<shard>` | KeptTally | counts of the swarm |
 * | `task-live/agent/<agent>` | KeptTally | how the attempts of an agent ended |
 * | `task-tally/wf.<workflow>/<shard>` | KeptTally | counts of one workflow |
 *
 * One shard alone may count below zero (a task added through one process and finished through another); the sum never does.
 * A row is written with nearly every commit, and an engine may keep a long one apart from its neighbours: so rows are short.
 */
import { TASK_STATUSES, type TaskStatus } from "@mcp-swarm/coordination/tasks";
import { type Store, segment, type Transaction } from "@mcp-swarm/store";
import { addRuns, addRunsByType, oneRun, type RunStats, type RunsByType, stillKept } from "./run-stats.ts";

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

type Counts<K extends string> = { readonly [P in K]?: number };

export type Tally = {
  readonly status: { readonly [S in TaskStatus]?: number };
  readonly events: { readonly [E in TallyEvent]?: number };
  /** Absent until something was done. */
  readonly done?: DoneByMinute;
  /** Ms from available to claimed. */
  readonly waitMs: Histogram;
  /** Ms from claimed to done. */
  readonly runMs: Histogram;
  /** The same by type; not of workflows. */
  readonly runs: RunsByType;
};

/** What is counted together: where its rows are, and how many. */
export type Scope = { readonly key: string; readonly shards: number };

export const swarmScope: Scope = { key: "task-live/tally", shards: TALLY_SHARDS };
export const workflowScope = (workflowId: string): Scope => ({
  key: `task-tally/${segment(`wf.${workflowId}`)}`,
  shards: TALLY_SHARDS,
});
export const agentScope = (agentId: string): Scope => ({ key: `task-live/agent/${segment(agentId)}`, shards: 1 });

const NOTHING: Tally = { status: {}, events: {}, waitMs: {}, runMs: {}, runs: new Map() };

/**
 * A tally as it is stored; parts without a count are left out. `status` and `events` go by TASK_STATUSES and TALLY_EVENTS,
 * `done` begins with its minute, a histogram with the number of its first bucket, and a type's runs are count, meanMs, m2, lastAt.
 */
type KeptTally = {
  readonly status?: readonly number[];
  readonly events?: readonly number[];
  readonly done?: readonly number[];
  readonly waitMs?: readonly number[];
  readonly runMs?: readonly number[];
  readonly runs?: { readonly [type: string]: readonly number[] };
};

function countsOf<K extends string>(names: readonly K[], kept: readonly number[] = []): Counts<K> {
  const counts: { [P in K]?: number } = {};
  for (const [at, name] of names.entries()) if (kept[at]) counts[name] = kept[at];
  return counts;
}

function histogramOf([first = 0, ...counts]: readonly number[] = []): Histogram {
  const histogram: { [bucket: string]: number } = {};
  for (const [at, count] of counts.entries()) if (count !== 0) histogram[first + at] = count;
  return histogram;
}

function tallyOf({ status, events, done, waitMs, runMs, runs }: KeptTally): Tally {
  const [minute, ...counts] = done ?? [];
  return {
    status: countsOf(TASK_STATUSES, status),
    events: countsOf(TALLY_EVENTS, events),
    ...(minute === undefined ? {} : { done: { minute, counts } }),
    waitMs: histogramOf(waitMs),
    runMs: histogramOf(runMs),
    runs: runsOf(runs),
  };
}

function bucketOf(durationMs: number): number {
  return Math.floor(BUCKETS_PER_OCTAVE * Math.log2(Math.max(0, durationMs) + 1));
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
    runs: addRunsByType(a.runs, b.runs),
  };
}

/** @param shard 0 to TALLY_SHARDS - 1; a scope of one row is the same for all */
export function tallyKey({ key, shards }: Scope, shard: number): string {
  return shards === 1 ? key : `${key}/${String(shard).padStart(2, "0")}`;
}

/** What one transaction changes in one scope. */
interface Change {
  readonly scope: Scope;
  /** By TASK_STATUSES and TALLY_EVENTS. */
  readonly status: number[];
  readonly events: number[];
  /** In which minute each done task was. */
  readonly done: number[];
  /** Buckets. */
  readonly waited: number[];
  readonly ran: number[];
  readonly runs: { readonly type: string; readonly durationMs: number; readonly at: number }[];
}

/**
 * What one transaction changes in the counts: gathered first, then written once for each scope. It is added to a row in the
 * form in which that is stored: nearly every commit does so.
 */
export class TallyChanges {
  readonly #changes = new Map<string, Change>();

  #of(scope: Scope): Change {
    let change = this.#changes.get(scope.key);
    if (!change) {
      change = { scope, status: [], events: [], done: [], waited: [], ran: [], runs: [] };
      this.#changes.set(scope.key, change);
    }
    return change;
  }

  /** A task went from one status to another; undefined stands for a task that is not there. */
  moved(scopes: readonly Scope[], from: TaskStatus | undefined, to: TaskStatus | undefined): void {
    if (from === to) return;
    for (const scope of scopes) {
      const { status } = this.#of(scope);
      if (from !== undefined) addAt(status, TASK_STATUSES.indexOf(from), -1);
      if (to !== undefined) addAt(status, TASK_STATUSES.indexOf(to), 1);
    }
  }

  /** @param now by the store's clock */
  happened(scopes: readonly Scope[], event: TallyEvent, now: number): void {
    for (const scope of scopes) {
      const { events, done } = this.#of(scope);
      addAt(events, TALLY_EVENTS.indexOf(event), 1);
      if (event === "done") done.push(Math.floor(now / MINUTE_MS));
    }
  }

  waited(scopes: readonly Scope[], durationMs: number): void {
    for (const scope of scopes) this.#of(scope).waited.push(bucketOf(durationMs));
  }

  ran(scopes: readonly Scope[], durationMs: number): void {
    for (const scope of scopes) this.#of(scope).ran.push(bucketOf(durationMs));
  }

  /** What `ran` counts, by type. @param now by the store's clock */
  ranType(scopes: readonly Scope[], type: string, durationMs: number, now: number): void {
    for (const scope of scopes) this.#of(scope).runs.push({ type, durationMs, at: now });
  }

  write(tx: Transaction, shard: number): void {
    for (const change of this.#changes.values()) {
      const key = tallyKey(change.scope, shard);
      tx.put(key, changed((tx.get(key)?.value ?? {}) as KeptTally, change));
    }
  }
}

/** Adds to a place in a row of counts, which may end before it. */
function addAt(counts: number[], place: number, by: number): void {
  while (counts.length <= place) counts.push(0);
  counts[place] = (counts[place] ?? 0) + by;
}

function changed(kept: KeptTally, { status, events, done, waited, ran, runs }: Change): KeptTally {
  return {
    ...kept,
    ...(status.length === 0 ? {} : { status: keptSum(kept.status, status) }),
    ...(events.length === 0 ? {} : { events: keptSum(kept.events, events) }),
    ...(done.length === 0 ? {} : { done: done.reduce(keptDone, kept.done ?? []) }),
    ...(waited.length === 0 ? {} : { waitMs: waited.reduce(keptBucket, kept.waitMs ?? []) }),
    ...(ran.length === 0 ? {} : { runMs: ran.reduce(keptBucket, kept.runMs ?? []) }),
    ...(runs.length === 0 ? {} : { runs: keptRuns(kept.runs, runs) }),
  };
}

function keptSum(a: readonly number[] = [], b: readonly number[]): number[] {
  const sum = [...a];
  for (const [at, by] of b.entries()) if (by !== 0) addAt(sum, at, by);
  return sum;
}

/** One more done in a minute, which may be before the last. */
function keptDone(kept: readonly number[], minute: number): readonly number[] {
  const [last = minute, ...counts] = kept;
  const sum = plusDone({ minute: last, counts }, { minute, counts: [1] });
  return sum ? [sum.minute, ...sum.counts] : kept;
}

function keptBucket(kept: readonly number[], bucket: number): readonly number[] {
  const [first, ...counts] = kept;
  if (first === undefined) return [bucket, 1];
  if (bucket < first) return [bucket, 1, ...Array<number>(first - bucket - 1).fill(0), ...counts];
  addAt(counts, bucket - first, 1);
  return [first, ...counts];
}

function keptRuns(kept: KeptTally["runs"], added: Change["runs"]): NonNullable<KeptTally["runs"]> {
  const runs = new Map(runsOf(kept));
  for (const { type, durationMs, at } of added) {
    const before = runs.get(type);
    const one = oneRun(durationMs, at);
    runs.set(type, before ? addRuns(before, one) : one);
  }
  const sum: { [type: string]: readonly number[] } = {};
  for (const [type, { count, meanMs, m2, lastAt }] of stillKept(runs)) sum[type] = [count, meanMs, m2, lastAt];
  return sum;
}

function runsOf(kept: KeptTally["runs"] = {}): RunsByType {
  const runs = new Map<string, RunStats>();
  for (const [type, [count = 0, meanMs = 0, m2 = 0, lastAt = 0]] of Object.entries(kept)) {
    runs.set(type, { count, meanMs, m2, lastAt });
  }
  return runs;
}

/** The sum over all rows of each scope, in the order asked. */
export async function readTallies(store: Store, scopes: readonly Scope[]): Promise<Tally[]> {
  const keys = scopes.map((scope) => Array.from({ length: scope.shards }, (_, shard) => tallyKey(scope, shard)));
  const found = keys.length === 0 ? [] : await store.getMany(keys.flat());
  let at = 0;
  return keys.map(({ length }) => {
    const rows = found.slice(at, at + length);
    at += length;
    return rows.reduce((sum, row) => (row ? addTallies(sum, tallyOf(row.value as KeptTally)) : sum), NOTHING);
  });
}

export async function readTally(store: Store, scope: Scope): Promise<Tally> {
  const [tally = NOTHING] = await readTallies(store, [scope]);
  return tally;
}

/** How many tasks of a tally have not ended. */
export function openTasks(tally: Tally): number {
  return TASK_STATUSES.reduce(
    (sum, status) =>
      status === "done" || status === "failed" || status === "cancelled" ? sum : sum + (tally.status[status] ?? 0),
    0,
  );
}
