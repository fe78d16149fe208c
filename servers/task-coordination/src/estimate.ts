/** How long a task will run, predicted from how long tasks like it ran. */
import { taskKey, taskOf } from "@mcp-swarm/coordination/tasks";
import { assert, SwarmError } from "@mcp-swarm/core";
import { checkAgentId } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { RUNS_KEPT_MS, type RunStats, type RunsByType, spreadMs } from "./run-stats.ts";
import {
  agentScope,
  donePerMinute,
  type Histogram,
  histogramMean,
  histogramSize,
  percentile,
  readTallies,
  swarmScope,
  type Tally,
} from "./tally.ts";
import { checkTaskId, TYPE_DEFAULT } from "./task-record.ts";

/** Whose runs a prediction rests on: the agent's with the type, all agents' with the type, all of the swarm, or nothing. */
export type EstimateScope = "agent+type" | "type" | "swarm" | "none";

export type Estimate = {
  /** The mean: what sums of many tasks go by. */
  readonly estimatedMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  /** 0 (nothing is known) to 1, from the number of runs and their spread. */
  readonly confidence: number;
  /** Runs that the prediction rests on. */
  readonly basedOn: number;
  readonly scope: EstimateScope;
};

/** Predicted for a task when nothing ever ran, in ms. */
export const UNKNOWN_RUN_MS = 60_000;
/** Runs of a type that an agent must have for its own to count; below, those of all agents do. */
export const AGENT_RUNS_MIN = 3;
/** With so many runs and no spread, half of full confidence is reached. */
const RUNS_FOR_HALF = 4;
/** How much less the runs of all types say about one. */
const SWARM_WEIGHT = 0.5;
/** The 90th percentile of the normal distribution, in standard deviations. */
const NORMAL_P90 = 1.2816;

const NOTHING_KNOWN: Estimate = {
  estimatedMs: UNKNOWN_RUN_MS,
  p50Ms: UNKNOWN_RUN_MS,
  p90Ms: UNKNOWN_RUN_MS,
  confidence: 0,
  basedOn: 0,
  scope: "none",
};

function confidence(runs: number, variation: number): number {
  return Math.round((100 * runs) / (runs + RUNS_FOR_HALF) / (1 + variation)) / 100;
}

/** Run times are positive and skewed: percentiles are those of the log-normal distribution with this mean and spread. */
function fromStats(stats: RunStats, scope: EstimateScope): Estimate {
  // one run says nothing of the spread: then it is taken to be as large as the mean
  const variation = stats.meanMs === 0 ? 0 : (spreadMs(stats) ?? stats.meanMs) / stats.meanMs;
  const median = stats.meanMs / Math.sqrt(1 + variation ** 2);
  const p90 = median * Math.exp(NORMAL_P90 * Math.sqrt(Math.log(1 + variation ** 2)));
  return {
    estimatedMs: Math.round(stats.meanMs),
    p50Ms: Math.round(median),
    p90Ms: Math.round(p90),
    confidence: confidence(stats.count, variation),
    basedOn: stats.count,
    scope,
  };
}

function fromHistogram(runMs: Histogram): Estimate {
  const runs = histogramSize(runMs);
  if (runs === 0) return NOTHING_KNOWN;
  const mean = histogramMean(runMs) ?? 0;
  const p50 = percentile(runMs, 0.5) ?? mean;
  const p90 = percentile(runMs, 0.9) ?? mean;
  const variation = mean === 0 ? 0 : Math.max(0, p90 - p50) / NORMAL_P90 / mean;
  return {
    estimatedMs: Math.round(mean),
    p50Ms: p50,
    p90Ms: p90,
    confidence: Math.round(SWARM_WEIGHT * 100 * confidence(runs, variation)) / 100,
    basedOn: runs,
    scope: "swarm",
  };
}

/** What is known of past runs at one moment. */
export class RunHistory {
  readonly #byType: RunsByType;
  readonly #byAgent: ReadonlyMap<string, RunsByType>;
  readonly #swarm: Estimate;
  readonly #since: number;
  readonly #known = new Map<string, Estimate>();

