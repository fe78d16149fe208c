/** Tasks and workflows as sources of a context, read where task-coordination keeps them. */
import {
  hasEnded,
  indexEntry,
  type LongField,
  readTasks,
  type StoredTask,
  type StoredWorkflow,
  taskKey,
  taskOf,
  taskPrefixes,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import { prefixRange, type Store } from "@mcp-swarm/store";
import type { Source, SourcePart, Sources, Unread } from "./context-source.ts";

/** Most tasks of one context, and how many are read at once: each may have half a megabyte. */
export const TASKS_MAX = 500;
const TASKS_AT_ONCE = 20;
/** Characters of JSON of tasks that one context reads. */
export const TASK_CHARS_MAX = 2_000_000;
/** The weight of a task that was asked for; each step to what it depends on halves it. */
const TASK_WEIGHT = 8;
const WEIGHT_MIN = 0.5;
const WORKFLOW_WEIGHT = 6;
/** Of a workflow's tasks: from the newest to the oldest. */
const MEMBER_WEIGHTS = { newest: 2, oldest: 1 } as const;

/** What a reader of the task itself needs; of what others did, the result. */
const OWN_FIELDS = ["description", "parameters", "expectedOutput", "checkpoint", "output", "error"] as const;
const RESULT_FIELDS = ["output", "error"] as const;

type Reader = Pick<Store, "get" | "getMany" | "scan">;

/** How much of what one context may read is left. */
type Allowance = { tasks: number; chars: number };

function allowance(): Allowance {
  return { tasks: TASKS_MAX, chars: TASK_CHARS_MAX };
}

/** The task, and what it depends on, the nearest first. @throws SwarmError not_found */
export async function taskSources(store: Reader, taskId: string): Promise<Sources> {
  const entry = await store.get(taskKey(taskId));
  if (!entry) throw new SwarmError("not_found", `There is no task ${taskId}.`, { hint: "get_all_tasks lists the ids." });
  const task = taskOf(entry.value);
  const sources = [sourceOf(task, { fields: OWN_FIELDS, weight: TASK_WEIGHT })];
  const left = allowance();
  const seen = new Set([task.id]);
  let unread = 0;
  let next = [...new Set(task.dependencies)];
  for (let distance = 1; next.length > 0 && unread === 0; distance++) {
    for (const id of next) seen.add(id);
    const { found, missed } = await readUpTo(store, next, left);
    unread = missed;
    const newestFirst = found.toSorted((a, b) => timeOf(b) - timeOf(a) || (a.id < b.id ? -1 : 1));
    const weight = Math.max(WEIGHT_MIN, TASK_WEIGHT / 2 ** distance);
    for (const dependency of newestFirst) {
      sources.push(sourceOf(dependency, { fields: RESULT_FIELDS, weight, facts: { distance } }));
    }
    next = [...new Set(newestFirst.flatMap(({ dependencies }) => dependencies))].filter((id) => !seen.has(id));
  }
  const more: Unread = {
    what: `${unread} or more tasks that it depends on`,
    why: "one context reads a bounded number of tasks",
    readOn: `get_task {"taskId":"${task.id}"}`,
  };
  return { sources, unread: unread === 0 ? [] : [more] };
}

/** The workflow with the states and results of its tasks, the newest first. @throws SwarmError not_found */
export async function workflowSources(store: Reader, workflowId: string): Promise<Sources> {
  const workflow = (await store.get(workflowKey(workflowId)))?.value as StoredWorkflow | undefined;
  if (!workflow) {
    throw new SwarmError("not_found", `There is no workflow ${workflowId}.`, { hint: "list_workflows lists the ids." });
  }
  const prefix = taskPrefixes.workflow(workflowId);
  const entries = await store.scan(prefixRange(prefix, TASKS_MAX + 1, { reverse: true }));
  const left = allowance();
  const { found, missed } = await readUpTo(
    store,
    entries.slice(0, TASKS_MAX).map((entry) => indexEntry(entry).id),
    left,
  );
  const unread = missed + (entries.length > TASKS_MAX ? 1 : 0);
  const newestFirst = found.toSorted((a, b) => timeOf(b) - timeOf(a) || (a.seq < b.seq ? 1 : -1));
  const step = (MEMBER_WEIGHTS.newest - MEMBER_WEIGHTS.oldest) / Math.max(1, newestFirst.length);
  const members = newestFirst.map((task, at) =>
    sourceOf(task, { fields: RESULT_FIELDS, weight: MEMBER_WEIGHTS.newest - at * step }),
  );
  const byStatus: { [status: string]: number } = {};
  for (const { status } of newestFirst) byStatus[status] = (byStatus[status] ?? 0) + 1;
  const more: Unread = {
    what: `${unread} or more older tasks of the workflow`,
    why: "one context reads a bounded number of tasks",
    readOn: `get_all_tasks {"workflowId":"${workflow.id}"}`,
  };
  return { sources: [workflowSource(workflow, byStatus), ...members], unread: unread === 0 ? [] : [more] };
}

/** In the order asked; those that would be too much are counted. */
async function readUpTo(
  store: Reader,
  ids: readonly string[],
  left: Allowance,
): Promise<{ found: StoredTask[]; missed: number }> {
  const found: StoredTask[] = [];
  for (let at = 0; at < ids.length; at += TASKS_AT_ONCE) {
    if (left.tasks <= 0 || left.chars <= 0) return { found, missed: ids.length - at };
    for (const task of await readTasks(store, ids.slice(at, at + Math.min(TASKS_AT_ONCE, left.tasks)))) {
      if (!task) continue;
      found.push(task);
      left.tasks -= 1;
      left.chars -= JSON.stringify([task.output, task.parameters, task.description]).length;
    }
  }
  return { found, missed: 0 };
}

function timeOf({ endedAt, startedAt, createdAt }: StoredTask): number {
  return endedAt ?? startedAt ?? createdAt;
}

function sourceOf(
  task: StoredTask,
  { fields, weight, facts }: { fields: readonly LongField[]; weight: number; facts?: JsonObject },
): Source {
  const { id, status, claim, endedAt, error } = task;
  return {
    kind: "task",
    id,
    reading: 'get_task {"taskId":"<id>"}',
    facts: {
      status,
      ...facts,
      ...(claim === undefined ? {} : { by: claim.by }),
      ...(endedAt === undefined ? {} : { endedAt }),
      ...(error === undefined || !(hasEnded(task) && status !== "done") ? {} : { errorCode: error.code }),
    },
    weight,
    parts: [
      ...(task.title === undefined ? [] : [{ name: "title", value: task.title, readOn: () => `get_task {"taskId":"${id}"}` }]),
      ...fields.flatMap((field): SourcePart[] => {
        const value: Json | undefined = field === "error" ? error?.message : task[field];
        if (value === undefined) return [];
        return [{ name: field, value, readOn: (offset) => `get_task {"taskId":"${id}","field":"${field}","offset":${offset}}` }];
      }),
    ],
  };
}

function workflowSource(workflow: StoredWorkflow, byStatus: { [status: string]: number }): Source {
  const { id, name, state, error, endedAt } = workflow;
  return {
    kind: "workflow",
    id,
    reading: 'get_workflow_status {"workflowId":"<id>"}',
    facts: {
      status: state,
      byStatus,
      ...(error === undefined ? {} : { failedTask: error.taskId, errorCode: error.code }),
      ...(endedAt === undefined ? {} : { endedAt }),
    },
    weight: WORKFLOW_WEIGHT,
    parts: [{ name: "name", value: name, readOn: () => `get_workflow_status {"workflowId":"${id}"}` }],
  };
}
