import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { status, taskBrief } from "./schemas.ts";
import { page } from "./views.ts";

export const getAllTasks = defineTool({
  name: "get_all_tasks",
  title: "List tasks",
  description: "Lists tasks, filtered by status, workflow, type or who holds them.",
  toolset: "tasks",
  operation: "task:read",
  resource: () => "task/*",
  effects: READS,
  input: () => ({
    status: status().exactOptional(),
    workflowId: fields.id().exactOptional(),
    type: fields.label().exactOptional(),
    claimedBy: fields.agentId().exactOptional(),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ tasks: z.array(taskBrief()), nextCursor: fields.nextCursor() }),
  untrusted: ["tasks[].title", "tasks[].description"],
  async handle({ tasks }, input, { call }) {
    return await page((limit) => tasks.list(call, { ...input, limit }), input.limit);
  },
});
