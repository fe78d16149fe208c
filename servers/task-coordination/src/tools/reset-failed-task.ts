import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { taskBrief, taskId } from "./schemas.ts";
import { brief } from "./views.ts";

export const resetFailedTask = defineTool({
  name: "reset_failed_task",
  title: "Reset a task",
  description: "Makes a failed task, or one whose worker is stuck, available again with all its attempts.",
  toolset: "tasks",
  operation: "task:reset",
  resource: ({ taskId }) => `task/${taskId}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ taskId: taskId() }),
  output: () => ({ task: taskBrief() }),
  untrusted: ["task.title", "task.description"],
  async handle({ tasks }, input, { call }) {
    const { task } = await tasks.reset(call, input);
    return { task: brief(task) };
  },
});
