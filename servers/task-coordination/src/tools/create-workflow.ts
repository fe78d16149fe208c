import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { WORKFLOW_NAME_CHARS_MAX } from "../workflow-record.ts";
import { defineTool } from "./define.ts";
import { addedTasks, addedView, fromTask, newTasks } from "./new-tasks.ts";
import { onFailure, workflowBrief, workflowDependencies, workflowId, workflowTexts } from "./workflow-schemas.ts";
import { briefWorkflow } from "./workflow-views.ts";

export const createWorkflow = defineTool({
  name: "create_workflow",
  title: "Create a workflow",
  description:
    "Makes tasks that run and are reported on as one, started by execute. Tasks as in add_task, with ids of the workflow's own; rollback, a task too, undoes one under compensate.",
  toolset: "workflows",
  operation: "workflow:create",
  resource: ({ id }) => `workflow/${id ?? "*"}`,
  effects: WRITES,
  input: () => ({
    name: fields.text(WORKFLOW_NAME_CHARS_MAX).exactOptional(),
    id: workflowId().exactOptional(),
    tasks: newTasks().exactOptional(),
    dependencies: workflowDependencies().exactOptional(),
    onFailure: onFailure().exactOptional(),
    metadata: fields.jsonObject().exactOptional(),
    execute: z.boolean().exactOptional(),
    templateId: fields.id().exactOptional(),
    parameters: fields.jsonObject().exactOptional().describe("Of the template"),
  }),
  output: () => ({ workflow: workflowBrief(), ...addedTasks() }),
  untrusted: workflowTexts("workflow"),
  async handle({ workflows }, { tasks, ...input }, { call }) {
    const created = await workflows.create(call, { ...input, tasks: tasks?.map(fromTask) });
    return { workflow: briefWorkflow(created.workflow), ...addedView(created.tasks) };
  },
});
