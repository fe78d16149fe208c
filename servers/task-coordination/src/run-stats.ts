/**
 * How long agents took for tasks of a type: the ground for predictions.
 *
 * | key | value | why |
 * |---|---|---|
 * | `task-runs/<type>/<agent>` | RunStats | mean and spread for an agent; a scan of the type gives the swarm's |
 *
 * A row is forgotten when its agent did nothing of its type for RUN_STATS_TTL_MS.
 */
import { prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";

export const RUN_STATS_TTL_MS = 90 * 24 * 3_600_000;
/** Most agents that a prediction for a type looks at. */
export const RUN_AGENTS_MAX = 200;

/** Durations in ms; `m2` is the sum of squared distances from the mean (Welford 1962). */
export type RunStats = { readonly agentId: string; readonly count: number; readonly meanMs: number; readonly m2: number };

const typePrefix = (type: string): string => `task-runs/${segment(type)}/`;

export const runsKey = (type: string, agentId: string): string => `${typePrefix(type)}${segment(agentId)}`;

export function recordRun(tx: Transaction, type: string, agentId: string, durationMs: number): void {
  const key = runsKey(type, agentId);
  const before = tx.get(key)?.value as RunStats | undefined;
  const count = (before?.count ?? 0) + 1;
  const distance = durationMs - (before?.meanMs ?? 0);
  const meanMs = (before?.meanMs ?? 0) + distance / count;
  const m2 = (before?.m2 ?? 0) + distance * (durationMs - meanMs);
  tx.put(key, { agentId, count, meanMs, m2 }, { ttlMs: RUN_STATS_TTL_MS });
}

/** Standard deviation in ms; undefined below two runs. */
export function spreadMs(stats: Pick<RunStats, "count" | "m2">): number | undefined {
  return stats.count < 2 ? undefined : Math.sqrt(stats.m2 / (stats.count - 1));
}

/** What each agent took for a type; at most RUN_AGENTS_MAX agents. */
export async function runStats(store: Store, type: string): Promise<RunStats[]> {
  return (await store.scan(prefixRange(typePrefix(type), RUN_AGENTS_MAX))).map((entry) => entry.value as RunStats);
}

/** Several agents' runs as one (Chan's parallel form of Welford's sums); undefined for none. */
export function mergeRunStats(all: readonly RunStats[]): Omit<RunStats, "agentId"> | undefined {
  let merged: Omit<RunStats, "agentId"> | undefined;
  for (const next of all) {
    if (!merged) {
      merged = { count: next.count, meanMs: next.meanMs, m2: next.m2 };
      continue;
    }
    const count = merged.count + next.count;
    const distance = next.meanMs - merged.meanMs;
    merged = {
      count,
      meanMs: merged.meanMs + (distance * next.count) / count,
      m2: merged.m2 + next.m2 + (distance * distance * merged.count * next.count) / count,
    };
  }
  return merged;
}
