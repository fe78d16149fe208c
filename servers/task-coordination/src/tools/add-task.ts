import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { fromInput } from "./add-tasks.ts";
import { defineTool } from "./define.ts";
import { newTask, status } from "./schemas.ts";

export const addTask = defineTool({
  name: "add_task",
  title: "Add a task",
  description: "Adds one task for any agent to claim. Use add_tasks for several at once.",
  toolset: "tasks",
  operation: "task:add",
  resource: ({ id }) => `task/${id ?? "*"}`,
  effects: WRITES,
  input: newTask,
  output: { task: z.object({ id: z.string(), status }) },
  async handle({ tasks }, input, { call }) {
    return await tasks.add(call, fromInput(input));
  },
});
