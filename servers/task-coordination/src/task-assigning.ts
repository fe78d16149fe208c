/** Assigning tasks to agents: what there is to do and who is there is read, planned, and written in one commit. */
import { hasEnded, indexEntry, isHeld, type StoredTask, taskKey, taskOf } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, type LiveAgent, listLiveAgents, speakAs } from "@mcp-swarm/identity";
import { prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import {
  type Assignable,
  type Assignment,
  balanceScore,
  type Candidate,
  type Load,
  loadOf,
  planAssignments,
  type Strategy,
  type Unassigned,
} from "./assignment.ts";
import { type RunHistory, readRunHistory } from "./estimate.ts";
import { heldTasks } from "./held-tasks.ts";
import { findAssignee } from "./task-assignees.ts";
import { assigneeKey, inTasks, prefixes, type TaskContext, type TaskTransaction } from "./task-layer.ts";
import { QUEUES_MAX, type Queue, queueName, queueOf } from "./task-queue.ts";
import { checkTaskId, TASKS_PER_CALL_MAX } from "./task-record.ts";

/** Most agents that one call spreads tasks over. */
export const ASSIGNEES_MAX = 100;
/** Most tasks that one call looks at to find those it assigns. */
const LOOKED_AT_MAX = 2_000;
/** Fewest tasks looked at of each queue, however many queues there are. */
const OF_EACH_QUEUE_MIN = 10;
/** Most held and most assigned tasks of an agent that count as its load. */
const LOAD_TASKS_MAX = 200;

export interface AssignTasks {
  readonly strategy: Strategy;
  /** Up to TASKS_PER_CALL_MAX; absent: what waits and is assigned to nobody, as many as one call assigns. */
  readonly taskIds?: readonly string[] | undefined;
  readonly workflowId?: string | undefined;
  readonly type?: string | undefined;
  /** Absent: all that are alive, the caller included. */
  readonly agents?: readonly GivenAgent[] | undefined;
  /** Tasks that are assigned to somebody already are assigned anew. */
  readonly reassign?: boolean | undefined;
}

export interface GivenAgent {
  readonly agentId: string;
  /** Absent: what the agent announced. */
  readonly capabilities?: readonly string[] | undefined;
  /** Most tasks that it is to have, those included that it has. */
  readonly maxLoad?: number | undefined;
}

export type AssignmentAnswer = {
  readonly assignments: readonly Assignment[];
  readonly unassigned: readonly Unassigned[];
  readonly load: readonly Load[];
  /** See `balanceScore`. */
  readonly balanceScore: number;
  /** The rule that was followed. */
  readonly strategy: Exclude<Strategy, "adaptive">;
  readonly reason: string;
  /** More tasks wait than one call assigns. */
  readonly more: boolean;
};

/** What a call is about, before it is known who is to do it. */
interface Found {
  readonly tasks: readonly StoredTask[];
  readonly left: readonly Unassigned[];
  readonly more: boolean;
}

export class Assignments {
  readonly #context: TaskContext;

  constructor(context: TaskContext) {
    this.#context = context;
  }

  /**
   * Sets who is to do which of the tasks that wait. What was claimed, ended or assigned by others in the meantime is left out and
   * named. An assignment holds until the task ends or its agent dies.
   * @throws SwarmError invalid_argument, failed_precondition (a given agent is not alive), limit_exceeded (too many queues)
   */
  async assign(call: Call, input: AssignTasks): Promise<AssignmentAnswer> {
    const { store } = call;
    const by = speakAs(call.caller, undefined);
    const live = await whoIsThere(store, input.agents);
    const found = await findTasks(store, input);
    const ids = live.map(({ agentId }) => agentId);
    const { history } = await readRunHistory(store, ids);
    const replanned = new Set(found.tasks.map(({ id }) => id));
    const now = await store.now();
    const agents = live.map(({ has, ...agent }): Candidate => {
      const kept = has.filter(({ id }) => !replanned.has(id));
      const predictedMs = kept.reduce((sum, task) => sum + leftMs(task, agent.agentId, history, now), 0);
      return { ...agent, tasks: kept.length, predictedMs };
    });
    const predict = (type: string, agentId: string) => history.predict(type, agentId);
    const tasks = found.tasks.map(toAssignable);
    const plan = planAssignments({ strategy: input.strategy, tasks, agents, predict, now });
    const before = new Map(found.tasks.map((task) => [task.id, task.assignedTo]));
    return await call.transact(
      (tx): AssignmentAnswer =>
        inTasks(tx, this.#context, (tasks) => {
          const left: Unassigned[] = [];
          const fresh = new Set<string>();
          const assignments = plan.assignments.filter(({ taskId, agentId }) => {
            const task = tasks.find(taskId);
            const reason = task ? whyNot(task, before.get(taskId)) : "It is gone.";
            if (reason !== undefined) left.push({ taskId, reason });
            else if (task && task.assignedTo !== agentId) assign(tasks, task, { agentId, by, fresh });
            return reason === undefined;
          });
          if (fresh.size > 0) checkQueues(tasks);
          const load = loadOf(agents, assignments);
          return {
            assignments,
            unassigned: [...found.left, ...plan.unassigned, ...left],
            load,
            balanceScore: balanceScore(load),
            strategy: plan.strategy,
            reason: plan.reason,
            more: found.more,
          };
        }),
      {
        prefetch: {
          keys: [...plan.assignments.map(({ taskId }) => taskKey(taskId)), ...agents.map(({ agentId }) => assigneeKey(agentId))],
        },
      },
    );
  }
}

