import type { StoredTask } from "@mcp-swarm/coordination/tasks";
import type { Store } from "@mcp-swarm/store";
import { expect } from "vitest";
import { taskCensus } from "../../../../test/support/task-invariants.ts";

/** What happened to tasks that are gone is still counted; the records that are left cannot tell of it. */
const HAPPENED = /^Counts of (\S+ by event|agent\.)/;

/** What is wrong with a store of tasks. @param swept whether tasks were deleted from it */
export async function problemsOf(store: Store, { swept = false } = {}): Promise<{ tasks: StoredTask[]; problems: string[] }> {
  const { tasks, problems } = await taskCensus(store);
  return { tasks: [...tasks.values()], problems: problems.filter((problem) => !(swept && HAPPENED.test(problem))) };
}

/** All tasks, once every index, count and reservation was found to agree with the records. */
export async function checkTasks(store: Store, options: { swept?: boolean } = {}): Promise<StoredTask[]> {
  const { tasks, problems } = await problemsOf(store, options);
  expect(problems).toEqual([]);
  return tasks;
}
