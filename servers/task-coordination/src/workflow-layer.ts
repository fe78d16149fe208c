/**
 * Workflows as ordered keys. What its tasks do decides how a workflow goes on, in the same commit; what a workflow decides
 * reaches its tasks afterwards, in bounded chunks (workflow-moving.ts).
 *
 * | key | value | why |
 * |---|---|---|
 * | `workflow/<id>` | StoredWorkflow | the truth; read by every claim of one of its tasks, written only when its state changes |
 * | `workflow-all/<seq>/<id>` | IndexEntry | all, in order of creation |
 * | `workflow-state/<state>/<seq>/<id>` | IndexEntry | those in one state |
 * | `workflow-moving/<id>` | Moving | its tasks have still to follow what was decided |
 * | `workflow-cut/<workflow>/<task>` | Cut | a task that will not be done; what depends on it is to be cancelled |
 *
 * The indexes of a workflow's tasks are the tasks' own (task-layer.ts). A workflow has no count of its open tasks, which every
 * finishing worker would write: whoever ends a task looks for another open one with a pick, which conflicts with nobody
 * unless that very task ends at the same moment, and only the last one does a checked scan and ends the workflow.
 */
import {
  type IndexEntry,
  indexEntry,
  isHeld,
  type StoredTask,
  type StoredWorkflow,
  type WorkflowError,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { assert, SwarmError } from "@mcp-swarm/core";
import { prefixRange, segment, type Transaction } from "@mcp-swarm/store";
import { insert } from "./task-adding.ts";
import { type MovedTasks, prefixes, type TaskTransaction, type WorkflowMember, type WorkflowRules } from "./task-layer.ts";
import { type CancelledBecause, cancel, SWARM } from "./task-lifecycle.ts";
import { hasWorkflowEnded, workflowNotFound, workflowOfId } from "./workflow-record.ts";

/** How far the tasks of a workflow have followed. Each part is left out when nothing of it is to do; "" begins at the front. */
export type Moving = {
  readonly id: string;
  /** Open tasks: what the state of the workflow asks of them. The last key that was looked at. */
  readonly pass?: string | undefined;
  /** All tasks: those that the workflow cancelled run again. The last key that was looked at. */
  readonly revive?: string | undefined;
};

/** `after`: the last dependent that was looked at. */
export type Cut = { readonly id: string; readonly because: CancelledBecause; readonly after?: string | undefined };

export const workflowPrefixes = {
  all: "workflow-all/",
  inState: (state: StoredWorkflow["state"]) => `workflow-state/${state}/`,
  moving: "workflow-moving/",
  cuts: (workflowId: string) => `workflow-cut/${segment(workflowId)}/`,
} as const;

export const movingKey = (id: string): string => `${workflowPrefixes.moving}${segment(id)}`;
const cutKey = (workflowId: string, taskId: string): string => `${workflowPrefixes.cuts(workflowId)}${segment(taskId)}`;

/** Under the prefix of a workflow's open tasks: the id. */
const OPEN_SEGMENTS = 1;
/** Digits of the time in front of a `seq`. */
const TIME_DIGITS = 16;

export function findWorkflow(tx: Transaction, id: string): StoredWorkflow | undefined {
  return tx.get(workflowKey(id))?.value as StoredWorkflow | undefined;
}

/** @throws SwarmError not_found */
export function getWorkflow(tx: Transaction, id: string): StoredWorkflow {
  const workflow = findWorkflow(tx, id);
  if (workflow) return workflow;
  throw workflowNotFound(id);
}

/**
 * Ids that begin with a workflow's are for its own tasks.
 * @throws SwarmError invalid_argument when a task is added outside of the workflow whose its id is
 */
export function checkFreeId(tx: Transaction, taskId: string): void {
  const workflowId = workflowOfId(taskId);
  if (workflowId === undefined || !findWorkflow(tx, workflowId)) return;
  throw new SwarmError("invalid_argument", `The id ${taskId} is for a task of workflow ${workflowId}.`, {
    hint: "Choose another id, or name the workflow with workflowId and leave its id out of the task's. Nothing was added.",
  });
}

export function writeWorkflow(tx: Transaction, before: StoredWorkflow | undefined, after: StoredWorkflow): StoredWorkflow {
  const entry: IndexEntry = { id: after.id, refs: [workflowKey(after.id)] };
  const place = `${after.seq}/${segment(after.id)}`;
  if (!before) tx.put(`${workflowPrefixes.all}${place}`, entry);
  if (before?.state !== after.state) {
    if (before) tx.delete(`${workflowPrefixes.inState(before.state)}${place}`);
    tx.put(`${workflowPrefixes.inState(after.state)}${place}`, entry);
  }
  tx.put(workflowKey(after.id), after);
  return after;
}

export function findMoving(tx: Transaction, id: string): Moving | undefined {
  return tx.get(movingKey(id))?.value as Moving | undefined;
}

/** Leaves the mark that tasks of a workflow are to follow; what was under way already and is not named here goes on. */
export function markMoving(tx: Transaction, id: string, what: Omit<Moving, "id"> = {}): void {
  tx.put(movingKey(id), { ...findMoving(tx, id), ...what, id });
}

/** Decides what a workflow does from now on, and leaves the mark that its tasks are to follow. */
export function decide(tx: Transaction, before: StoredWorkflow, change: Partial<StoredWorkflow>): StoredWorkflow {
  const after = writeWorkflow(tx, before, { ...before, ...change });
  markMoving(tx, after.id, hasWorkflowEnded(after) ? { pass: "", revive: undefined } : { pass: "" });
  return after;
}

function errorOf(task: StoredTask): WorkflowError {
  const { code = "failed", message, at = 0, by = SWARM, attempt = task.attempt } = task.error ?? {};
  return { taskId: task.id, code, ...(message === undefined ? {} : { message }), at, by, attempt };
}

/** Whether no task of a workflow is open. Only the last to end a task pays for a scan that is checked against newcomers. */
function nothingOpen(tx: Transaction, workflowId: string): boolean {
  const range = prefixRange(prefixes.workflowOpen(workflowId), 1);
  return tx.pick(range, OPEN_SEGMENTS) === undefined && tx.scan(range).length === 0;
}

/** Why what depends on a task that is cancelled cannot run. */
export function becauseOf(task: StoredTask): CancelledBecause {
  return task.error?.code === "dependency_failed" ? "dependency_failed" : "dependency_cancelled";
}

export function putCut(tx: Transaction, workflowId: string, cut: Cut): void {
  tx.put(cutKey(workflowId, cut.id), cut);
  if (!findMoving(tx, workflowId)) markMoving(tx, workflowId);
}

/** What depends on a task that will not be done can never run. */
function cutDependents(tx: Transaction, workflowId: string, cut: Cut): void {
  if (tx.scan(prefixRange(prefixes.dependents(cut.id), 1)).length > 0) putCut(tx, workflowId, cut);
}

/** A task failed for good: what that means to a workflow that is not over. */
export function failWorkflow(tasks: TaskTransaction, workflow: StoredWorkflow, failed: StoredTask): StoredWorkflow {
  const { tx, now } = tasks;
  const error = errorOf(failed);
  switch (workflow.onFailure) {
    case "fail_fast":
      return decide(tx, workflow, { state: "failed", error, endedAt: now });
    case "compensate":
      return decide(tx, workflow, { state: "compensating", error });
    case "continue":
      cutDependents(tx, workflow.id, { id: failed.id, because: "dependency_failed" });
      return workflow;
  }
}

/** Ends a running workflow without open tasks, or begins to undo a compensating one. */
export function goOnWhenDrained(tasks: TaskTransaction, workflow: StoredWorkflow): StoredWorkflow {
  const { tx, now } = tasks;
  if (workflow.state === "created" || hasWorkflowEnded(workflow) || workflow.undoing !== undefined) return workflow;
  if (!nothingOpen(tx, workflow.id)) return workflow;
  if (workflow.state === "compensating") return undoNext(tasks, workflow, 0);
  if (findMoving(tx, workflow.id)?.revive !== undefined) return workflow; // more tasks are about to be open
  const [failed] = tx.scan(prefixRange(prefixes.workflowFailed(workflow.id), 1));
  if (!failed) return writeWorkflow(tx, workflow, { ...workflow, state: "completed", endedAt: now });
  const error = errorOf(tasks.get(indexEntry(failed).id));
  return writeWorkflow(tx, workflow, { ...workflow, state: "failed", error, endedAt: now });
}

/** The rollback of the task that ended last of those left; at the end the workflow is compensated. */
function undoNext(tasks: TaskTransaction, workflow: StoredWorkflow, done: number): StoredWorkflow {
  const { tx, now } = tasks;
  const [last] = tx.scan(prefixRange(prefixes.workflowUndo(workflow.id), 1, { reverse: true }));
  if (!last) return writeWorkflow(tx, workflow, { ...workflow, state: "compensated", undoing: { done }, endedAt: now });
  const { id, rollback, seq } = tasks.get(indexEntry(last).id);
  assert(rollback !== undefined, "what is to be undone says how");
  tx.delete(last.key); // so that it runs once
  const undoing = writeWorkflow(tx, workflow, { ...workflow, undoing: { done, taskId: rollback.id } });
  insert(tasks, {
    specs: [{ ...rollback, dependencies: [id], rollbackOf: id }],
    sequence: seq.slice(TIME_DIGITS),
    by: SWARM,
    workflowId: workflow.id,
  });
  return undoing;
}

function compensate(tasks: TaskTransaction, workflow: StoredWorkflow, { ended, returned }: MovedTasks): void {
  for (const task of returned) if (task.rollbackOf === undefined) cancel(tasks, task, SWARM, { because: "workflow_failed" });
  const undo = ended.find(({ id }) => id === workflow.undoing?.taskId);
  if (!undo) goOnWhenDrained(tasks, workflow);
  else if (undo.status === "done") undoNext(tasks, workflow, (workflow.undoing?.done ?? 0) + 1);
  else {
    const undoing = { done: workflow.undoing?.done ?? 0, taskId: undo.id };
    const rollbackError = errorOf(undo);
    writeWorkflow(tasks.tx, workflow, { ...workflow, state: "failed", undoing, rollbackError, endedAt: tasks.now });
  }
}

function cannotReset(task: StoredTask, workflow: StoredWorkflow): SwarmError {
  const why =
    workflow.state === "failed" || workflow.state === "compensating"
      ? "its done tasks are being rolled back or were"
      : `it is ${workflow.state}`;
  return new SwarmError("failed_precondition", `The workflow ${workflow.id} of task ${task.id} cannot go on: ${why}.`, {
    hint: "Create the workflow again for another try.",
  });
}

export const workflowRules: WorkflowRules = {
  runs(tx: Transaction, { workflowId, rollbackOf }: WorkflowMember): boolean {
    const state = findWorkflow(tx, workflowId)?.state;
    return state === (rollbackOf === undefined ? "running" : "compensating");
  },

  tasksMoved(tasks: TaskTransaction, workflowId: string, moved: MovedTasks): void {
    const workflow = findWorkflow(tasks.tx, workflowId);
    if (!workflow || hasWorkflowEnded(workflow)) return; // what is left open is about to be cancelled
    if (workflow.state === "compensating") {
      compensate(tasks, workflow, moved);
      return;
    }
    let after = workflow;
    for (const task of moved.ended) {
      if (after.state !== workflow.state) break;
      if (task.status === "failed") after = failWorkflow(tasks, after, task);
      if (task.status === "cancelled") cutDependents(tasks.tx, workflowId, { id: task.id, because: becauseOf(task) });
    }
    goOnWhenDrained(tasks, after);
  },

  /** A failed task that is reset takes its workflow back to running, and what the failure cancelled with it. */
  taskReset(tasks: TaskTransaction, task: StoredTask): void {
    const workflow = task.workflowId === undefined ? undefined : findWorkflow(tasks.tx, task.workflowId);
    if (!workflow || isHeld(task)) return;
    const { tx } = tasks;
    if (workflow.state === "running" || workflow.state === "paused") {
      markMoving(tx, workflow.id, { revive: "" });
    } else if (workflow.state === "failed" && workflow.onFailure !== "compensate") {
      writeWorkflow(tx, workflow, { ...workflow, state: "running", error: undefined, endedAt: undefined });
      markMoving(tx, workflow.id, { revive: "", pass: "" });
    } else if (workflow.state === "failed" && workflow.undoing?.taskId === task.id) {
      writeWorkflow(tx, workflow, { ...workflow, state: "compensating", rollbackError: undefined, endedAt: undefined });
    } else throw cannotReset(task, workflow);
  },
};
