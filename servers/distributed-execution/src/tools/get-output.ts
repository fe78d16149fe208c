import { ANSWER_BYTES_MAX, fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { OUTPUT_READ_CHARS_MAX } from "../execution-output.ts";
import type { FollowedOutput } from "../executions.ts";
import { defineTool } from "./define.ts";
import { mintedId, position, status } from "./schemas.ts";

/** Left for what stands around the text. */
const AROUND_BYTES = 2_000;
/** Characters that take the most bytes take six times as many as the others: three halvings are enough. */
const CHARS_MIN = OUTPUT_READ_CHARS_MAX / 8;

export const getOutput = defineTool({
  name: "get_output",
  title: "Follow a task's output",
  description:
    "Shows what a task wrote, from the beginning or behind after (the next of the answer before). Waits up to waitMs for more.",
  toolset: "tasks",
  operation: "execution:read",
  resource: ({ taskId }) => `execution/${taskId}`,
  effects: READS,
  input: () => ({ taskId: mintedId(), after: position().exactOptional(), waitMs: fields.waitMs() }),
  output: () => ({
    taskId: z.string(),
    status: status(),
    parts: z.array(z.object({ stream: z.enum(["stdout", "stderr"]), text: z.string() })),
    next: z.string(),
    /** More is there already. */
    more: z.boolean(),
    /** All of it was read. */
    ended: z.boolean(),
  }),
  untrusted: ["parts[].text"],
  async handle({ executions }, { waitMs = 0, ...input }, { call, signal, progress }) {
    const onProgress = (waitedMs: number) => progress(`Nothing more after ${Math.round(waitedMs / 1_000)} s`);
    let found = await executions.output(call, input, { waitMs, signal, onProgress });
    for (
      let limit = OUTPUT_READ_CHARS_MAX / 2;
      bytesOf(found) > ANSWER_BYTES_MAX - AROUND_BYTES && limit >= CHARS_MIN;
      limit /= 2
    ) {
      found = await executions.output(call, { ...input, limit });
    }
    const { task, parts, next, more, ended } = found;
    return { taskId: task.id, status: task.status, parts: parts.map((part) => ({ ...part })), next, more, ended };
  },
});

function bytesOf({ parts }: FollowedOutput): number {
  return Buffer.byteLength(JSON.stringify(parts));
}
