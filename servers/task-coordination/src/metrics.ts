/** How the work goes: of the swarm, of one agent, of one workflow. Read from counts that are kept, never from all tasks. */
import {
  hasEnded,
  type IndexEntry,
  indexEntry,
  TASK_STATUSES,
  type TaskStatus,
  taskKey,
  taskOf,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, listLiveAgents } from "@mcp-swarm/identity";
import { ordered, prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import { heldTasks } from "./held-tasks.ts";
import {
  agentScope,
  donePerMinute,
  type Histogram,
  histogramMean,
  histogramSize,
  openTasks,
  PERCENTILE_ERROR,
  percentile,
  readTallies,
  readTally,
  swarmScope,
  TALLY_EVENTS,
  type Tally,
  type TallyEvent,
  workflowScope,
} from "./tally.ts";
import { prefixes } from "./task-layer.ts";
import type { WorkerSlots } from "./worker-slots.ts";
import { checkWorkflowId, workflowNotFound } from "./workflow-record.ts";

export const METRICS_SCOPES = ["swarm", "agent", "workflow"] as const;
export type MetricsScope = (typeof METRICS_SCOPES)[number];

/** Most overdue tasks that are looked at; where there are more, the count says so. */
export const OVERDUE_MAX = SCAN_LIMIT_MAX;
/** Most agents whose load is shown. */
export const AGENTS_SHOWN_MAX = 50;
/** Most tasks of one agent that are looked at or counted one by one. */
export const AGENT_TASKS_MAX = SCAN_LIMIT_MAX;
/** Minutes that throughput is told of. */
const THROUGHPUT_MINUTES = { last1Min: 1, last15Min: 15, last60Min: 60 } as const;

export type Durations = {
  readonly count: number;
  /** Off by at most `errorPercent` and 1 ms; absent when nothing was counted. */
  readonly p50?: number;
  readonly p90?: number;
  readonly p99?: number;
};

export type AgentLoad = {
  readonly agentId: string;
  /** Claimed and working now (see HELD_LOOKED_AT_MAX), and assigned to it and open; at most AGENT_TASKS_MAX are counted of each. */
  readonly held: number;
  readonly assigned: number;
  readonly done: number;
  /** Attempts after which a task failed for good. */
  readonly failed: number;
  readonly meanRunMs?: number;
};

export type Metrics = {
  readonly scope: MetricsScope;
  readonly id?: string;
  readonly at: number;
  /** Tasks by status, exact. Of an agent: what it holds. */
  readonly counts: { readonly [S in TaskStatus]?: number };
  readonly open: number;
  /** Open tasks past their deadline; of an agent, those it holds. With `overdueAtLeast` there may be more. */
  readonly overdue: number;
  readonly overdueAtLeast?: true;
  /** Tasks done per minute; the oldest minute of each time counts by the part that is within it. */
  readonly donePerMinute: { readonly [K in keyof typeof THROUGHPUT_MINUTES]: number };
  /** From available to claimed; not known of an agent. */
  readonly waitMs?: Durations;
  /** From claimed to done. */
  readonly runMs: Durations;
  readonly errorPercent: number;
  /** What happened so far, to tasks that are gone too. Of an agent: how its attempts ended. */
  readonly events: { readonly [E in TallyEvent]?: number };
  readonly agents?: readonly AgentLoad[];
  /** More agents live than are shown. */
  readonly moreAgents?: true;
  readonly slots?: { readonly slots: number; readonly used: number };
};

/** @throws SwarmError invalid_argument, not_found (no such workflow) */
export async function getMetrics(
  call: Pick<Call, "store" | "caller">,
  { scope, id }: { scope: MetricsScope; id?: string | undefined },
  slots: WorkerSlots,
): Promise<Metrics> {
  const { store } = call;
  switch (scope) {
    case "swarm": {
      if (id !== undefined) throw new SwarmError("invalid_argument", "There is one swarm.", { hint: "Leave id out." });
      const tally = await readTally(store, swarmScope);
      const [overdue, loads, inUse] = [await overdueTasks(store), await loadOfAgents(store), await slots.inUse(store)];
      return { scope, ...counted(tally, await store.now()), ...overdue, ...loads, slots: inUse };
    }
    case "workflow": {
      const workflowId = checkWorkflowId(id ?? "");
      if (!(await store.get(workflowKey(workflowId)))) throw workflowNotFound(workflowId);
      const tally = await readTally(store, workflowScope(workflowId));
      const overdue = await overdueTasks(store, ({ refs = [] }) => refs.includes(workflowKey(workflowId)));
      return { scope, id: workflowId, ...counted(tally, await store.now()), ...overdue };
    }
    case "agent":
      return await agentMetrics(store, id === undefined ? call.caller.agentId : checkAgentId(id));
  }
}

function counted(tally: Tally, at: number): Omit<Metrics, "scope" | "overdue"> & { waitMs: Durations } {
  const rate = (minutes: number) => Math.round(donePerMinute(tally, at, minutes) * 100) / 100;
  const pick = <K extends string>(names: readonly K[], from: { readonly [P in K]?: number }) =>
    Object.fromEntries(names.flatMap((name) => (from[name] === undefined ? [] : [[name, from[name]]]))) as { [P in K]?: number };
  return {
    at,
    counts: pick<TaskStatus>(TASK_STATUSES, tally.status),
    open: openTasks(tally),
    donePerMinute: {
      last1Min: rate(THROUGHPUT_MINUTES.last1Min),
      last15Min: rate(THROUGHPUT_MINUTES.last15Min),
      last60Min: rate(THROUGHPUT_MINUTES.last60Min),
    },
    waitMs: durations(tally.waitMs),
    runMs: durations(tally.runMs),
    errorPercent: PERCENTILE_ERROR * 100,
    events: pick<TallyEvent>(TALLY_EVENTS, tally.events),
  };
}

function durations(histogram: Histogram): Durations {
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((fraction) => percentile(histogram, fraction));
  if (p50 === undefined || p90 === undefined || p99 === undefined) return { count: 0 };
  return { count: histogramSize(histogram), p50, p90, p99 };
}

async function overdueTasks(
  store: Store,
  matches: (entry: IndexEntry) => boolean = () => true,
): Promise<Pick<Metrics, "overdue" | "overdueAtLeast">> {
  const range = prefixRange(prefixes.deadlines, OVERDUE_MAX);
  const late = await store.scan({ ...range, before: `${prefixes.deadlines}${ordered(await store.now())}` });
  const overdue = late.filter((entry) => matches(indexEntry(entry))).length;
  return { overdue, ...(late.length === OVERDUE_MAX ? { overdueAtLeast: true } : {}) };
}

async function loadOfAgents(store: Store): Promise<Pick<Metrics, "agents" | "moreAgents">> {
  const live = await listLiveAgents(store, { limit: AGENTS_SHOWN_MAX });
  const ids = live.agents.map(({ agentId }) => agentId);
  const held = await heldTasks(store, ids, AGENT_TASKS_MAX);
  const tallies = await readTallies(store, ids.map(agentScope));
  const agents = await Promise.all(
    ids.map(async (agentId, at): Promise<AgentLoad> => {
      const assigned = await store.scan(prefixRange(prefixes.assigned(agentId), AGENT_TASKS_MAX));
      const { events = {}, runMs = {} } = tallies[at] ?? {};
      const meanRunMs = histogramMean(runMs);
      return {
        agentId,
        held: held.get(agentId)?.length ?? 0,
        assigned: assigned.length,
        done: events.done ?? 0,
        failed: events.failed ?? 0,
        ...(meanRunMs === undefined ? {} : { meanRunMs }),
      };
    }),
  );
  return { agents, ...(live.next === undefined ? {} : { moreAgents: true }) };
}

/** Its tally counts how its attempts ended; what it holds is looked at. */
async function agentMetrics(store: Store, agentId: string): Promise<Metrics> {
  const tally = await readTally(store, agentScope(agentId));
  const held = (await heldTasks(store, [agentId], AGENT_TASKS_MAX)).get(agentId) ?? [];
  const found = held.length === 0 ? [] : await store.getMany(held.map(taskKey));
  const now = await store.now();
  const tasks = found.flatMap((entry) => (entry ? [taskOf(entry.value)] : [])).filter((task) => !hasEnded(task));
  const status: { [S in TaskStatus]?: number } = {};
  for (const task of tasks) status[task.status] = (status[task.status] ?? 0) + 1;
  const { waitMs: _, ...rest } = counted({ ...tally, status }, now);
  const overdue = tasks.filter(({ deadlineAt }) => deadlineAt !== undefined && deadlineAt < now).length;
  return {
    scope: "agent",
    id: agentId,
    ...rest,
    overdue,
    ...(held.length === AGENT_TASKS_MAX ? { overdueAtLeast: true } : {}),
  };
}
