import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { workflowBrief, workflowState, workflowTexts } from "./workflow-schemas.ts";
import { briefWorkflow } from "./workflow-views.ts";

export const listWorkflows = defineTool({
  name: "list_workflows",
  title: "List workflows",
  description: "Lists workflows, the newest first.",
  toolset: "workflows",
  operation: "workflow:read",
  resource: () => "workflow/*",
  effects: READS,
  input: () => ({ status: workflowState().exactOptional(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({ workflows: z.array(workflowBrief()), nextCursor: fields.nextCursor() }),
  untrusted: workflowTexts("workflows[]"),
  async handle({ workflows }, input, { call }) {
    const whole = await workflows.list(call, input);
    const kept = fit(whole.workflows.map(briefWorkflow));
    if (kept.length === whole.workflows.length) return { ...whole, workflows: kept };
    const shorter = await workflows.list(call, { ...input, limit: kept.length });
    return { ...shorter, workflows: fit(shorter.workflows.map(briefWorkflow)) };
  },
});
