/** Tasks as tools are given them, and as they answer those that were added. */
import type { TaskStatus } from "@mcp-swarm/coordination/tasks";
import { fields, fit } from "@mcp-swarm/server";
import * as z from "zod";
import type { NewTask } from "../new-task.ts";
import { TASKS_PER_CALL_MAX } from "../task-record.ts";
import { newTask, status } from "./schemas.ts";

/** Bytes for the list of added tasks beside what else is answered. */
const LIST_BYTES = 18_000;
/** Up to how many tasks each comes with its status. */
const STATUS_SHOWN_MAX = 100;

const rollback = fields.shared(() => {
  const { id: _id, dependencies: _dependencies, ...undo } = newTask();
  return z.strictObject(undo);
});
const single = fields.shared(() => z.strictObject(newTask()));
const task = fields.shared(() => fields.namedOnly(z.strictObject({ ...newTask(), rollback: rollback().exactOptional() })));

export const newTasks = fields.shared(() => z.array(task()).min(1).max(TASKS_PER_CALL_MAX));

/** The tool's short names as the domain's. */
export function fromInput({ output, deadline, notBefore, ...rest }: z.output<ReturnType<typeof single>>): NewTask {
  return { ...rest, expectedOutput: output, deadlineAt: deadline, notBeforeAt: notBefore };
}

/** `fromInput` for a task that may say how it is undone. */
export function fromTask({ rollback, ...rest }: z.output<ReturnType<typeof task>>): NewTask {
  return rollback === undefined ? fromInput(rest) : { ...fromInput(rest), rollback: fromInput(rollback) };
}

export const addedTasks = fields.shared(() => ({
  count: z.number(),
  byStatus: z.record(z.string(), z.number()),
  tasks: z.array(z.object({ id: z.string(), status: status().exactOptional() })),
}));

export function addedView(added: readonly { id: string; status: TaskStatus }[]) {
  const byStatus: Record<string, number> = {};
  for (const { status } of added) byStatus[status] = (byStatus[status] ?? 0) + 1;
  // ids first: whoever let them be minted needs them all, and 500 of them fit
  const shown = added.map(({ id, status }) => (added.length <= STATUS_SHOWN_MAX ? { id, status } : { id }));
  return { count: added.length, byStatus, tasks: fit(shown, LIST_BYTES) };
}
