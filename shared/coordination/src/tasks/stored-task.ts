/** A task as it is stored, for every server that reads tasks. What may be done to one is task-coordination's to say. */
import type { Json, JsonObject } from "@mcp-swarm/core";
import type { BackoffPolicy } from "../retry.ts";

/**
 * blocked: waits for dependencies or its workflow. delayed: waits for a time. available: may be claimed. claimed: someone holds
 * it. working: its holder said that it began. done, failed, cancelled: ended.
 */
export const TASK_STATUSES = ["blocked", "delayed", "available", "claimed", "working", "done", "failed", "cancelled"] as const;
export type TaskStatus = (typeof TASK_STATUSES)[number];

export type TaskEvent =
  | "added"
  | "unblocked"
  | "due"
  | "claimed"
  | "started"
  | "progressed"
  | "done"
  | "attempt_failed"
  | "timed_out"
  | "lease_expired"
  | "given_back"
  | "cancelled"
  | "reset"
  | "held"
  | "assigned"
  | "changed"
  | "revived";

/** One change of a task: when, by whom, from which status to which, and why. */
export type TaskChange = {
  readonly at: number;
  /** The agent, or `swarm` for what the servers do by themselves. */
  readonly by: string;
  readonly event: TaskEvent;
  readonly from?: TaskStatus;
  readonly to: TaskStatus;
  readonly attempt: number;
  /** Text of an agent: data, never instructions. */
  readonly note?: string;
};

/** Waits between attempts. */
export type TaskBackoff = Pick<BackoffPolicy, "initialMs" | "factor" | "maxMs">;

export type TaskError = {
  /** The last three: why a workflow cancelled a task that did not fail itself. */
  readonly code: "failed" | "timed_out" | "lease_expired" | "dependency_failed" | "dependency_cancelled" | "workflow_failed";
  /** Text of an agent: data, never instructions. */
  readonly message?: string;
  readonly at: number;
  readonly by: string;
  readonly attempt: number;
};

export type TaskProgress = { readonly percent?: number; readonly note?: string; readonly at: number };

/** Who holds a task, or in an ended task who held it last. */
export type Claim = {
  readonly by: string;
  readonly processId?: string;
  readonly workerSlot?: number;
  readonly at: number;
  /** How far one renewal carries, in ms. */
  readonly leaseMs: number;
  readonly leaseExpiresAt: number;
};

/** A task as it is stored: the truth that every index is made from. */
export type StoredTask = {
  readonly id: string;
  readonly title?: string;
  readonly description: string;
  readonly type: string;
  readonly status: TaskStatus;
  readonly priority: number;
  readonly createdAt: number;
  readonly createdBy: string;
  readonly dependencies: readonly string[];
  /** Dependencies that are not done yet. */
  readonly open: readonly string[];
  readonly expectedOutput?: string;
  readonly parameters?: JsonObject;
  readonly deadlineAt?: number;
  readonly notBeforeAt?: number;
  readonly requiredCapabilities: readonly string[];
  readonly maxAttempts: number;
  readonly backoff: TaskBackoff;
  readonly timeoutMs?: number;
  readonly files?: readonly string[];
  readonly workflowId?: string;
  /** What undoes the task once it is done; runs when its workflow compensates. */
  readonly rollback?: Rollback;
  /** The done task that this one undoes. */
  readonly rollbackOf?: string;
  /** Longest chain of dependencies beneath it; absent for 0. */
  readonly depth?: number;
  readonly assignedTo?: string | undefined;
  /** Attempts begun since it was added or reset; giving back takes one away again. */
  readonly attempt: number;
  /** Of the last claim; 0 before the first. Never decreases. */
  readonly fencingToken: number;
  readonly claim?: Claim | undefined;
  readonly progress?: TaskProgress | undefined;
  /** What a worker left for whoever takes the task next. */
  readonly checkpoint?: string | undefined;
  readonly output?: Json;
  readonly error?: TaskError | undefined;
  readonly startedAt?: number | undefined;
  readonly endedAt?: number | undefined;
  /** Since when it waits to be claimed; decides its rank. */
  readonly readyAt?: number | undefined;
  /** When a delayed task becomes available. */
  readonly dueAt?: number | undefined;
  /** It would be available, but its workflow does not run. */
  readonly held?: true | undefined;
  readonly history: readonly TaskChange[];
  readonly historyDropped: number;
  /** Place in the order of creation: a key segment. */
  readonly seq: string;
};

/** A task to be, that undoes another. */
export type Rollback = Pick<
  StoredTask,
  | "id"
  | "title"
  | "description"
  | "type"
  | "parameters"
  | "priority"
  | "requiredCapabilities"
  | "maxAttempts"
  | "backoff"
  | "timeoutMs"
  | "files"
>;

export function isHeld(task: { status: TaskStatus }): boolean {
  return task.status === "claimed" || task.status === "working";
}

export function hasEnded(task: { status: TaskStatus }): boolean {
  return task.status === "done" || task.status === "failed" || task.status === "cancelled";
}

/** The fields of a task that may be long: `get_task` of task-coordination reads each in parts. */
export const LONG_FIELDS = ["description", "parameters", "output", "checkpoint", "expectedOutput", "error"] as const;
export type LongField = (typeof LONG_FIELDS)[number];

/** A long field as the text that it is read in. */
export function longText(task: Pick<StoredTask, LongField>, field: LongField): string | undefined {
  const value: Json | undefined = field === "error" ? task.error?.message : task[field];
  if (value === undefined) return undefined;
  return typeof value === "string" ? value : JSON.stringify(value);
}
