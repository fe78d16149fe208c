/** A workflow: tasks that are started, paused and reported on as one. */
import type { FailurePolicy, StoredWorkflow, WorkflowError, WorkflowState } from "@mcp-swarm/coordination/tasks";
import { type JsonObject, SwarmError } from "@mcp-swarm/core";

export const WORKFLOW_NAME_CHARS_MAX = 200;
/** Largest metadata, in characters of JSON. */
export const METADATA_CHARS_MAX = 20_000;

export const FAILURE_POLICY_DEFAULT: FailurePolicy = "fail_fast";

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
