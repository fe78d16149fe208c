/** The fields that several tools share: what callers give, and what they get. */
import { TASK_STATUSES } from "@mcp-swarm/coordination/tasks";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import {
  ATTEMPTS_MAX,
  CAPABILITIES_MAX,
  DEPENDENCIES_MAX,
  DESCRIPTION_CHARS_MAX,
  FILE_CHARS_MAX,
  FILES_MAX,
  NOTE_CHARS_MAX,
  PRIORITY_MAX,
  TIMEOUT_MS_MAX,
  TITLE_CHARS_MAX,
} from "../task-record.ts";

const { id, text, label, whole, timeMs, json, jsonObject, shared } = fields;

/** More claims than one task can see: a thousand a second for thirty years. */
const FENCING_TOKEN_MAX = 1_000_000_000_000;

export const taskId = shared(() => id());
export const capabilities = shared(() => z.array(label()).max(CAPABILITIES_MAX));
/** Longest pattern of a type: a type, or the beginning of one and a star. */
const TYPE_PATTERN_MAX = 64;
/** A type of task, or with a star at the end all types that begin so. */
export const typePattern = shared(() =>
  z
    .string()
    .max(TYPE_PATTERN_MAX)
    .regex(/^[A-Za-z0-9][A-Za-z0-9._:/-]*\*?$/)
    .describe("May end in *"),
);
export const status = shared(() => z.enum(TASK_STATUSES));
export const workerId = shared(() => fields.agentId().exactOptional().describe("A subagent of yours; else you"));
export const fencingToken = shared(() => whole(1, FENCING_TOKEN_MAX).exactOptional().describe("From the claim"));

/** What a task is added from. */
export const newTask = shared(() => ({
  id: id().exactOptional(),
  description: text(DESCRIPTION_CHARS_MAX),
  title: text(TITLE_CHARS_MAX).exactOptional(),
  dependencies: z.array(id()).max(DEPENDENCIES_MAX).exactOptional().describe("Ids that must be done first"),
  output: text(NOTE_CHARS_MAX).exactOptional().describe("What it shall produce"),
  type: label().exactOptional(),
  parameters: jsonObject().exactOptional(),
  priority: whole(0, PRIORITY_MAX).exactOptional().describe("9 first; default 5"),
  deadline: timeMs().exactOptional().describe("ms since epoch"),
  notBefore: timeMs().exactOptional().describe("ms since epoch"),
  requiredCapabilities: capabilities().exactOptional(),
  maxAttempts: whole(1, ATTEMPTS_MAX).exactOptional().describe("Default 3"),
  backoff: z
    .strictObject({
      initialMs: whole(0, TIMEOUT_MS_MAX).exactOptional(),
      factor: z.number().min(1).max(10).exactOptional(),
      maxMs: whole(0, TIMEOUT_MS_MAX).exactOptional(),
    })
    .exactOptional(),
  timeoutMs: whole(1, TIMEOUT_MS_MAX).exactOptional().describe("Longest run of one attempt"),
  files: z.array(text(FILE_CHARS_MAX)).max(FILES_MAX).exactOptional().describe("Globs a claim reserves"),
}));

const change = shared(() =>
  z.object({
    at: z.number(),
    by: z.string(),
    event: z.string(),
    from: status().exactOptional(),
    to: status(),
    attempt: z.number(),
    note: z.string().exactOptional(),
  }),
);

/** What a long field lost, and how to read the rest. */
export const cuts = shared(() => z.array(z.object({ field: z.string(), missingChars: z.number(), readOn: z.string() })));

/** A task in a list: enough to choose by. */
export const taskBrief = shared(() =>
  z.object({
    id: z.string(),
    title: z.string().exactOptional(),
    description: z.string(),
    type: z.string(),
    status: status(),
    priority: z.number(),
    attempt: z.number(),
    createdBy: z.string(),
    claimedBy: z.string().exactOptional(),
    leaseExpiresAt: z.number().exactOptional(),
    workflowId: z.string().exactOptional(),
    assignedTo: z.string().exactOptional(),
    deadlineAt: z.number().exactOptional(),
    overdue: z.literal(true).exactOptional(),
    availableAt: z.number().exactOptional(),
    blockedReason: z.string().exactOptional(),
  }),
);

/** A task as one answer holds it. */
export const taskFull = shared(() =>
  z.object({
    id: z.string(),
    title: z.string().exactOptional(),
    description: z.string(),
    type: z.string(),
    status: status(),
    priority: z.number(),
    createdAt: z.number(),
    createdBy: z.string(),
    dependencies: z.array(z.string()),
    expectedOutput: z.string().exactOptional(),
    parameters: json().exactOptional(),
    deadlineAt: z.number().exactOptional(),
    overdue: z.boolean(),
    notBeforeAt: z.number().exactOptional(),
    requiredCapabilities: z.array(z.string()).exactOptional(),
    maxAttempts: z.number(),
    timeoutMs: z.number().exactOptional(),
    files: z.array(z.string()).exactOptional(),
    workflowId: z.string().exactOptional(),
    rollbackOf: z.string().exactOptional(),
    assignedTo: z.string().exactOptional(),
    attempt: z.number(),
    fencingToken: z.number(),
    claimedBy: z.string().exactOptional(),
    workerSlot: z.number().exactOptional(),
    claimedAt: z.number().exactOptional(),
    leaseExpiresAt: z.number().exactOptional(),
    progress: z.object({ percent: z.number().exactOptional(), note: z.string().exactOptional(), at: z.number() }).exactOptional(),
    checkpoint: z.string().exactOptional(),
    output: json().exactOptional(),
    error: z
      .object({ code: z.string(), message: z.string().exactOptional(), at: z.number(), by: z.string(), attempt: z.number() })
      .exactOptional(),
    startedAt: z.number().exactOptional(),
    endedAt: z.number().exactOptional(),
    availableAt: z.number().exactOptional(),
    blockedBy: z.array(z.object({ taskId: z.string(), status: z.string() })).exactOptional(),
    blockedReason: z.string().exactOptional(),
    cuts: cuts().exactOptional(),
  }),
);

/** Results of the tasks that a task depends on. */
export const context = shared(() =>
  z.array(
    z.object({
      taskId: z.string(),
      title: z.string().exactOptional(),
      by: z.string().exactOptional(),
      output: json().exactOptional(),
      cut: z.string().exactOptional(),
    }),
  ),
);

export const history = shared(() => z.array(change()));

/** Where other agents' text is in a task. */
export const taskTexts = (path: string): string[] =>
  ["title", "description", "expectedOutput", "parameters", "checkpoint", "output", "error.message", "progress.note"].map(
    (field) => `${path}.${field}`,
  );
