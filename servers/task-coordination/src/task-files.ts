/** The files of a task, reserved while it is held: one exclusive reservation for each claim, which ends with it. */

import { createHash } from "node:crypto";
import { extendReservation, type ReservationConflict, releaseReservation, reserveFiles } from "@mcp-swarm/coordination";
import type { StoredTask } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import type { Transaction } from "@mcp-swarm/store";

/** Globs fit to be shown in an error: nothing that could read as a sentence. */
const PLAIN_GLOB = /^[\w.*?/[\]{},@-]{1,120}$/;

function reservationId(taskId: string): string {
  return `claim:${createHash("sha256").update(taskId).digest("hex").slice(0, 24)}`;
}

/** Undefined when all are reserved, or there are none; else nothing was written. */
export function reserveTaskFiles(
  tx: Transaction,
  task: StoredTask,
  { holder, fencingToken, expiresAt }: { holder: string; fencingToken: number; expiresAt: number },
): ReservationConflict | undefined {
  if (task.files === undefined) return undefined;
  const outcome = reserveFiles(tx, {
    id: reservationId(task.id),
    holder,
    globs: task.files,
    mode: "exclusive",
    expiresAt,
    taskId: task.id,
    fencingToken,
  });
  return outcome.ok ? undefined : outcome.conflicts[0];
}

/** Carries the reservation with the lease; false when it ran out and another has the files meanwhile. */
export function extendTaskFiles(tx: Transaction, task: StoredTask, expiresAt: number): boolean {
  if (task.files === undefined || task.claim === undefined) return true;
  const owner = { id: reservationId(task.id), holder: task.claim.by, fencingToken: task.fencingToken };
  if (extendReservation(tx, owner, expiresAt)) return true;
  return reserveTaskFiles(tx, task, { ...owner, expiresAt }) === undefined;
}

export function releaseTaskFiles(tx: Transaction, task: StoredTask): void {
  if (task.files === undefined || task.claim === undefined) return;
  releaseReservation(tx, { id: reservationId(task.id), holder: task.claim.by, fencingToken: task.fencingToken });
}

export function filesTaken(taskId: string, { glob, holder, until, taskId: forTask }: ReservationConflict): SwarmError {
  const what = PLAIN_GLOB.test(glob) ? glob : "A glob";
  const why = forTask === undefined ? "" : ` for task ${forTask}`;
  return new SwarmError(
    "conflict",
    `Files of task ${taskId} are reserved: ${what} by ${holder}${why} until ${new Date(until).toISOString()}, or longer if it renews.`,
    { hint: "Take another task with claim_next_task, or ask the holder." },
  );
}
