import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { NOTE_CHARS_MAX } from "../task-record.ts";
import { defineTool } from "./define.ts";
import { fencingToken, taskBrief, taskId, workerId } from "./schemas.ts";
import { brief } from "./views.ts";

export const updateTask = defineTool({
  name: "update_task",
  title: "Report on your task",
  description:
    "Sets the status of a task you hold: working, done (with output), failed (with error; it is retried), or available to give it back with a checkpoint.",
  toolset: "tasks",
  operation: "task:update",
  resource: ({ taskId }) => `task/${taskId}`,
  effects: WRITES,
  input: () => ({
    taskId: taskId(),
    status: z.enum(["working", "done", "failed", "available"]).exactOptional(),
    workerId: workerId(),
    output: fields.json().exactOptional().describe("The result, for tasks that build on it"),
    error: fields.text(NOTE_CHARS_MAX).exactOptional(),
    progress: z
      .strictObject({
        percent: z.number().min(0).max(100).exactOptional(),
        note: fields.text(NOTE_CHARS_MAX).exactOptional(),
      })
      .exactOptional(),
    checkpoint: fields.text(NOTE_CHARS_MAX).exactOptional().describe("For the next worker"),
    fencingToken: fencingToken(),
  }),
  output: () => ({ task: taskBrief() }),
  untrusted: ["task.title", "task.description"],
  async handle({ claims }, input, { call }) {
    const { task } = await claims.update(call, input);
    return { task: brief(task) };
  },
});
