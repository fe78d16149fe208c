/** A workflow: tasks that are started, paused and reported on as one. */
import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import type { TaskError } from "./task-record.ts";

export const WORKFLOW_NAME_CHARS_MAX = 200;
/** Largest metadata, in characters of JSON. */
export const METADATA_CHARS_MAX = 20_000;

/**
 * created: not started. running. paused: no new claims, running work goes on. compensating: no new claims of ordinary tasks;
 * when those that run have ended, the rollbacks run. completed, failed, cancelled, compensated: ended.
 */
export const WORKFLOW_STATES = [
  "created",
  "running",
  "paused",
  "compensating",
  "completed",
  "failed",
  "cancelled",
  "compensated",
] as const;
export type WorkflowState = (typeof WORKFLOW_STATES)[number];

/**
 * What the final failure of a task means. fail_fast: the workflow fails, and all that is open is cancelled, running work too.
 * continue: what depends on the task is cancelled, all else goes on, and the workflow fails at the end. compensate: what waits is
 * cancelled, what runs may finish, then the rollback of each done task runs, the task that finished last first.
 */
export const FAILURE_POLICIES = ["fail_fast", "continue", "compensate"] as const;
export type FailurePolicy = (typeof FAILURE_POLICIES)[number];
export const FAILURE_POLICY_DEFAULT: FailurePolicy = "fail_fast";

/** Which task's failure decided the end of a workflow. */
export type WorkflowError = Pick<TaskError, "message" | "at" | "by" | "attempt"> & {
  readonly taskId: string;
  readonly code: TaskError["code"] | "cancelled";
};

/** The rollbacks of a workflow, one after the other. */
export type Undoing = {
  /** Rollbacks that are done. */
  readonly done: number;
  /** The rollback that is to run now. */
  readonly taskId?: string | undefined;
};

export type StoredWorkflow = {
  readonly id: string;
  readonly name: string;
  readonly state: WorkflowState;
  readonly onFailure: FailurePolicy;
  readonly metadata?: JsonObject | undefined;
  readonly templateId?: string | undefined;
  readonly createdAt: number;
  readonly createdBy: string;
  readonly startedAt?: number | undefined;
  readonly endedAt?: number | undefined;
  /** The first final failure of a task; there before the end under `continue`. */
  readonly error?: WorkflowError | undefined;
  readonly undoing?: Undoing | undefined;
  /** The final failure of a rollback: nothing more was rolled back. */
  readonly rollbackError?: WorkflowError | undefined;
  /** Place in the order of creation: a key segment. */
  readonly seq: string;
};

/** A workflow as callers see it, without the counts of its tasks. */
export type WorkflowRecord = {
  readonly id: string;
  readonly name: string;
  readonly status: WorkflowState;
  readonly onFailure: FailurePolicy;
  readonly createdAt: number;
  readonly createdBy: string;
  readonly metadata?: JsonObject;
  readonly templateId?: string;
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** From its start to its end, or to now. */
  readonly durationMs?: number;
  readonly error?: WorkflowError;
  readonly rollbackError?: WorkflowError;
  /** Rollbacks that are done; while compensating and after. */
  readonly rolledBack?: number;
};

export function hasWorkflowEnded({ state }: Pick<StoredWorkflow, "state">): boolean {
  return state === "completed" || state === "failed" || state === "cancelled" || state === "compensated";
}

/** Short, so that there is room for the ids of its tasks behind it. */
export const WORKFLOW_ID_MAX = 32;
/** Without a dot: up to the first dot of a task's id is its workflow's. */
export const WORKFLOW_ID = new RegExp(`^[A-Za-z0-9][A-Za-z0-9_-]{0,${WORKFLOW_ID_MAX - 1}}$`);

/** @throws SwarmError invalid_argument */
export function checkWorkflowId(id: string): string {
  if (WORKFLOW_ID.test(id)) return id;
  throw new SwarmError("invalid_argument", "Not a workflow id.", {
    hint: `Use up to ${WORKFLOW_ID_MAX} letters, digits and _ - ; list_workflows lists those there are.`,
  });
}

/** The id of the workflow that a task with this id could only be added to. */
export function workflowOfId(taskId: string): string | undefined {
  const dot = taskId.indexOf(".");
  return dot < 0 ? undefined : taskId.slice(0, dot);
}

export function workflowNotFound(id: string): SwarmError {
  return new SwarmError("not_found", `There is no workflow ${id}.`, { hint: "list_workflows lists the ids." });
}

export function toWorkflowRecord(workflow: StoredWorkflow, now: number): WorkflowRecord {
  const { metadata, templateId, startedAt, endedAt, error, rollbackError, undoing } = workflow;
  return {
    id: workflow.id,
    name: workflow.name,
    status: workflow.state,
    onFailure: workflow.onFailure,
    createdAt: workflow.createdAt,
    createdBy: workflow.createdBy,
    ...(metadata === undefined ? {} : { metadata }),
    ...(templateId === undefined ? {} : { templateId }),
    ...(startedAt === undefined ? {} : { startedAt, durationMs: (endedAt ?? now) - startedAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(error === undefined ? {} : { error }),
    ...(rollbackError === undefined ? {} : { rollbackError }),
    ...(undoing === undefined ? {} : { rolledBack: undoing.done }),
  };
}
