import { meantAgent } from "@mcp-swarm/identity";
import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { MESSAGES_MAX, VISIBILITY_MS_MAX, VISIBILITY_MS_MIN } from "../inbox.ts";
import { defineTool } from "./define.ts";
import { correlationId, messageView, speaker } from "./message-schemas.ts";
import { views } from "./message-views.ts";

/** Most types of one filter. */
const TYPES_MAX = 20;

export const getMessages = defineTool({
  name: "get_messages",
  title: "Read your messages",
  description:
    "Takes the most urgent messages from your inbox. Each comes again until acknowledge_messages, or is delivered at most once with acknowledge: true.",
  toolset: "messages",
  operation: "message:read",
  resource: ({ agentId }, caller) => `inbox/${meantAgent(caller, agentId)}`,
  effects: WRITES,
  input: () => ({
    types: z.array(fields.label()).min(1).max(TYPES_MAX).exactOptional(),
    from: fields.agentId().exactOptional(),
    correlationId: correlationId(),
    limit: fields.whole(1, MESSAGES_MAX).exactOptional().describe("Default 10"),
    cursor: fields.cursor(),
    waitMs: fields.waitMs(),
    acknowledge: z.boolean().exactOptional(),
    visibilityMs: fields.whole(VISIBILITY_MS_MIN, VISIBILITY_MS_MAX).exactOptional().describe("Comes again after, default 5 min"),
    agentId: speaker(),
  }),
  output: () => ({
    messages: z.array(messageView()),
    damaged: z.array(z.string()).exactOptional(),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["messages[].payload"],
  async handle({ inbox, envelopes }, { waitMs = 0, ...input }, { call, caller, signal, progress }) {
    const { messages, damaged, ...rest } = await inbox.get(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`No message yet after ${Math.round(waitedMs / 1_000)} s`),
    });
    const shown = views(
      await envelopes.open(
        caller,
        messages.map(({ message }) => message),
      ),
      messages.map(({ deliveries, overdue }) => ({ deliveries, ...(overdue ? { overdue: true as const } : {}) })),
    );
    return { messages: shown, ...(damaged === undefined ? {} : { damaged: [...damaged] }), ...rest };
  },
});
