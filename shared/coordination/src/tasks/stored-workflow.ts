/** A workflow as it is stored: tasks that are started, paused and reported on as one. */
import type { JsonObject } from "@mcp-swarm/core";
import type { TaskError } from "./stored-task.ts";

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
