import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { capabilities, taskBrief } from "./schemas.ts";
import { page } from "./views.ts";

export const getAvailableTasks = defineTool({
  name: "get_available_tasks",
  title: "List available tasks",
  description: "Lists what you could claim now, most urgent first. To take the first of them, call claim_next_task instead.",
  toolset: "tasks",
  operation: "task:read",
  resource: () => "task/*",
  effects: READS,
  input: () => ({
    capabilities: capabilities().exactOptional(),
    type: fields.label().exactOptional(),
    workflowId: fields.id().exactOptional(),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ tasks: z.array(taskBrief()), nextCursor: fields.nextCursor() }),
  untrusted: ["tasks[].title", "tasks[].description"],
  async handle({ tasks }, input, { call }) {
    return await page((limit) => tasks.available(call, { ...input, limit }), input.limit);
  },
});