function assign(
  tasks: TaskTransaction,
  task: StoredTask,
  { agentId, by, fresh }: { agentId: string; by: string; fresh: Set<string> },
): void {
  const queue = `${prefixes.queues}${queueName(queueOf({ ...task, assignedTo: agentId }))}`;
  if (!tasks.tx.get(queue)) fresh.add(queue);
  tasks.change(task, { assignedTo: agentId }, { event: "assigned", by, note: `To ${agentId}.` });
}

function checkQueues(tasks: TaskTransaction): void {
  if (tasks.tx.scan(prefixRange(prefixes.queues, QUEUES_MAX + 1)).length <= QUEUES_MAX) return;
  throw new SwarmError("limit_exceeded", `There would be more than ${QUEUES_MAX} combinations of type, capabilities and agent.`, {
    hint: "Assign to fewer agents, or tasks of one type alone. Nothing was assigned.",
  });
}

/** Why a task that was to be assigned cannot be by now; undefined when it can. */
function whyNot(task: StoredTask, assignedBefore: string | undefined): string | undefined {
  if (hasEnded(task) || isHeld(task)) return `It is ${task.status}.`;
  if (task.assignedTo !== assignedBefore) return "Another assigned it in the meantime.";
  return undefined;
}

function toAssignable(task: StoredTask): Assignable {
  const { id, type, requiredCapabilities, priority, deadlineAt, seq } = task;
  return { taskId: id, type, requiredCapabilities, priority, deadlineAt, readyAt: task.readyAt ?? task.dueAt, seq };
}

/** How long a task that an agent has will keep it busy, in ms. */
function leftMs(task: StoredTask, agentId: string, history: RunHistory, now: number): number {
  const { estimatedMs } = history.predict(task.type, agentId);
  return isHeld(task) && task.claim ? Math.max(0, estimatedMs - (now - task.claim.at)) : estimatedMs;
}

type Present = Omit<Candidate, "tasks" | "predictedMs"> & { readonly has: readonly StoredTask[] };

/** @throws SwarmError invalid_argument, failed_precondition naming a given agent that is not alive */
async function whoIsThere(store: Store, given: AssignTasks["agents"]): Promise<Present[]> {
  if (given === undefined) {
    const { agents } = await listLiveAgents(store, { limit: ASSIGNEES_MAX });
    const ids = agents.map(({ agentId }) => agentId);
    const held = await heldTasks(store, ids, LOAD_TASKS_MAX);
    return await Promise.all(agents.map((agent) => present(store, agent, { agentId: agent.agentId }, held)));
  }
  if (given.length < 1 || given.length > ASSIGNEES_MAX || new Set(given.map(({ agentId }) => agentId)).size < given.length) {
    throw new SwarmError("invalid_argument", `agents names 1 to ${ASSIGNEES_MAX} agents, each once.`, {
      hint: "Leave agents out to use all that are alive.",
    });
  }
  const named = given.map(({ agentId }) => checkAgentId(agentId));
  const held = await heldTasks(store, named, LOAD_TASKS_MAX);
  return await Promise.all(
    given.map(async (one) => {
      const agent = await findAssignee(store, one.agentId);
      if (agent) return await present(store, agent, one, held);
      throw new SwarmError("failed_precondition", `Agent ${one.agentId} is not alive.`, {
        hint: "Leave it out, or leave agents out to use all that are alive. Nothing was assigned.",
      });
    }),
  );
}

