import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { estimateTask as estimate } from "../estimate.ts";
import { defineTool } from "./define.ts";
import { taskId } from "./schemas.ts";

/** What is predicted of a task. */
export const estimated = fields.shared(() => ({
  estimate: z.object({
    estimatedMs: z.number(),
    p50Ms: z.number(),
    p90Ms: z.number(),
    confidence: z.number(),
    basedOn: z.number(),
    scope: z.enum(["agent+type", "type", "swarm", "none"]),
  }),
  type: z.string(),
  agentId: z.string().exactOptional(),
  queued: z.number(),
  expectedWaitMs: z.number().exactOptional(),
}));

export const estimateTask = defineTool({
  name: "estimate_task",
  title: "Estimate a task",
  description: "Predicts from past runs how long a task will wait and run: name a task, or a type and an agent.",
  toolset: "tasks",
  operation: "task:read",
  resource: ({ taskId }) => `task/${taskId ?? "*"}`,
  effects: READS,
  input: () => ({
    taskId: taskId().exactOptional(),
    type: fields.label().exactOptional(),
    agentId: fields.agentId().exactOptional(),
  }),
  output: estimated,
  async handle(_, input, { call }) {
    return await estimate(call.store, input);
  },
});
