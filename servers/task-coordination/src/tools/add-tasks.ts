import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { addedTasks, addedView, fromTask, newTasks } from "./new-tasks.ts";
import { workflowId } from "./workflow-schemas.ts";

export const addTasks = defineTool({
  name: "add_tasks",
  title: "Add several tasks",
  description:
    "Adds up to 500 tasks, all or none; dependencies may name tasks of the same call. Fields as in add_task; workflowId adds them to a workflow.",
  toolset: "tasks",
  operation: "task:add",
  resource: () => "task/*",
  effects: WRITES,
  input: () => ({ tasks: newTasks(), workflowId: workflowId().exactOptional() }),
  output: addedTasks,
  async handle({ tasks, workflows }, { workflowId, ...input }, { call }) {
    const given = { tasks: input.tasks.map(fromTask) };
    const added = workflowId === undefined ? tasks.addMany(call, given) : workflows.addTasks(call, { ...given, workflowId });
    return addedView((await added).tasks);
  },
});