async function present(
  store: Store,
  agent: LiveAgent,
  { agentId, capabilities, maxLoad }: GivenAgent,
  held: ReadonlyMap<string, readonly string[]>,
): Promise<Present> {
  const assigned = await store.scan(prefixRange(prefixes.assigned(agentId), LOAD_TASKS_MAX));
  const has = await storedTasks(store, [
    ...new Set([...(held.get(agentId) ?? []), ...assigned.map((entry) => indexEntry(entry).id)]),
  ]);
  return { agentId, capabilities: capabilities ?? agent.capabilities, maxLoad, has };
}

async function storedTasks(store: Store, ids: readonly string[]): Promise<StoredTask[]> {
  if (ids.length === 0) return [];
  const found = await store.getMany(ids.map(taskKey));
  return found.flatMap((entry) => (entry ? [taskOf(entry.value)] : []));
}

/** @throws SwarmError invalid_argument */
async function findTasks(store: Store, { taskIds, workflowId, type, reassign = false }: AssignTasks): Promise<Found> {
  if (taskIds !== undefined) {
    if (workflowId !== undefined || type !== undefined) {
      throw new SwarmError("invalid_argument", "taskIds already says which tasks.", { hint: "Leave workflowId and type out." });
    }
    return await namedTasks(store, taskIds, reassign);
  }
  const { ids, more } = workflowId === undefined ? await waitingIds(store, { type, reassign }) : await openIds(store, workflowId);
  const open = (await storedTasks(store, ids)).filter(
    (task) =>
      !hasEnded(task) &&
      !isHeld(task) &&
      (type === undefined || task.type === type) &&
      (reassign || task.assignedTo === undefined),
  );
  return { tasks: open.slice(0, TASKS_PER_CALL_MAX), left: [], more: more || open.length > TASKS_PER_CALL_MAX };
}

async function namedTasks(store: Store, taskIds: readonly string[], reassign: boolean): Promise<Found> {
  const ids = [...new Set(taskIds)].map(checkTaskId);
  if (ids.length > TASKS_PER_CALL_MAX) {
    throw new SwarmError("invalid_argument", `A call assigns at most ${TASKS_PER_CALL_MAX} tasks.`, {
      hint: "Use several calls.",
    });
  }
  const found = new Map((await storedTasks(store, ids)).map((task) => [task.id, task]));
  const left: Unassigned[] = [];
  const tasks = ids.flatMap((taskId) => {
    const task = found.get(taskId);
    let reason = task ? whyNot(task, task.assignedTo) : "There is no such task.";
    if (!reason && !reassign && task?.assignedTo !== undefined) {
      reason = `It is assigned to ${task.assignedTo} already; with reassign it is assigned anew.`;
    }
    if (reason) left.push({ taskId, reason });
    return task && !reason ? [task] : [];
  });
  return { tasks, left, more: false };
}

async function openIds(store: Store, workflowId: string): Promise<{ ids: string[]; more: boolean }> {
  const entries = await store.scan(prefixRange(prefixes.workflowOpen(workflowId), SCAN_LIMIT_MAX));
  return { ids: entries.map((entry) => indexEntry(entry).id), more: entries.length === SCAN_LIMIT_MAX };
}

/** What is available, in the order of claiming; then what waits for other tasks, then what waits for a time. */
async function waitingIds(
  store: Store,
  { type, reassign }: { type: string | undefined; reassign: boolean },
): Promise<{ ids: string[]; more: boolean }> {
  const queues = (await store.scan(prefixRange(prefixes.queues, SCAN_LIMIT_MAX)))
    .map((entry) => entry.value as Queue)
    .filter((queue) => (type === undefined || queue.type === type) && (reassign || queue.assignedTo === undefined));
  const ofEach = Math.min(TASKS_PER_CALL_MAX + 1, Math.max(OF_EACH_QUEUE_MIN, Math.floor(LOOKED_AT_MAX / (queues.length + 1))));
  const available: { place: string; id: string }[] = [];
  let more = false;
  for (const queue of queues) {
    const prefix = prefixes.readyIn(queueName(queue));
    const entries = await store.scan(prefixRange(prefix, ofEach));
    more ||= entries.length === ofEach;
    available.push(...entries.map((entry) => ({ place: entry.key.slice(prefix.length), id: indexEntry(entry).id })));
  }
  available.sort((a, b) => (a.place < b.place ? -1 : 1));
  const ids = available.map(({ id }) => id);
  for (const prefix of [prefixes.blocked, prefixes.delayed]) {
    const limit = Math.min(SCAN_LIMIT_MAX, LOOKED_AT_MAX - ids.length);
    if (limit < 1) break;
    const entries = await store.scan(prefixRange(prefix, limit));
    more ||= entries.length === limit;
    ids.push(...entries.map((entry) => indexEntry(entry).id));
  }
  return { ids: ids.slice(0, LOOKED_AT_MAX), more };
}
