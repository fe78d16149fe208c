/** What happens to one task within a transaction, and what follows for the tasks around it. */

import { backoffDelay } from "@mcp-swarm/coordination";
import { hasEnded, isHeld, type StoredTask, type TaskError } from "@mcp-swarm/coordination/tasks";
import { assert, type Json, SwarmError } from "@mcp-swarm/core";
import type { TaskPatch, TaskTransaction } from "./task-layer.ts";
import { DEPENDENTS_MAX } from "./task-record.ts";
import { checkFrom } from "./task-state.ts";

/** Who the history names for what the servers do by themselves. */
export const SWARM = "swarm";

/** Most tasks that one call cancels, so that it stays one commit. */
export const CANCELLED_MAX = 1_000;

/**
 * Where a task that nobody holds stands: blocked by dependencies, delayed until `dueAt`, blocked by its workflow, or available.
 * `readyAt` decides its rank among the available ones; now when absent.
 */
export function placement(
  tasks: TaskTransaction,
  {
    open,
    workflowId,
    rollbackOf,
  }: {
    readonly open: readonly string[];
    readonly workflowId?: string | undefined;
    readonly rollbackOf?: string | undefined;
  },
  { dueAt, readyAt }: { dueAt?: number | undefined; readyAt?: number | undefined } = {},
): TaskPatch & { status: "blocked" | "delayed" | "available" } {
  const nowhere = { claim: undefined, held: undefined, dueAt: undefined, readyAt: undefined };
  if (open.length > 0) return { ...nowhere, status: "blocked" };
  if (dueAt !== undefined && dueAt > tasks.now) return { ...nowhere, status: "delayed", dueAt };
  if (workflowId !== undefined && !tasks.workflows.runs(tasks.tx, { workflowId, rollbackOf })) {
    return { ...nowhere, status: "blocked", held: true };
  }
  return { ...nowhere, status: "available", readyAt: readyAt ?? tasks.now };
}

export interface Claimant {
  readonly agentId: string;
  readonly processId: string | undefined;
  readonly workerSlot: number | undefined;
  /** How far the lease carries, in ms; never past the task's timeoutMs. */
  readonly leaseMs: number;
}

export function claim(tasks: TaskTransaction, task: StoredTask, claimant: Claimant): StoredTask {
  const { agentId, processId, workerSlot, leaseMs } = claimant;
  if (task.readyAt !== undefined) tasks.countWait(task, tasks.now - task.readyAt);
  tasks.count(task, "claimed");
  return tasks.change(
    task,
    {
      status: "claimed",
      attempt: task.attempt + 1,
      fencingToken: task.fencingToken + 1,
      claim: {
        by: agentId,
        ...(processId === undefined ? {} : { processId }),
        ...(workerSlot === undefined ? {} : { workerSlot }),
        at: tasks.now,
        leaseMs,
        leaseExpiresAt: tasks.now + Math.min(leaseMs, task.timeoutMs ?? leaseMs),
      },
      startedAt: task.startedAt ?? tasks.now,
      progress: undefined,
    },
    { event: "claimed", by: agentId },
  );
}

/** Done: its result stays, and whoever waited for nothing else may begin in this same commit. */
export function complete(tasks: TaskTransaction, task: StoredTask, by: string, output: Json | undefined): StoredTask {
  assert(task.claim !== undefined, "a held task has a claim");
  tasks.count(task, "done", by);
  tasks.countRun(task, by, tasks.now - task.claim.at);
  const done = tasks.change(
    task,
    { status: "done", endedAt: tasks.now, error: undefined, ...(output === undefined ? {} : { output }) },
    { event: "done", by },
  );
  // as long as it was not done, every open task that depends on it waited for it
  const dependents = tasks.waiting(task.id) > 0 ? tasks.dependents(task.id) : [];
  for (const dependent of dependents) {
    const open = dependent.open.filter((id) => id !== task.id);
    if (open.length > 0) tasks.narrow(dependent, open);
    else {
      const dueAt = dependent.notBeforeAt;
      const placed = placement(tasks, { ...dependent, open }, { dueAt });
      tasks.change(dependent, { ...placed, open }, { event: "unblocked", by: SWARM });
    }
  }
  return done;
}

/** An attempt failed: another one after the back-off, or failed for good when the attempts are used up. */
export function failAttempt(
  tasks: TaskTransaction,
  task: StoredTask,
  { code, by, message }: { code: "failed" | "timed_out"; by: string; message?: string | undefined },
): StoredTask {
  const error: TaskError = {
    code,
    at: tasks.now,
    by,
    attempt: task.attempt,
    ...(message === undefined ? {} : { message }),
  };
  const note = { event: code === "failed" ? "attempt_failed" : "timed_out", by, note: message } as const;
  const holder = task.claim?.by;
  if (code === "timed_out") tasks.count(task, "timedOut", holder);
  if (task.attempt >= task.maxAttempts) return endFailed(tasks, task, error, note);
  tasks.count(task, "retried", holder);
  const dueAt = tasks.now + backoffDelay(task.backoff, task.attempt);
  return tasks.change(task, { ...placement(tasks, task, { dueAt }), error }, note);
}

