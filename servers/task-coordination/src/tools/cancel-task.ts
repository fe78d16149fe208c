import { fields, fit, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { NOTE_CHARS_MAX } from "../task-record.ts";
import { defineTool } from "./define.ts";
import { taskBrief, taskId } from "./schemas.ts";
import { brief } from "./views.ts";

/** Bytes for the list of ids beside the task. */
const IDS_BYTES = 12_000;

export const cancelTask = defineTool({
  name: "cancel_task",
  title: "Cancel a task",
  description: "Ends a task for good, on request with every task that waits for it.",
  toolset: "tasks",
  operation: "task:cancel",
  resource: ({ taskId }) => `task/${taskId}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({
    taskId: taskId(),
    withDependents: z.boolean().exactOptional(),
    reason: fields.text(NOTE_CHARS_MAX).exactOptional(),
  }),
  output: () => ({ task: taskBrief(), cancelledCount: z.number(), cancelled: z.array(z.string()) }),
  untrusted: ["task.title", "task.description"],
  async handle({ tasks }, input, { call }) {
    const { task, cancelled } = await tasks.cancel(call, input);
    return { task: brief(task), cancelledCount: cancelled.length, cancelled: fit(cancelled, IDS_BYTES) };
  },
});