  /**
   * @param swarm of all agents
   * @param byAgent of those that are asked about
   */
  constructor(swarm: Pick<Tally, "runs" | "runMs">, byAgent: ReadonlyMap<string, RunsByType>, now: number) {
    this.#byType = swarm.runs;
    this.#swarm = fromHistogram(swarm.runMs);
    this.#byAgent = byAgent;
    this.#since = now - RUNS_KEPT_MS;
  }

  /** Without `agentId` as if any agent might run it. */
  predict(type: string, agentId?: string): Estimate {
    const key = JSON.stringify([type, agentId ?? null]);
    const known = this.#known.get(key) ?? this.#predict(type, agentId);
    this.#known.set(key, known);
    return known;
  }

  #predict(type: string, agentId: string | undefined): Estimate {
    const own = agentId === undefined ? undefined : this.#fresh(this.#byAgent.get(agentId)?.get(type));
    if (own && own.count >= AGENT_RUNS_MIN) return fromStats(own, "agent+type");
    const all = this.#fresh(this.#byType.get(type));
    return all ? fromStats(all, "type") : this.#swarm;
  }

  #fresh(runs: RunStats | undefined): RunStats | undefined {
    return runs && runs.lastAt >= this.#since ? runs : undefined;
  }
}

/** The runs of the swarm and of the agents that are asked about, by type; and all that is counted of the swarm. */
export async function readRunHistory(store: Store, agents: Iterable<string>): Promise<{ history: RunHistory; swarm: Tally }> {
  const ids = [...new Set(agents)];
  const [swarm, ...own] = await readTallies(store, [swarmScope, ...ids.map(agentScope)]);
  assert(swarm, "each scope asked for has a tally");
  const byAgent = new Map(own.map(({ runs }, at) => [ids[at] ?? "", runs]));
  return { history: new RunHistory(swarm, byAgent, await store.now()), swarm };
}

export interface EstimateTask {
  readonly type?: string | undefined;
  readonly agentId?: string | undefined;
  /** A task that is there: its type, and its holder or assignee, unless they are given. */
  readonly taskId?: string | undefined;
}

export type TaskEstimate = {
  readonly estimate: Estimate;
  readonly type: string;
  readonly agentId?: string;
  /** Tasks that are available now. */
  readonly queued: number;
  /**
   * How long a new task would wait behind them, by the throughput of the last THROUGHPUT_MINUTES (Little's law, 1961); absent
   * when nothing was done in that time and something waits.
   */
  readonly expectedWaitMs?: number;
};

/** The time whose throughput an expected wait goes by. */
export const THROUGHPUT_MINUTES = 15;
const MINUTE_MS = 60_000;

/** @throws SwarmError not_found, invalid_argument */
export async function estimateTask(store: Store, input: EstimateTask): Promise<TaskEstimate> {
  const entry = input.taskId === undefined ? undefined : await store.get(taskKey(checkTaskId(input.taskId)));
  const task = entry && taskOf(entry.value);
  if (input.taskId !== undefined && !task) {
    throw new SwarmError("not_found", `There is no task ${input.taskId}.`, { hint: "get_all_tasks lists the ids." });
  }
  const type = input.type ?? task?.type ?? TYPE_DEFAULT;
  const agentId = (input.agentId === undefined ? undefined : checkAgentId(input.agentId)) ?? task?.claim?.by ?? task?.assignedTo;
  const { history, swarm: tally } = await readRunHistory(store, agentId === undefined ? [] : [agentId]);
  const queued = tally.status.available ?? 0;
  const perMinute = donePerMinute(tally, await store.now(), THROUGHPUT_MINUTES);
  const wait = queued === 0 ? 0 : perMinute > 0 ? Math.round((queued / perMinute) * MINUTE_MS) : undefined;
  return {
    estimate: history.predict(type, agentId),
    type,
    ...(agentId === undefined ? {} : { agentId }),
    queued,
    ...(wait === undefined ? {} : { expectedWaitMs: wait }),
  };
}
