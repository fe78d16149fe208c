/** Queues of claimable tasks: which queue a task is in, its rank there, and which queues an agent may take from. */

import { createHash } from "node:crypto";
import type { StoredTask } from "@mcp-swarm/coordination/tasks";
import { ordered } from "@mcp-swarm/store";
import { PRIORITY_MAX } from "./task-record.ts";

/** Each such stretch of waiting counts as one level of priority, so that nothing starves. */
export const AGE_MS = 600_000;
/** Most queues that new tasks may make: combinations of type, required capabilities and assignee. */
export const QUEUES_MAX = 500;

const WINDOW_DIGITS = 10;

/** What all tasks of one queue have in common. */
export type Queue = { readonly type: string; readonly capabilities: readonly string[]; readonly assignedTo?: string };

type Queued = Pick<StoredTask, "type" | "requiredCapabilities" | "assignedTo" | "workflowId">;

export function queueOf(task: Queued): Queue {
  return {
    type: task.type,
    capabilities: [...task.requiredCapabilities].sort(),
    ...(task.assignedTo === undefined ? {} : { assignedTo: task.assignedTo }),
  };
}

/** Names that were made: every claim asks for those of the queues it may take from. */
const names = new Map<string, string>();
const NAMES_MAX = 2 * QUEUES_MAX;

/** A short name that fits keys; equal queues have equal names. Within a workflow a queue has another name. */
export function queueName(queue: Queue, workflowId?: string): string {
  const text = JSON.stringify([queue.type, queue.capabilities, queue.assignedTo ?? null, workflowId ?? null]);
  const known = names.get(text);
  if (known !== undefined) return known;
  const name = createHash("sha256").update(text).digest("hex").slice(0, 24);
  if (names.size >= NAMES_MAX) names.clear();
  names.set(text, name);
  return name;
}

/**
 * Key segment by which tasks of a queue are ordered: highest priority first, then earliest deadline, then (by what follows in
 * the key) oldest; each AGE_MS of waiting weighs as much as one level of priority.
 */
export function rankOf(task: { priority: number; deadlineAt?: number | undefined }, readyAt: number): string {
  const level = PRIORITY_MAX - task.priority;
  const window = String(Math.floor(readyAt / AGE_MS) + level).padStart(WINDOW_DIGITS, "0");
  return `${window}${level}${ordered(task.deadlineAt ?? Number.MAX_SAFE_INTEGER)}`;
}

export interface Worker {
  readonly agentId: string;
  /** What it can do; undefined means that it takes whatever needs no capability. */
  readonly capabilities?: readonly string[] | undefined;
  /** Takes only this type. */
  readonly type?: string | undefined;
}

/** Tasks assigned to an agent are for it and its subagents. */
export function isFor(agentId: string, assignedTo: string): boolean {
  return agentId === assignedTo || agentId.startsWith(`${assignedTo}/`);
}

export function mayTake(worker: Worker, queue: Queue): boolean {
  if (worker.type !== undefined && worker.type !== queue.type) return false;
  if (queue.assignedTo !== undefined && !isFor(worker.agentId, queue.assignedTo)) return false;
  return queue.capabilities.every((capability) => worker.capabilities?.includes(capability));
}
