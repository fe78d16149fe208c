/** Workflows as callers read them: how far they are, what failed, what waits, and what their tasks brought. */

import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import {
  indexEntry,
  readTasks,
  type StoredTask,
  type StoredWorkflow,
  type TaskStatus,
  type WorkflowError,
  type WorkflowState,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { type Json, PAGE_DEFAULT, PAGE_MAX, SwarmError } from "@mcp-swarm/core";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { openTasks, readTally, workflowScope } from "./tally.ts";
import { prefixes } from "./task-layer.ts";
import { withBlockers } from "./task-reading.ts";
import { workflowPrefixes } from "./workflow-layer.ts";
import { checkWorkflowId, hasWorkflowEnded, toWorkflowRecord, type WorkflowRecord, workflowNotFound } from "./workflow-record.ts";

/** Most tasks that one page of results looks at. */
const LOOKED_AT_MAX = 1_000;
/** Open tasks that are looked at to say what waits, and most that are named. */
const OPEN_LOOKED_AT = 100;
const WAITING_NAMED_MAX = 6;

export interface ReadStatus {
  readonly workflowId: string;
  /** Results a page: 1 to PAGE_MAX. */
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

/** What a done task brought. */
export type TaskResult = {
  readonly taskId: string;
  readonly title?: string;
  readonly by?: string;
  readonly endedAt?: number;
  /** As its worker gave it. Data, never instructions. */
  readonly output?: Json;
};

/** Why an open task does not go on. */
export type WaitingTask = { readonly taskId: string; readonly reason: string };

export type WorkflowStatus = {
  /** The rollbacks of a workflow are not among its tasks. */
  readonly workflow: WorkflowRecord & {
    /** Every task is done. */
    readonly success: boolean;
    readonly totalTasks: number;
    readonly completedTasks: number;
    readonly failedTasks: number;
    readonly byStatus: { readonly [S in TaskStatus]?: number };
    /** Tasks that have ended, in percent. */
    readonly progress: number;
  };
  /** Of the done tasks, in the order in which they were added. */
  readonly results: readonly TaskResult[];
  readonly nextCursor?: string;
  /** Some of those that wait. */
  readonly waiting: WaitingTask[];
};

export interface ListWorkflows {
  readonly status?: WorkflowState | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export type WorkflowPage = { readonly workflows: readonly WorkflowRecord[]; readonly nextCursor?: string };

function checkLimit(limit: number = PAGE_DEFAULT): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= PAGE_MAX) return limit;
  throw new SwarmError("invalid_argument", "limit is out of bounds.", { hint: `Use 1 to ${PAGE_MAX}.` });
}

/** @throws SwarmError not_found, invalid_argument */
export async function workflowStatus(store: Store, input: ReadStatus): Promise<WorkflowStatus> {
  const id = checkWorkflowId(input.workflowId);
  const tally = await readTally(store, workflowScope(id));
  // read after the counts: a workflow that has ended then has no task left to count
  const workflow = (await store.get(workflowKey(id)))?.value as StoredWorkflow | undefined;
  if (!workflow) throw workflowNotFound(id);
  const { done = 0, failed = 0 } = tally.status;
  const totalTasks = Object.values(tally.status).reduce((sum, count) => sum + count, 0);
  const ended = totalTasks - openTasks(tally);
  const results = await resultsOf(store, id, input);
  const error = workflow.error ?? (failed > 0 ? await firstFailure(store, id) : undefined);
  return {
    workflow: {
      ...toWorkflowRecord(workflow, await store.now()),
      ...(error === undefined ? {} : { error }),
      success: workflow.state === "completed" && done === totalTasks,
      totalTasks,
      completedTasks: done,
      failedTasks: failed,
      byStatus: tally.status,
      progress: totalTasks === 0 ? 0 : Math.floor((100 * ended) / totalTasks),
    },
    ...results,
    waiting: hasWorkflowEnded(workflow) ? [] : await waitingOf(store, id),
  };
}

/** Under `continue` a workflow goes on with failed tasks; the first by id stands for them. */
async function firstFailure(store: Store, workflowId: string): Promise<WorkflowError | undefined> {
  const [entry] = await store.scan(prefixRange(prefixes.workflowFailed(workflowId), 1));
  const [task] = entry ? await readTasks(store, [indexEntry(entry).id]) : [];
  return task?.error && { taskId: task.id, ...task.error };
}

async function resultsOf(
  store: Store,
  workflowId: string,
  { limit: wanted, cursor }: ReadStatus,
): Promise<Pick<WorkflowStatus, "results" | "nextCursor">> {
  const limit = checkLimit(wanted);
  const prefix = prefixes.workflow(workflowId);
  const scope = { list: `results ${workflowId}`, prefix };
  let after = cursor === undefined ? undefined : decodeCursor(scope, cursor);
  const results: TaskResult[] = [];
  let more = true;
  for (let looked = 0; more && results.length < limit && looked < LOOKED_AT_MAX; ) {
    const size = Math.min(LOOKED_AT_MAX - looked, PAGE_MAX);
    const entries = await store.scan(prefixRange(prefix, size, after === undefined ? {} : { after }));
    const found = await readTasks(
      store,
      entries.map((entry) => indexEntry(entry).id),
    );
    looked += entries.length;
    more = entries.length === size;
    for (const [at, task] of found.entries()) {
      if (task?.status === "done" && task.rollbackOf === undefined) {
        if (results.length === limit) {
          more = true;
          break;
        }
        results.push(resultOf(task));
      }
      after = entries[at]?.key;
    }
  }
  return !more || after === undefined ? { results } : { results, nextCursor: encodeCursor(scope, after) };
}

function resultOf({ id, title, claim, endedAt, output }: StoredTask): TaskResult {
  return {
    taskId: id,
    ...(title === undefined ? {} : { title }),
    ...(claim === undefined ? {} : { by: claim.by }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(output === undefined ? {} : { output }),
  };
}

async function waitingOf(store: Store, workflowId: string): Promise<WaitingTask[]> {
  const entries = await store.scan(prefixRange(prefixes.workflowOpen(workflowId), OPEN_LOOKED_AT));
  const open = await readTasks(
    store,
    entries.map((entry) => indexEntry(entry).id),
  );
  const blocked = open.filter((task) => task?.status === "blocked").filter((task) => task !== undefined);
  // those that wait for others come first: what waits for the workflow alone is told by its status
  const first = blocked.toSorted((a, b) => Number(a.held ?? false) - Number(b.held ?? false)).slice(0, WAITING_NAMED_MAX);
  return (await withBlockers(store, first)).map((task) => ({ taskId: task.id, reason: task.blockedReason ?? "" }));
}

/** The newest first. @throws SwarmError invalid_argument */
export async function listWorkflows(store: Store, { status, limit: wanted, cursor }: ListWorkflows): Promise<WorkflowPage> {
  const limit = checkLimit(wanted);
  const prefix = status === undefined ? workflowPrefixes.all : workflowPrefixes.inState(status);
  const scope = { list: `workflows ${status ?? ""}`, prefix };
  const after = cursor === undefined ? {} : { after: decodeCursor(scope, cursor) };
  const entries = await store.scan(prefixRange(prefix, limit + 1, { reverse: true, ...after }));
  const page = entries.slice(0, limit);
  const found = await store.getMany(page.map((entry) => workflowKey(indexEntry(entry).id)));
  const now = await store.now();
  const workflows = found.flatMap((entry) => (entry ? [toWorkflowRecord(entry.value as StoredWorkflow, now)] : []));
  const last = page.at(-1);
  return last && entries.length > limit ? { workflows, nextCursor: encodeCursor(scope, last.key) } : { workflows };
}
