import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { workflowBrief, workflowId, workflowTexts } from "./workflow-schemas.ts";
import { briefWorkflow } from "./workflow-views.ts";

export const pauseWorkflow = defineTool({
  name: "pause_workflow",
  title: "Pause a workflow",
  description: "Stops new claims of a workflow's tasks at once; who holds one goes on.",
  toolset: "workflows",
  operation: "workflow:pause",
  resource: ({ workflowId }) => `workflow/${workflowId}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ workflowId: workflowId() }),
  output: () => ({ workflow: workflowBrief() }),
  untrusted: workflowTexts("workflow"),
  async handle({ workflows }, input, { call }) {
    const { workflow } = await workflows.pause(call, input);
    return { workflow: briefWorkflow(workflow) };
  },
});
