/** What a task is added from, checked and completed. */

import { type BackoffPolicy, checkBackoff, normalizeGlobs } from "@mcp-swarm/coordination";
import type { Rollback, StoredTask } from "@mcp-swarm/coordination/tasks";
import { ID_MAX, type JsonObject, SwarmError } from "@mcp-swarm/core";
import {
  ATTEMPTS_DEFAULT,
  ATTEMPTS_MAX,
  BACKOFF_DEFAULT,
  CAPABILITIES_MAX,
  checkTaskId,
  DEPENDENCIES_MAX,
  DESCRIPTION_CHARS_MAX,
  FILE_CHARS_MAX,
  FILES_MAX,
  NOTE_CHARS_MAX,
  OUTPUT_BYTES_MAX,
  PRIORITY_DEFAULT,
  PRIORITY_MAX,
  TIMEOUT_MS_MAX,
  TITLE_CHARS_MAX,
  TYPE_CHARS_MAX,
  TYPE_DEFAULT,
} from "./task-record.ts";

export type NewTask = {
  /** Minted when absent. */
  readonly id?: string | undefined;
  readonly title?: string | undefined;
  readonly description: string;
  readonly type?: string | undefined;
  readonly dependencies?: readonly string[] | undefined;
  /** What the task shall produce. */
  readonly expectedOutput?: string | undefined;
  readonly parameters?: JsonObject | undefined;
  /** 0 to 9, 9 first; 5 when absent. */
  readonly priority?: number | undefined;
  /** Ms since the epoch. */
  readonly deadlineAt?: number | undefined;
  /** Ms since the epoch; not available before. */
  readonly notBeforeAt?: number | undefined;
  readonly requiredCapabilities?: readonly string[] | undefined;
  readonly maxAttempts?: number | undefined;
  /** What is absent is taken from BACKOFF_DEFAULT. */
  readonly backoff?: { readonly [K in "initialMs" | "factor" | "maxMs"]?: number | undefined } | undefined;
  /** Longest run of one attempt, in ms. */
  readonly timeoutMs?: number | undefined;
  /** Globs, relative to the repository, that a claim reserves. */
  readonly files?: readonly string[] | undefined;
  readonly assignedTo?: string | undefined;
  /** What undoes it; for tasks of a workflow that compensates. */
  readonly rollback?: NewRollback | undefined;
};

export type NewRollback = Omit<NewTask, "id" | "dependencies" | "rollback">;

/** All of a stored task that does not come from the store. */
export type TaskSpec = Pick<
  StoredTask,
  | "id"
  | "title"
  | "description"
  | "type"
  | "dependencies"
  | "expectedOutput"
  | "parameters"
  | "priority"
  | "deadlineAt"
  | "notBeforeAt"
  | "requiredCapabilities"
  | "maxAttempts"
  | "backoff"
  | "timeoutMs"
  | "files"
  | "assignedTo"
  | "rollback"
  | "rollbackOf"
>;

/** Behind the id of the task that it undoes. */
export const ROLLBACK_SUFFIX = ".rollback";

/** Largest time that keys can hold in order, ms since the epoch. */
const TIME_MAX = 8_640_000_000_000_000;

function refuse(field: string, what: string): never {
  throw new SwarmError("invalid_argument", `${field} ${what}.`, {
    hint: "Correct that field and call again; nothing was added.",
  });
}

function text(field: string, value: string, max: number): string {
  if (value.length < 1 || value.length > max) refuse(field, `must have 1 to ${max} characters`);
  return value;
}

function whole(field: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) refuse(field, `must be a whole number from ${min} to ${max}`);
  return value;
}

function words(field: string, values: readonly string[], count: number, length: number): string[] {
  const distinct = [...new Set(values)];
  if (distinct.length > count) refuse(field, `may have at most ${count} entries`);
  for (const value of distinct) text(field, value, length);
  return distinct;
}

function backoffOf(given: NewTask["backoff"]): StoredTask["backoff"] {
  const initialMs = given?.initialMs ?? BACKOFF_DEFAULT.initialMs;
  const policy: BackoffPolicy = {
    initialMs,
    factor: given?.factor ?? BACKOFF_DEFAULT.factor,
    maxMs: given?.maxMs ?? Math.max(BACKOFF_DEFAULT.maxMs, initialMs),
  };
  return checkBackoff(policy);
}

/**
 * @param mintedId used when the task names no id
 * @throws SwarmError invalid_argument naming the field
 */
export function specOf(task: NewTask, mintedId: string): TaskSpec {
  const id = checkTaskId(task.id ?? mintedId);
  const dependencies = [...new Set(task.dependencies ?? [])].map(checkTaskId);
  if (dependencies.length > DEPENDENCIES_MAX) refuse("dependencies", `may have at most ${DEPENDENCIES_MAX} entries`);
  if (dependencies.includes(id)) refuse("dependencies", `of task ${id} name the task itself`);
  if (task.parameters !== undefined && Buffer.byteLength(JSON.stringify(task.parameters)) > OUTPUT_BYTES_MAX) {
    refuse("parameters", `may have at most ${OUTPUT_BYTES_MAX} bytes of JSON`);
  }
  return {
    id,
    ...(task.title === undefined ? {} : { title: text("title", task.title, TITLE_CHARS_MAX) }),
    description: text("description", task.description, DESCRIPTION_CHARS_MAX),
    type: text("type", task.type ?? TYPE_DEFAULT, TYPE_CHARS_MAX),
    dependencies,
    ...(task.expectedOutput === undefined ? {} : { expectedOutput: text("output", task.expectedOutput, NOTE_CHARS_MAX) }),
    ...(task.parameters === undefined ? {} : { parameters: task.parameters }),
    priority: whole("priority", task.priority ?? PRIORITY_DEFAULT, 0, PRIORITY_MAX),
    ...(task.deadlineAt === undefined ? {} : { deadlineAt: whole("deadline", task.deadlineAt, 0, TIME_MAX) }),
    ...(task.notBeforeAt === undefined ? {} : { notBeforeAt: whole("notBefore", task.notBeforeAt, 0, TIME_MAX) }),
    requiredCapabilities: words("requiredCapabilities", task.requiredCapabilities ?? [], CAPABILITIES_MAX, TYPE_CHARS_MAX),
    maxAttempts: whole("maxAttempts", task.maxAttempts ?? ATTEMPTS_DEFAULT, 1, ATTEMPTS_MAX),
    backoff: backoffOf(task.backoff),
    ...(task.timeoutMs === undefined ? {} : { timeoutMs: whole("timeoutMs", task.timeoutMs, 1, TIMEOUT_MS_MAX) }),
    ...(task.files === undefined || task.files.length === 0
      ? {}
      : { files: normalizeGlobs(words("files", task.files, FILES_MAX, FILE_CHARS_MAX)) }),
    ...(task.assignedTo === undefined ? {} : { assignedTo: task.assignedTo }),
    ...(task.rollback === undefined ? {} : { rollback: rollbackOf(task.rollback, id) }),
  };
}

function rollbackOf(rollback: NewRollback, taskId: string): Rollback {
  const id = `${taskId}${ROLLBACK_SUFFIX}`;
  if (id.length > ID_MAX)
    refuse(`the id of task ${taskId}`, `must be ${ROLLBACK_SUFFIX.length} characters shorter: it has a rollback`);
  const { dependencies: _, ...spec } = specOf({ ...rollback }, id);
  return spec;
}
