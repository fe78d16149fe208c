/** Records as a model reads them: short, with a way to read what was left out. */
import type { LongField, TaskChange } from "@mcp-swarm/coordination/tasks";
import { type Json, PAGE_DEFAULT } from "@mcp-swarm/core";
import { cut, fit } from "@mcp-swarm/server";
import type { z } from "zod";
import type { TaskPage } from "../task-reading.ts";
import type { ContextItem, TaskRecord } from "../task-record.ts";
import type { context, cuts, taskBrief, taskFull } from "./schemas.ts";

/**
 * Characters of each long field at scale 1. An answer is built at a generous scale first and at smaller ones until it fits
 * (`shrinkToFit`), so plain text is mostly whole and text of many bytes a character still fits.
 */
const SHOWN = { description: 1_600, parameters: 600, output: 600, checkpoint: 400, expectedOutput: 200, note: 120 } as const;
/** Characters at scale 1 of all results of dependencies, and of one of them. */
const CONTEXT_SHOWN = 1_000;
const CONTEXT_ITEM_SHOWN = 500;
const BRIEF_DESCRIPTION = 160;
/** Bytes for the globs of a task. */
const FILES_BYTES = 3_000;
/** Most blockers, results and changes shown of each. */
const LISTED = 20;

export function brief(task: TaskRecord): z.input<ReturnType<typeof taskBrief>> {
  return {
    id: task.id,
    ...(task.title === undefined ? {} : { title: task.title }),
    description: cut(task.description, BRIEF_DESCRIPTION).text,
    type: task.type,
    status: task.status,
    priority: task.priority,
    attempt: task.attempt,
    createdBy: task.createdBy,
    ...(task.claimedBy === undefined ? {} : { claimedBy: task.claimedBy }),
    ...(task.leaseExpiresAt === undefined ? {} : { leaseExpiresAt: task.leaseExpiresAt }),
    ...(task.workflowId === undefined ? {} : { workflowId: task.workflowId }),
    ...(task.assignedTo === undefined ? {} : { assignedTo: task.assignedTo }),
    ...(task.deadlineAt === undefined ? {} : { deadlineAt: task.deadlineAt }),
    ...(task.overdue ? { overdue: true as const } : {}),
    ...(task.availableAt === undefined ? {} : { availableAt: task.availableAt }),
    ...(task.blockedReason === undefined ? {} : { blockedReason: task.blockedReason }),
  };
}

export function full(task: TaskRecord, scale = 1): z.input<ReturnType<typeof taskFull>> {
  const lost: z.input<ReturnType<typeof cuts>> = [];
  const missing = (field: string, missingChars: number, offset: number) =>
    lost.push({ field, missingChars, readOn: `get_task {"taskId":"${task.id}","field":"${field}","offset":${offset}}` });
  /** A text, or a value that is shown as the beginning of its JSON when it is too long. */
  const shown = <T extends Json>(field: LongField & keyof typeof SHOWN, value: T): T | string => {
    const asText = typeof value === "string" ? value : JSON.stringify(value);
    const { text, cutChars } = cut(asText, Math.ceil(SHOWN[field] * scale));
    if (cutChars === undefined) return value;
    missing(field, cutChars, text.length);
    return text;
  };
  const { backoff, requiredCapabilities, blockedBy, files, parameters, output, expectedOutput, checkpoint, ...rest } = task;
  const view: z.input<ReturnType<typeof taskFull>> = {
    ...rest,
    dependencies: [...task.dependencies],
    description: shown("description", task.description),
    ...(requiredCapabilities.length === 0 ? {} : { requiredCapabilities: [...requiredCapabilities] }),
    ...(files === undefined ? {} : { files: fit(files, FILES_BYTES) }),
    ...(blockedBy === undefined ? {} : { blockedBy: blockedBy.slice(0, LISTED) }),
    ...(expectedOutput === undefined ? {} : { expectedOutput: shown("expectedOutput", expectedOutput) }),
    ...(parameters === undefined ? {} : { parameters: shown("parameters", parameters) }),
    ...(checkpoint === undefined ? {} : { checkpoint: shown("checkpoint", checkpoint) }),
    ...(output === undefined ? {} : { output: shown("output", output) }),
  };
  const filesLost = files?.slice(view.files?.length) ?? [];
  if (filesLost.length > 0)
    lost.push({ field: "files", missingChars: filesLost.join("").length, readOn: `${files?.length} globs in all` });
  if (task.error?.message !== undefined) {
    const { text, cutChars } = cut(task.error.message, Math.ceil(SHOWN.note * scale));
    if (cutChars !== undefined) missing("error", cutChars, text.length);
    view.error = { ...task.error, message: text };
  }
  if (task.progress?.note !== undefined)
    view.progress = { ...task.progress, note: cut(task.progress.note, Math.ceil(SHOWN.note * scale)).text };
  return lost.length === 0 ? view : { ...view, cuts: lost };
}

export function changes(history: readonly TaskChange[], scale = 1): TaskChange[] {
  return history
    .slice(-LISTED)
    .map((change) =>
      change.note === undefined ? change : { ...change, note: cut(change.note, Math.ceil(SHOWN.note * scale)).text },
    );
}

export function contextView(items: readonly ContextItem[], scale = 1): z.input<ReturnType<typeof context>> {
  let room = Math.ceil(CONTEXT_SHOWN * scale);
  return items.slice(0, LISTED).map((item) => {
    if (item.output === undefined) return item;
    const asText = typeof item.output === "string" ? item.output : JSON.stringify(item.output);
    const { text, cutChars } = cut(asText, Math.min(Math.ceil(CONTEXT_ITEM_SHOWN * scale), room));
    room -= text.length;
    if (cutChars === undefined) return item;
    const readOn = `get_task {"taskId":"${item.taskId}","field":"output","offset":${text.length}}`;
    return { ...item, output: text, cut: readOn };
  });
}

/**
 * A page of briefs that fits one answer. When a whole page does not fit, as many are asked for anew as did: the cursor of
 * that shorter page is where the next one begins.
 */
export async function page(
  read: (limit: number) => Promise<TaskPage>,
  limit: number = PAGE_DEFAULT,
): Promise<{ tasks: z.input<ReturnType<typeof taskBrief>>[]; nextCursor?: string }> {
  const whole = await read(limit);
  const kept = fit(whole.tasks.map(brief));
  if (kept.length === whole.tasks.length) return { ...whole, tasks: kept };
  const shorter = await read(kept.length);
  return { ...shorter, tasks: fit(shorter.tasks.map(brief)) };
}
