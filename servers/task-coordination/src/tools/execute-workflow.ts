import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { workflowBrief, workflowId, workflowTexts } from "./workflow-schemas.ts";
import { briefWorkflow } from "./workflow-views.ts";

export const executeWorkflow = defineTool({
  name: "execute_workflow",
  title: "Start a workflow",
  description: "Starts a workflow: its tasks may be claimed from now on.",
  toolset: "workflows",
  operation: "workflow:execute",
  resource: ({ workflowId }) => `workflow/${workflowId}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ workflowId: workflowId() }),
  output: () => ({ workflow: workflowBrief() }),
  untrusted: workflowTexts("workflow"),
  async handle({ workflows }, input, { call }) {
    const { workflow } = await workflows.execute(call, input);
    return { workflow: briefWorkflow(workflow) };
  },
});
