import { meantAgent } from "@mcp-swarm/identity";
import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { reader, TROUBLED_DEFAULT, troubled, troubledLimit } from "./message-schemas.ts";
import { troubledViews } from "./message-views.ts";

export const markOverdue = defineTool({
  name: "mark_overdue",
  title: "List what is overdue",
  description:
    "Shows messages past their ackWithinMs and not acknowledged: first those you owe an acknowledgement (role receiver), then those you sent.",
  toolset: "threads",
  operation: "message:read",
  resource: ({ agentId }, caller) => `inbox/${meantAgent(caller, agentId)}`,
  effects: READS,
  input: () => ({ limit: troubledLimit(), cursor: fields.cursor(), agentId: reader() }),
  output: () => ({
    messages: z.array(troubled().extend({ role: z.enum(["receiver", "sender"]), overdueMs: z.number() })),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["messages[].payload", "messages[].reason"],
  async handle({ overdue, envelopes }, { limit = TROUBLED_DEFAULT, ...input }, { call, caller }) {
    const page = await overdue.list(call, { ...input, limit });
    const messages = troubledViews(await envelopes.openIn(caller, page.messages), ({ role, overdueMs }) => ({
      role,
      overdueMs,
      overdue: true as const,
    }));
    return page.nextCursor === undefined ? { messages } : { messages, nextCursor: page.nextCursor };
  },
});