function endFailed(
  tasks: TaskTransaction,
  task: StoredTask,
  error: TaskError,
  note: { event: "attempt_failed" | "timed_out" | "lease_expired"; by: string; note?: string | undefined },
): StoredTask {
  tasks.count(task, "failed", task.claim?.by);
  return tasks.change(task, { status: "failed", endedAt: tasks.now, error }, note);
}

export function leaseIsOver(tasks: TaskTransaction, task: StoredTask): boolean {
  return isHeld(task) && task.claim !== undefined && task.claim.leaseExpiresAt <= tasks.now;
}

/** The lease of a holder is over: its time is up, or it died. The task keeps its place among those that wait. */
export function expire(tasks: TaskTransaction, task: StoredTask): StoredTask {
  assert(task.claim !== undefined && leaseIsOver(tasks, task), "only a lease that is over expires");
  const { by, at } = task.claim;
  if (task.timeoutMs !== undefined && tasks.now >= at + task.timeoutMs) {
    return failAttempt(tasks, task, { code: "timed_out", by: SWARM });
  }
  tasks.count(task, "expired", by);
  const error: TaskError = { code: "lease_expired", at: tasks.now, by, attempt: task.attempt };
  const note = { event: "lease_expired", by: SWARM } as const;
  if (task.attempt >= task.maxAttempts) return endFailed(tasks, task, error, note);
  tasks.count(task, "retried", by);
  return tasks.change(task, { ...placement(tasks, task, { readyAt: task.readyAt }), error }, note);
}

/** Its holder does not go on with it; the attempt does not count. */
export function giveBack(tasks: TaskTransaction, task: StoredTask, by: string, checkpoint: string | undefined): StoredTask {
  tasks.count(task, "givenBack", by);
  return tasks.change(
    task,
    { ...placement(tasks, task), attempt: task.attempt - 1, ...(checkpoint === undefined ? {} : { checkpoint }) },
    { event: "given_back", by, note: checkpoint },
  );
}

/** The time of a delayed task has come. */
export function wake(tasks: TaskTransaction, task: StoredTask): StoredTask {
  return tasks.change(task, placement(tasks, task), { event: "due", by: SWARM });
}

/** An available or delayed task whose workflow does not run waits for it. */
export function hold(tasks: TaskTransaction, task: StoredTask): StoredTask {
  return tasks.change(
    task,
    { status: "blocked", held: true, dueAt: undefined, readyAt: undefined },
    { event: "held", by: SWARM },
  );
}

/** A task that waited for nothing but its workflow, which runs (again). */
export function unhold(tasks: TaskTransaction, task: StoredTask): StoredTask {
  assert(task.held, "only a held back task is let go");
  return tasks.change(task, placement(tasks, task, { dueAt: task.notBeforeAt }), { event: "unblocked", by: SWARM });
}

export function reset(tasks: TaskTransaction, task: StoredTask, by: string): StoredTask {
  checkFrom(task, "reset");
  tasks.workflows.taskReset(tasks, task);
  tasks.count(task, "reset");
  return tasks.change(
    task,
    { ...placement(tasks, task), attempt: 0, error: undefined, endedAt: undefined, progress: undefined },
    { event: "reset", by },
  );
}

/** Why a workflow cancels a task that did nothing wrong; such a task is revived when the fault is mended. */
export type CancelledBecause = "dependency_failed" | "dependency_cancelled" | "workflow_failed";

export function cancel(
  tasks: TaskTransaction,
  task: StoredTask,
  by: string,
  { note, because }: { note?: string | undefined; because?: CancelledBecause | undefined } = {},
): StoredTask {
  checkFrom(task, "cancelled");
  tasks.count(task, "cancelled");
  const ended: TaskPatch = { status: "cancelled", endedAt: tasks.now, held: undefined, dueAt: undefined, readyAt: undefined };
  const error = because && { code: because, at: tasks.now, by, attempt: task.attempt };
  return tasks.change(task, error ? { ...ended, error } : ended, { event: "cancelled", by, note });
}

/** A task that its workflow cancelled may run again, with all its attempts; it waits for what is not done by now. */
export function revive(tasks: TaskTransaction, task: StoredTask): StoredTask {
  const open = task.dependencies.filter((id) => tasks.find(id)?.status !== "done");
  const dueAt = task.notBeforeAt;
  return tasks.change(
    task,
    {
      ...placement(tasks, { ...task, open }, { dueAt }),
      open,
      attempt: 0,
      error: undefined,
      endedAt: undefined,
      progress: undefined,
    },
    { event: "revived", by: SWARM },
  );
}

/**
 * The open tasks that wait for this one, directly or through others.
 * @throws SwarmError limit_exceeded over CANCELLED_MAX
 */
export function allDependents(tasks: TaskTransaction, id: string): StoredTask[] {
  const found = new Map<string, StoredTask>();
  const next = [id];
  for (let at = next.shift(); at !== undefined; at = next.shift()) {
    for (const task of tasks.dependents(at, DEPENDENTS_MAX)) {
      if (hasEnded(task) || found.has(task.id)) continue;
      found.set(task.id, task);
      next.push(task.id);
      if (found.size < CANCELLED_MAX) continue;
      throw new SwarmError("limit_exceeded", `More than ${CANCELLED_MAX} tasks depend on task ${id}.`, {
        hint: "Cancel tasks further down the chain with their dependents first, or cancel this one without its dependents.",
      });
    }
  }
  return [...found.values()];
}
