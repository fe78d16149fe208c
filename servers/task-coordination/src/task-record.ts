import {
  hasEnded,
  isHeld,
  type StoredTask,
  type TaskBackoff,
  type TaskError,
  type TaskProgress,
  type TaskStatus,
} from "@mcp-swarm/coordination/tasks";
import { ID_MAX, type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";

/** Most tasks that one `add_tasks` takes. */
export const TASKS_PER_CALL_MAX = 500;
/** Most tasks that one task may wait for. */
export const DEPENDENCIES_MAX = 100;
/** Most open tasks that may wait for one task, so that finishing it stays one commit. */
export const DEPENDENTS_MAX = 1_000;
export const DESCRIPTION_CHARS_MAX = 20_000;
export const TITLE_CHARS_MAX = 200;
export const TYPE_CHARS_MAX = 64;
/** Longest checkpoint, expected output or error text. */
export const NOTE_CHARS_MAX = 4_000;
/** Largest result of a task and largest parameters, in bytes of JSON: a record with both stays far below what a value may have. */
export const OUTPUT_BYTES_MAX = 200_000;
export const CAPABILITIES_MAX = 20;
export const FILES_MAX = 50;
export const FILE_CHARS_MAX = 500;
/** Changes kept in a record; older ones are counted only. */
export const HISTORY_MAX = 50;
/** Characters of a note that the history keeps. */
export const HISTORY_NOTE_CHARS = 500;
export const PRIORITY_MAX = 9;
export const PRIORITY_DEFAULT = 5;
export const ATTEMPTS_MAX = 100;
export const ATTEMPTS_DEFAULT = 3;
/** Longest run of one attempt and longest delay of a start, in ms. */
export const TIMEOUT_MS_MAX = 7 * 24 * 3_600_000;
/** Type of a task that names none. */
export const TYPE_DEFAULT = "general";

export const BACKOFF_DEFAULT: TaskBackoff = { initialMs: 1_000, factor: 2, maxMs: 300_000 };

/** Why a blocked task waits: a dependency, with its status, or its workflow. */
export type Blocker = { readonly taskId: string; readonly status: TaskStatus | "missing" };

/** A task as callers see it. */
export type TaskRecord = {
  readonly id: string;
  readonly title?: string;
  readonly description: string;
  readonly type: string;
  readonly status: TaskStatus;
  readonly priority: number;
  readonly createdAt: number;
  readonly createdBy: string;
  readonly dependencies: readonly string[];
  readonly expectedOutput?: string;
  readonly parameters?: JsonObject;
  readonly deadlineAt?: number;
  readonly overdue: boolean;
  readonly notBeforeAt?: number;
  readonly requiredCapabilities: readonly string[];
  readonly maxAttempts: number;
  readonly backoff: TaskBackoff;
  readonly timeoutMs?: number;
  readonly files?: readonly string[];
  readonly workflowId?: string;
  /** The done task that this one undoes. */
  readonly rollbackOf?: string;
  readonly assignedTo?: string;
  readonly attempt: number;
  readonly fencingToken: number;
  readonly claimedBy?: string;
  readonly workerSlot?: number;
  readonly claimedAt?: number;
  /** Only while it is held. */
  readonly leaseExpiresAt?: number;
  readonly progress?: TaskProgress;
  readonly checkpoint?: string;
  readonly output?: Json;
  readonly error?: TaskError;
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** When a delayed task becomes available. */
  readonly availableAt?: number;
  /** Open dependencies of a blocked task. */
  readonly blockedBy?: readonly Blocker[];
  /** One sentence on why a blocked task waits. */
  readonly blockedReason?: string;
};

export type ContextItem = {
  readonly taskId: string;
  readonly title?: string;
  /** Who did it. */
  readonly by?: string;
  /** The result, as its worker gave it; a text of JSON that was cut when `cut` is there. Data, never instructions. */
  readonly output?: Json;
  /** Says how to read the rest. */
  readonly cut?: string;
};

const TASK_ID = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** @throws SwarmError invalid_argument */
export function checkTaskId(id: string): string {
  if (id.length <= ID_MAX && TASK_ID.test(id)) return id;
  throw new SwarmError("invalid_argument", "Not a task id.", {
    hint: `Use up to ${ID_MAX} letters, digits and . _ - , beginning with a letter or digit.`,
  });
}

/** The beginning of a text, never half a surrogate pair at its end. */
export function cutText(text: string, chars: number): string {
  const kept = text.slice(0, chars);
  return kept.length === text.length || kept.isWellFormed() ? kept : kept.slice(0, -1);
}

/** A stored task as callers see it, at a time by the store's clock. Blockers are added by whoever looked them up. */
export function toTaskRecord(task: StoredTask, now: number): TaskRecord {
  const { claim } = task;
  return {
    id: task.id,
    ...(task.title === undefined ? {} : { title: task.title }),
    description: task.description,
    type: task.type,
    status: task.status,
    priority: task.priority,
    createdAt: task.createdAt,
    createdBy: task.createdBy,
    dependencies: task.dependencies,
    ...(task.expectedOutput === undefined ? {} : { expectedOutput: task.expectedOutput }),
    ...(task.parameters === undefined ? {} : { parameters: task.parameters }),
    ...(task.deadlineAt === undefined ? {} : { deadlineAt: task.deadlineAt }),
    overdue: task.deadlineAt !== undefined && (hasEnded(task) ? (task.endedAt ?? 0) : now) > task.deadlineAt,
    ...(task.notBeforeAt === undefined ? {} : { notBeforeAt: task.notBeforeAt }),
    requiredCapabilities: task.requiredCapabilities,
    maxAttempts: task.maxAttempts,
    backoff: task.backoff,
    ...(task.timeoutMs === undefined ? {} : { timeoutMs: task.timeoutMs }),
    ...(task.files === undefined ? {} : { files: task.files }),
    ...(task.workflowId === undefined ? {} : { workflowId: task.workflowId }),
    ...(task.rollbackOf === undefined ? {} : { rollbackOf: task.rollbackOf }),
    ...(task.assignedTo === undefined ? {} : { assignedTo: task.assignedTo }),
    attempt: task.attempt,
    fencingToken: task.fencingToken,
    ...(claim === undefined ? {} : { claimedBy: claim.by, claimedAt: claim.at }),
    ...(claim?.workerSlot === undefined ? {} : { workerSlot: claim.workerSlot }),
    ...(claim !== undefined && isHeld(task) ? { leaseExpiresAt: claim.leaseExpiresAt } : {}),
    ...(task.progress === undefined ? {} : { progress: task.progress }),
    ...(task.checkpoint === undefined ? {} : { checkpoint: task.checkpoint }),
    ...(task.output === undefined ? {} : { output: task.output }),
    ...(task.error === undefined ? {} : { error: task.error }),
    ...(task.startedAt === undefined ? {} : { startedAt: task.startedAt }),
    ...(task.endedAt === undefined ? {} : { endedAt: task.endedAt }),
    ...(task.status === "delayed" && task.dueAt !== undefined ? { availableAt: task.dueAt } : {}),
  };
}
