import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { MESSAGES_DEFAULT, MESSAGES_MAX } from "../inbox.ts";
import { defineTool } from "./define.ts";
import { messageView, reader } from "./message-schemas.ts";
import { views } from "./message-views.ts";

export const getThread = defineTool({
  name: "get_thread",
  title: "Read a thread",
  description:
    "Shows what you sent and got under one correlationId, and topics' messages in it, oldest first; the inbox stays as it is.",
  toolset: "threads",
  operation: "message:read",
  resource: ({ correlationId }) => `thread/${correlationId}`,
  effects: READS,
  input: () => ({
    correlationId: fields.label(),
    limit: fields.whole(1, MESSAGES_MAX).exactOptional().describe("Default 10"),
    cursor: fields.cursor(),
    agentId: reader(),
  }),
  output: () => ({ messages: z.array(messageView()), nextCursor: fields.nextCursor() }),
  untrusted: ["messages[].payload"],
  async handle({ threads, envelopes }, { limit = MESSAGES_DEFAULT, ...input }, { call, caller }) {
    const { messages, ...rest } = await threads.read(call, { ...input, limit });
    return {
      messages: views(
        await envelopes.open(caller, messages),
        messages.map(() => ({})),
      ),
      ...rest,
    };
  },
});
