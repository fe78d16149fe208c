/** Tasks as callers read them: with what blocks them, and with the results of what they depend on. */

import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import {
  indexEntry,
  isHeld,
  type LeaseEntry,
  readTasks,
  type StoredTask,
  type TaskChange,
  type TaskStatus,
} from "@mcp-swarm/coordination/tasks";
import { type Json, PAGE_DEFAULT, PAGE_MAX, SwarmError } from "@mcp-swarm/core";
import { prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import { HELD_LOOKED_AT_MAX } from "./held-tasks.ts";
import { prefixes, statusPrefix } from "./task-layer.ts";
import { mayTake, type Queue, queueName, type Worker } from "./task-queue.ts";
import { type Blocker, type ContextItem, checkTaskId, cutText, type TaskRecord, toTaskRecord } from "./task-record.ts";

/** Most tasks that one page looks at to find those that match. */
const LOOKED_AT_MAX = 1_000;
/** Leases that a list of what an agent holds looks at at once. */
const LEASES_AT_ONCE = 200;
/** Most dependencies that one page looks up to say what blocks its tasks. */
const BLOCKERS_MAX = 500;
/** Most blockers that a reason names. */
const NAMED_MAX = 5;
/** Most characters of one result, and of all results together, in the context of a task. */
export const CONTEXT_ITEM_CHARS = 4_000;
export const CONTEXT_CHARS = 24_000;

export type TaskPage = { readonly tasks: TaskRecord[]; readonly nextCursor?: string };

export type TaskDetails = {
  readonly task: TaskRecord;
  readonly history: readonly TaskChange[];
  /** How many older changes are no longer kept. */
  readonly historyDropped: number;
  readonly context: readonly ContextItem[];
};

export interface ListTasks {
  readonly status?: TaskStatus | undefined;
  readonly workflowId?: string | undefined;
  readonly type?: string | undefined;
  readonly claimedBy?: string | undefined;
  /** 1 to PAGE_MAX. */
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export interface AvailableTasks extends Worker {
  readonly workflowId?: string | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

function checkLimit(limit: number = PAGE_DEFAULT): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= PAGE_MAX) return limit;
  throw new SwarmError("invalid_argument", "limit is out of bounds.", { hint: `Use 1 to ${PAGE_MAX}.` });
}

/** Records with what blocks them. */
export async function withBlockers(store: Store, tasks: readonly StoredTask[]): Promise<TaskRecord[]> {
  const asked = [...new Set(tasks.flatMap((task) => (task.status === "blocked" ? task.open : [])))].slice(0, BLOCKERS_MAX);
  const now = await store.now();
  const found = await readTasks(store, asked);
  const statuses = new Map<string, Blocker["status"]>(asked.map((id, at) => [id, found[at]?.status ?? "missing"]));
  return tasks.map((task) => {
    const record = toTaskRecord(task, now);
    if (task.status !== "blocked") return record;
    const blockedBy = task.open.flatMap((taskId): Blocker[] => {
      const status = statuses.get(taskId);
      return status === undefined || status === "done" ? [] : [{ taskId, status }];
    });
    return { ...record, blockedBy, blockedReason: reason(task, blockedBy) };
  });
}

function reason(task: StoredTask, blockedBy: readonly Blocker[]): string {
  if (task.held) return `Its workflow ${task.workflowId} does not run: get_workflow_status tells why.`;
  // what will not come by itself goes first
  const stuck = blockedBy.filter(({ status }) => status === "failed" || status === "cancelled" || status === "missing");
  const named = [...stuck, ...blockedBy.filter((blocker) => !stuck.includes(blocker))].slice(0, NAMED_MAX);
  const rest = Math.max(0, task.open.length - named.length);
  const names = named.map(({ taskId, status }) => `${taskId} (${status})`).join(", ");
  const waits = `Waits for ${names}${rest > 0 ? ` and ${rest} more` : ""}.`;
  return stuck.length === 0 ? waits : `${waits} It goes on when what failed is reset and done; otherwise cancel it.`;
}

/** The results of what a task depends on, cut to CONTEXT_CHARS in all. */
export async function contextOf(store: Store, task: Pick<StoredTask, "dependencies">): Promise<ContextItem[]> {
  let room = CONTEXT_CHARS;
  const found = await readTasks(store, task.dependencies);
  return found.flatMap((dependency): ContextItem[] => {
    if (dependency?.status !== "done") return [];
    const item: ContextItem = {
      taskId: dependency.id,
      ...(dependency.title === undefined ? {} : { title: dependency.title }),
      ...(dependency.claim === undefined ? {} : { by: dependency.claim.by }),
    };
    if (dependency.output === undefined) return [item];
    const { output, cut, chars } = shorten(dependency.output, Math.min(CONTEXT_ITEM_CHARS, room));
    room -= chars;
    return [cut ? { ...item, output, cut: `Cut; get_task ${dependency.id} has all of it.` } : { ...item, output }];
  });
}

function shorten(output: Json, room: number): { output: Json; cut: boolean; chars: number } {
  const text = typeof output === "string" ? output : JSON.stringify(output);
  if (text.length <= room) return { output, cut: false, chars: text.length };
  return { output: cutText(text, room), cut: true, chars: room };
}

/** @throws SwarmError not_found */
export async function getTask(store: Store, taskId: string): Promise<TaskDetails> {
  const [task] = await readTasks(store, [checkTaskId(taskId)]);
  if (!task) throw new SwarmError("not_found", `There is no task ${taskId}.`, { hint: "get_all_tasks lists the ids." });
  const [record] = await withBlockers(store, [task]);
  return {
    task: record ?? toTaskRecord(task, await store.now()),
    history: task.history,
    historyDropped: task.historyDropped,
    context: await contextOf(store, task),
  };
}

/** Ended tasks come newest first, what is held by the end of its lease, all others in the order of their index. */
export async function listTasks(store: Store, filter: ListTasks): Promise<TaskPage> {
  const limit = checkLimit(filter.limit);
  const { status, workflowId, type, claimedBy } = filter;
  const prefix =
    claimedBy !== undefined
      ? prefixes.leases
      : workflowId !== undefined
        ? prefixes.workflow(workflowId)
        : status !== undefined
          ? statusPrefix(status)
          : prefixes.all;
  const reverse = prefix.startsWith("task-ended/");
  const list = JSON.stringify(["tasks", status ?? null, workflowId ?? null, type ?? null, claimedBy ?? null]);
  const matches = (task: StoredTask) =>
    (status === undefined || task.status === status) &&
    (workflowId === undefined || task.workflowId === workflowId) &&
    (type === undefined || task.type === type) &&
    (claimedBy === undefined || (isHeld(task) && task.claim?.by === claimedBy));

  // an index by one thing alone holds nothing else: then a page is read as it is, and one entry more to know that there is more
  const filters = [status, workflowId, type, claimedBy].filter((value) => value !== undefined).length;
  const exact = prefix !== prefixes.leases && (filters === 0 || (filters === 1 && type === undefined));

  let after = filter.cursor === undefined ? undefined : decodeCursor({ list, prefix }, filter.cursor);
  const page: StoredTask[] = [];
  let more = true;
  const lookedAtMax = claimedBy === undefined ? LOOKED_AT_MAX : HELD_LOOKED_AT_MAX;
  for (let looked = 0; more && page.length < limit && looked < lookedAtMax; ) {
    const room = limit - page.length + 1;
    const atOnce = exact ? room : Math.max(room, claimedBy === undefined ? PAGE_DEFAULT : LEASES_AT_ONCE);
    const size = Math.min(lookedAtMax - looked, atOnce);
    const entries = await store.scan(prefixRange(prefix, size, { reverse, ...(after === undefined ? {} : { after }) }));
    // an entry of the index of leases says itself whose it is
    const own = claimedBy === undefined ? entries : entries.filter(({ value }) => (value as LeaseEntry).by === claimedBy);
    const found = await readTasks(
      store,
      own.map((entry) => indexEntry(entry).id),
    );
    looked += entries.length;
    more = entries.length === size;
    for (const [at, task] of found.entries()) {
      if (page.length === limit) {
        more = true;
        break;
      }
      after = own[at]?.key;
      if (task && matches(task)) page.push(task);
    }
    if (page.length < limit) after = entries.at(-1)?.key ?? after;
  }
  const tasks = await withBlockers(store, page);
  return !more || after === undefined ? { tasks } : { tasks, nextCursor: encodeCursor({ list, prefix }, after) };
}

/** What a worker may claim now, in the order in which `claim_next_task` would give it. */
export async function availableTasks(store: Store, query: AvailableTasks): Promise<TaskPage> {
  const limit = checkLimit(query.limit);
  const { workflowId } = query;
  const scope = {
    list: JSON.stringify(["available", query.agentId, query.capabilities ?? null, query.type ?? null, workflowId ?? null]),
    prefix: "",
  };
  // behind the queue's name the keys of all queues compare
  const behind = query.cursor === undefined ? undefined : decodeCursor(scope, query.cursor);
  const queues = (await store.scan(prefixRange(prefixes.queues, SCAN_LIMIT_MAX)))
    .map((entry) => entry.value as Queue)
    .filter((queue) => mayTake(query, queue));
  const heads: { place: string; id: string }[] = [];
  for (const queue of queues) {
    const prefix = readyPrefix(queue, workflowId);
    const after = behind === undefined ? {} : { after: `${prefix}${behind}` };
    for (const entry of await store.scan(prefixRange(prefix, limit + 1, after))) {
      heads.push({ place: entry.key.slice(prefix.length), id: indexEntry(entry).id });
    }
  }
  heads.sort((a, b) => (a.place < b.place ? -1 : 1));
  const page = heads.slice(0, limit);
  const found = await readTasks(
    store,
    page.map(({ id }) => id),
  );
  const tasks = await withBlockers(
    store,
    found.filter((task) => task?.status === "available").filter((task) => task !== undefined),
  );
  const last = page.at(-1);
  return last && heads.length > limit ? { tasks, nextCursor: encodeCursor(scope, last.place) } : { tasks };
}

/** Where the available tasks of a queue are; with a workflow, those of it alone. */
export function readyPrefix(queue: Queue, workflowId: string | undefined): string {
  return workflowId === undefined ? prefixes.readyIn(queueName(queue)) : prefixes.workflowReadyIn(queueName(queue, workflowId));
}
