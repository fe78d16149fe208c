/** What the tools for workflows have in common. */
import { FAILURE_POLICIES, TASK_STATUSES, WORKFLOW_STATES } from "@mcp-swarm/coordination/tasks";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { DEPENDENCIES_MAX } from "../task-record.ts";
import { WORKFLOW_ID } from "../workflow-record.ts";

export const workflowId = fields.shared(() => z.string().regex(WORKFLOW_ID));
export const workflowState = fields.shared(() => z.enum(WORKFLOW_STATES));
export const onFailure = fields.shared(() => z.enum(FAILURE_POLICIES));

/** Task → tasks that come before it. */
export const workflowDependencies = fields.shared(() => z.record(fields.id(), z.array(fields.id()).max(DEPENDENCIES_MAX)));

const { json } = fields;

const error = fields.shared(() =>
  z.object({
    taskId: z.string(),
    code: z.string(),
    message: z.string().exactOptional(),
    at: z.number(),
    by: z.string(),
    attempt: z.number(),
  }),
);

/** A workflow without the counts of its tasks. */
export const workflowBrief = fields.shared(() =>
  z.object({
    id: z.string(),
    name: z.string(),
    status: workflowState(),
    onFailure: onFailure(),
    templateId: z.string().exactOptional(),
    createdAt: z.number(),
    createdBy: z.string(),
    startedAt: z.number().exactOptional(),
    endedAt: z.number().exactOptional(),
    durationMs: z.number().exactOptional(),
    rolledBack: z.number().exactOptional(),
    error: error().exactOptional(),
    rollbackError: error().exactOptional(),
  }),
);

export const workflowFull = fields.shared(() =>
  workflowBrief().extend({
    /** As it was given, or the beginning of its JSON when it is long. */
    metadata: json().exactOptional(),
    success: z.boolean(),
    totalTasks: z.number(),
    completedTasks: z.number(),
    failedTasks: z.number(),
    byStatus: z.partialRecord(z.enum(TASK_STATUSES), z.number()),
    progress: z.number(),
  }),
);

/** Where other agents' text is in a workflow. */
export const workflowTexts = (path: string): string[] =>
  ["name", "error.message", "rollbackError.message"].map((field) => `${path}.${field}`);

/** What a done task brought; `cut` says how to read the rest of a long one. */
export const taskResult = fields.shared(() =>
  z.object({
    taskId: z.string(),
    title: z.string().exactOptional(),
    by: z.string().exactOptional(),
    endedAt: z.number().exactOptional(),
    output: json().exactOptional(),
    cut: z.string().exactOptional(),
  }),
);
