/**
 * Where tasks are found: the keys that other servers read too. task-coordination writes them, and its `task-layer.ts` has the
 * table of all keys of a task.
 */
import { type Entry, type Store, segment } from "@mcp-swarm/store";
import { taskOf } from "./kept-task.ts";
import type { StoredTask } from "./stored-task.ts";

/** What an index key leads to. `refs` are the keys that a transaction which reads it reads next. */
export type IndexEntry = { readonly id: string; readonly refs?: readonly string[] };
/** `by`: who holds the task. */
export type LeaseEntry = IndexEntry & { readonly by: string };

export const taskKey = (id: string): string => `task/${segment(id)}`;
export const workflowKey = (id: string): string => `workflow/${segment(id)}`;

export const taskPrefixes = {
  /** Held tasks, by the end of their leases: LeaseEntry. */
  leases: "task-live/lease/",
  /** Open tasks that depend on a task. */
  dependents: (id: string) => `task-dependents/${segment(id)}/`,
  /** Tasks of a workflow, in order of creation. */
  workflow: (workflowId: string) => `task-workflow/${segment(workflowId)}/`,
  /** Open tasks of a workflow. */
  workflowOpen: (workflowId: string) => `workflow-open/${segment(workflowId)}/`,
  /** Open tasks assigned to an agent. */
  assigned: (agentId: string) => `task-assigned/${segment(agentId)}/`,
} as const;

export function indexEntry(entry: Entry): IndexEntry {
  return entry.value as IndexEntry;
}

/** The tasks with these ids in the order asked, from one snapshot. */
export async function readTasks(store: Pick<Store, "getMany">, ids: readonly string[]): Promise<(StoredTask | undefined)[]> {
  if (ids.length === 0) return [];
  return (await store.getMany(ids.map(taskKey))).map((entry) => entry && taskOf(entry.value));
}
