import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { workflowBrief, workflowId, workflowTexts } from "./workflow-schemas.ts";
import { briefWorkflow } from "./workflow-views.ts";

export const resumeWorkflow = defineTool({
  name: "resume_workflow",
  title: "Resume a workflow",
  description: "Goes on with a paused workflow.",
  toolset: "workflows",
  operation: "workflow:resume",
  resource: ({ workflowId }) => `workflow/${workflowId}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ workflowId: workflowId() }),
  output: () => ({ workflow: workflowBrief() }),
  untrusted: workflowTexts("workflow"),
  async handle({ workflows }, input, { call }) {
    const { workflow } = await workflows.resume(call, input);
    return { workflow: briefWorkflow(workflow) };
  },
});
