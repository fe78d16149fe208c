/** How long runs of a type took: the ground for predictions. Kept in the tallies (tally.ts), of the swarm and of each agent. */

/** What was not run for so long is forgotten, ms. */
export const RUNS_KEPT_MS = 90 * 24 * 3_600_000;
/** Most types of which one tally knows; those that were not run for longest are forgotten first. */
export const RUN_TYPES_MAX = 50;

/** Durations in ms; `m2` is the sum of squared distances from the mean (Welford 1962). `lastAt`: when the last one ended. */
export type RunStats = { readonly count: number; readonly meanMs: number; readonly m2: number; readonly lastAt: number };
export type RunsByType = ReadonlyMap<string, RunStats>;

export function oneRun(durationMs: number, now: number): RunStats {
  return { count: 1, meanMs: durationMs, m2: 0, lastAt: now };
}

/** Standard deviation in ms; undefined below two runs. */
export function spreadMs(stats: Pick<RunStats, "count" | "m2">): number | undefined {
  return stats.count < 2 ? undefined : Math.sqrt(stats.m2 / (stats.count - 1));
}

/** Chan's parallel form of Welford's sums. */
export function addRuns(a: RunStats, b: RunStats): RunStats {
  const count = a.count + b.count;
  const distance = b.meanMs - a.meanMs;
  return {
    count,
    meanMs: a.meanMs + (distance * b.count) / count,
    m2: a.m2 + b.m2 + (distance * distance * a.count * b.count) / count,
    lastAt: Math.max(a.lastAt, b.lastAt),
  };
}

export function addRunsByType(a: RunsByType, b: RunsByType): RunsByType {
  if (b.size === 0) return a;
  const sum = new Map(a);
  for (const [type, runs] of b) {
    const before = sum.get(type);
    sum.set(type, before ? addRuns(before, runs) : runs);
  }
  return stillKept(sum);
}

/** Without what was not run for RUNS_KEPT_MS before the last run, and of at most RUN_TYPES_MAX types. */
export function stillKept(runs: RunsByType): RunsByType {
  let [first, last] = [Number.POSITIVE_INFINITY, 0];
  for (const { lastAt } of runs.values()) {
    first = Math.min(first, lastAt);
    last = Math.max(last, lastAt);
  }
  if (runs.size <= RUN_TYPES_MAX && first >= last - RUNS_KEPT_MS) return runs;
  const kept = [...runs].filter(([, { lastAt }]) => lastAt >= last - RUNS_KEPT_MS);
  return new Map(kept.sort(([, x], [, y]) => y.lastAt - x.lastAt).slice(0, RUN_TYPES_MAX));
}
