import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { fromInput } from "./new-tasks.ts";
import { newTask, status } from "./schemas.ts";
import { workflowId } from "./workflow-schemas.ts";

export const addTask = defineTool({
  name: "add_task",
  title: "Add a task",
  description: "Adds one task for any agent to claim. Use add_tasks for several at once.",
  toolset: "tasks",
  operation: "task:add",
  resource: ({ id }) => `task/${id ?? "*"}`,
  effects: WRITES,
  input: () => ({ ...newTask(), workflowId: workflowId().exactOptional() }),
  output: () => ({ task: z.object({ id: z.string(), status: status() }) }),
  async handle({ tasks, workflows }, { workflowId, ...input }, { call }) {
    if (workflowId === undefined) return await tasks.add(call, fromInput(input));
    return await workflows.addTask(call, { workflowId, task: fromInput(input) });
  },
});
