import { fields, fit, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import type { NewTask } from "../new-task.ts";
import { TASKS_PER_CALL_MAX } from "../task-record.ts";
import { defineTool } from "./define.ts";
import { newTask, status } from "./schemas.ts";

/** Up to how many tasks each comes with its status. */
const STATUS_SHOWN_MAX = 100;

const task = fields.namedOnly(z.strictObject(newTask));

/** The tool's short names as the domain's. */
export function fromInput({ output, deadline, notBefore, ...rest }: z.output<typeof task>): NewTask {
  return { ...rest, expectedOutput: output, deadlineAt: deadline, notBeforeAt: notBefore };
}

export const addTasks = defineTool({
  name: "add_tasks",
  title: "Add several tasks",
  description: "Adds up to 500 tasks, all or none; dependencies may name tasks of the same call. Fields as in add_task.",
  toolset: "tasks",
  operation: "task:add",
  resource: () => "task/*",
  effects: WRITES,
  input: { tasks: z.array(task).min(1).max(TASKS_PER_CALL_MAX) },
  output: {
    count: z.number(),
    byStatus: z.record(z.string(), z.number()),
    tasks: z.array(z.object({ id: z.string(), status: status.exactOptional() })),
  },
  async handle({ tasks }, input, { call }) {
    const added = (await tasks.addMany(call, { tasks: input.tasks.map(fromInput) })).tasks;
    const byStatus: Record<string, number> = {};
    for (const one of added) byStatus[one.status] = (byStatus[one.status] ?? 0) + 1;
    // ids first: whoever let them be minted needs them all, and 500 of them fit
    const shown = added.length <= STATUS_SHOWN_MAX ? added : added.map(({ id }) => ({ id }));
    return { count: added.length, byStatus, tasks: fit(shown) };
  },
});
