import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { workflowBrief, workflowId, workflowTexts } from "./workflow-schemas.ts";
import { briefWorkflow } from "./workflow-views.ts";

export const cancelWorkflow = defineTool({
  name: "cancel_workflow",
  title: "Cancel a workflow",
  description: "Ends a workflow for good with all its open tasks; who works on one is told at the next report.",
  toolset: "workflows",
  operation: "workflow:cancel",
  resource: ({ workflowId }) => `workflow/${workflowId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({ workflowId: workflowId() }),
  output: () => ({ workflow: workflowBrief() }),
  untrusted: workflowTexts("workflow"),
  async handle({ workflows }, input, { call }) {
    const { workflow } = await workflows.cancel(call, input);
    return { workflow: briefWorkflow(workflow) };
  },
});
