import { meantAgent } from "@mcp-swarm/identity";
import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { reader, TROUBLED_DEFAULT, troubled, troubledLimit } from "./message-schemas.ts";
import { troubledViews } from "./message-views.ts";

export const listDeadLetters = defineTool({
  name: "list_dead_letters",
  title: "List dead letters",
  description: "Shows messages that were rejected or never acknowledged: in your inbox, or with sent: true those you sent.",
  toolset: "messages",
  operation: "message:read",
  resource: ({ agentId }, caller) => `inbox/${meantAgent(caller, agentId)}`,
  effects: READS,
  input: () => ({ sent: z.boolean().exactOptional(), limit: troubledLimit(), cursor: fields.cursor(), agentId: reader() }),
  output: () => ({
    messages: z.array(troubled().extend({ cause: z.string(), diedAt: z.number() })),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["messages[].payload", "messages[].reason"],
  async handle({ deadLetters, envelopes }, { limit = TROUBLED_DEFAULT, ...input }, { call, caller }) {
    const page = await deadLetters.list(call, { ...input, limit });
    const messages = troubledViews(await envelopes.openIn(caller, page.deadLetters), ({ delivery }) => ({
      cause: delivery.cause ?? "undelivered",
      diedAt: delivery.endedAt ?? 0,
    }));
    return page.nextCursor === undefined ? { messages } : { messages, nextCursor: page.nextCursor };
  },
});
