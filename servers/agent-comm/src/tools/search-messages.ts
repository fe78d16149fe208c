import { meantAgent } from "@mcp-swarm/identity";
import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { MESSAGES_DEFAULT, MESSAGES_MAX } from "../inbox.ts";
import { defineTool } from "./define.ts";
import { messageView, reader } from "./message-schemas.ts";
import { views } from "./message-views.ts";

/** Longest text to search for. */
const TEXT_MAX = 200;

export const searchMessages = defineTool({
  name: "search_messages",
  title: "Search messages",
  description: "Finds messages that you sent or got, or of topics, by words in their payload or type, newest first.",
  toolset: "threads",
  operation: "message:read",
  resource: ({ agentId }, caller) => `inbox/${meantAgent(caller, agentId)}`,
  effects: READS,
  input: () => ({
    text: fields.text(TEXT_MAX).describe('All its words; "in quotes" a phrase'),
    from: fields.agentId().exactOptional(),
    since: fields.timeMs().exactOptional(),
    limit: fields.whole(1, MESSAGES_MAX).exactOptional().describe("Default 10"),
    cursor: fields.cursor(),
    agentId: reader(),
  }),
  output: () => ({ messages: z.array(messageView()), nextCursor: fields.nextCursor() }),
  untrusted: ["messages[].payload"],
  async handle({ search, envelopes }, { limit = MESSAGES_DEFAULT, ...input }, { call, caller }) {
    const { messages, ...rest } = await search.find(call, { ...input, limit });
    return {
      messages: views(
        await envelopes.open(caller, messages),
        messages.map(() => ({})),
      ),
      ...rest,
    };
  },
});
