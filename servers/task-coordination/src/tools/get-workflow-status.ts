import { fields, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { taskResult, workflowFull, workflowId, workflowTexts } from "./workflow-schemas.ts";
import { fittingResults, fullWorkflow, resultsView } from "./workflow-views.ts";

export const getWorkflowStatus = defineTool({
  name: "get_workflow_status",
  title: "Read a workflow",
  description: "Shows how far a workflow is, what failed, what waits and why, and the results of its done tasks.",
  toolset: "workflows",
  operation: "workflow:read",
  resource: ({ workflowId }) => `workflow/${workflowId}`,
  effects: READS,
  input: () => ({ workflowId: workflowId(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    workflow: workflowFull(),
    results: z.array(taskResult()),
    nextCursor: fields.nextCursor(),
    waiting: z.array(z.object({ taskId: z.string(), reason: z.string() })),
  }),
  untrusted: [...workflowTexts("workflow"), "workflow.metadata", "results[].title", "results[].output"],
  async handle({ workflows }, input, { call }) {
    const read = (limit: number | undefined) => workflows.status(call, limit === undefined ? input : { ...input, limit });
    const whole = await read(input.limit);
    const view = (status: typeof whole) =>
      shrinkToFit((scale) => ({
        ...status,
        workflow: fullWorkflow(status.workflow, scale),
        results: resultsView(status, scale),
      }));
    const shown = view(whole);
    const fitting = fittingResults(shown.results);
    // what does not fit goes to the next page: its cursor comes from a page that is as long as what fits
    return fitting === whole.results.length ? shown : view(await read(Math.max(1, fitting)));
  },
});
