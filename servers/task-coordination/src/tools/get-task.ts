import { LONG_FIELDS, longText } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { cut, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { context, history, taskFull, taskId, taskTexts } from "./schemas.ts";
import { changes, contextView, full } from "./views.ts";

/** Most characters of one part; it shrinks until it fits where characters take many bytes. */
const PART_CHARS = 4_500;

export const getTask = defineTool({
  name: "get_task",
  title: "Read a task",
  description:
    "Shows a task with its history and the results it depends on. With field and offset it reads on in a long field that was cut.",
  toolset: "tasks",
  operation: "task:read",
  resource: ({ taskId }) => `task/${taskId}`,
  effects: READS,
  input: () => ({
    taskId: taskId(),
    field: z.enum(LONG_FIELDS).exactOptional(),
    offset: z.int().min(0).max(1_000_000).exactOptional(),
  }),
  output: () => ({
    task: taskFull().exactOptional(),
    context: context().exactOptional(),
    history: history().exactOptional(),
    olderChanges: z.number().exactOptional(),
    part: z
      .object({
        field: z.string(),
        offset: z.number(),
        text: z.string(),
        nextOffset: z.number().exactOptional(),
        chars: z.number(),
      })
      .exactOptional(),
  }),
  untrusted: [...taskTexts("task"), "context[].title", "context[].output", "history[].note", "part.text"],
  async handle({ tasks }, { taskId, field, offset = 0 }, { call }) {
    const details = await tasks.get(call, { taskId });
    if (field === undefined) {
      return shrinkToFit((scale) => {
        const shown = changes(details.history, scale);
        const older = details.history.length - shown.length + details.historyDropped;
        return {
          task: full(details.task, scale),
          context: contextView(details.context, scale),
          history: shown,
          ...(older === 0 ? {} : { olderChanges: older }),
        };
      });
    }
    const text = longText(details.task, field);
    if (text === undefined || offset > text.length) {
      throw new SwarmError("invalid_argument", `Field ${field} of task ${taskId} has ${text?.length ?? 0} characters.`, {
        hint: "Use an offset within it.",
      });
    }
    return shrinkToFit((scale) => {
      const part = cut(text.slice(offset), Math.ceil(PART_CHARS * scale)).text;
      const end = offset + part.length;
      return { part: { field, offset, text: part, chars: text.length, ...(end < text.length ? { nextOffset: end } : {}) } };
    });
  },
});
