/** Queues of claimable tasks: which queue a task is in, its rank there, and which queues an agent may take from. */

import { queueNameOf, rankAt } from "@mcp-swarm/coordination";
import type { StoredTask } from "@mcp-swarm/coordination/tasks";
import { PRIORITY_MAX } from "./task-record.ts";

/** Most queues that new tasks may make: combinations of type, required capabilities and assignee. */
export const QUEUES_MAX = 500;

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

/** A short name that fits keys; equal queues have equal names. Within a workflow a queue has another name. */
export function queueName(queue: Queue, workflowId?: string): string {
  return queueNameOf([queue.type, queue.capabilities, queue.assignedTo ?? null, workflowId ?? null]);
}

/** Where a task stands among those of its queue: by priority, which waiting raises, then by deadline. */
export function rankOf(task: { priority: number; deadlineAt?: number | undefined }, readyAt: number): string {
  return rankAt(PRIORITY_MAX - task.priority, readyAt, task.deadlineAt);
}

export interface Worker {
  readonly agentId: string;
  /** What it can do; undefined means that it takes whatever needs no capability. */
  readonly capabilities?: readonly string[] | undefined;
  /** Takes only this type; with a star at the end, only types that begin so. */
  readonly type?: string | undefined;
}

/** Tasks assigned to an agent are for it and its subagents. */
export function isFor(agentId: string, assignedTo: string): boolean {
  return agentId === assignedTo || agentId.startsWith(`${assignedTo}/`);
}

function isOfType(wanted: string, type: string): boolean {
  return wanted.endsWith("*") ? type.startsWith(wanted.slice(0, -1)) : type === wanted;
}

export function mayTake(worker: Worker, queue: Queue): boolean {
  if (worker.type !== undefined && !isOfType(worker.type, queue.type)) return false;
  if (queue.assignedTo !== undefined && !isFor(worker.agentId, queue.assignedTo)) return false;
  return queue.capabilities.every((capability) => worker.capabilities?.includes(capability));
}
