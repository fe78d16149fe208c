import { SwarmError } from "@mcp-swarm/core";
import { cut, fields, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { hasEnded } from "../execution-record.ts";
import { defineTool } from "./define.ts";
import { mintedId } from "./schemas.ts";
import { answerAbout, stillWaiting, taskAnswer, UNTRUSTED_IN_ANSWER } from "./task-answer.ts";
import { taskView } from "./views.ts";

/** Most characters of a value's JSON, which is at most 256 KiB. */
const VALUE_OFFSET_MAX = 1_000_000;
/** Characters of one part; it shrinks until it fits where characters take many bytes. */
const PART_CHARS = 4_500;

export const getResult = defineTool({
  name: "get_result",
  title: "Read a task's result",
  description:
    "Tells a task's status and, once it ended, what came out; waits up to waitMs for its end. valueOffset reads on in a cut value.",
  toolset: "tasks",
  operation: "execution:read",
  resource: ({ taskId }) => `execution/${taskId}`,
  effects: READS,
  input: () => ({
    taskId: mintedId(),
    waitMs: fields.waitMs(),
    valueOffset: z.int().min(0).max(VALUE_OFFSET_MAX).exactOptional(),
  }),
  output: () => ({
    ...taskAnswer(),
    part: z
      .object({ offset: z.number(), text: z.string(), nextOffset: z.number().exactOptional(), chars: z.number() })
      .exactOptional(),
  }),
  untrusted: [...UNTRUSTED_IN_ANSWER, "part.text"],
  async handle(domain, { taskId, waitMs = 0, valueOffset: offset }, context) {
    const { call, signal, progress } = context;
    const waiting = { waitMs, signal, onProgress: (waitedMs: number) => progress(stillWaiting(waitedMs)) };
    const record = await domain.executions.get(call, { taskId }, waiting);
    if (offset === undefined) return await answerAbout(domain, record, context);
    const value = record.result?.value;
    if (value === undefined) {
      throw new SwarmError("failed_precondition", `Task ${taskId} has no value.`, {
        hint: hasEnded(record.status) ? "What it wrote is in get_output." : "Wait for its end with get_result and waitMs.",
      });
    }
    const text = JSON.stringify(value);
    if (offset > text.length) {
      throw new SwarmError("invalid_argument", `The value of task ${taskId} has ${text.length} characters of JSON.`, {
        hint: "Use a valueOffset within it.",
      });
    }
    return shrinkToFit((scale) => {
      const part = cut(text.slice(offset), Math.ceil(PART_CHARS * scale)).text;
      const end = offset + part.length;
      const next = end < text.length ? { nextOffset: end } : {};
      return { task: taskView(record), part: { offset, text: part, chars: text.length, ...next } };
    });
  },
});
