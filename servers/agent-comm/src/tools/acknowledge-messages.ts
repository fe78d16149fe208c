import { REASON_CHARS_MAX } from "@mcp-swarm/coordination/messages";
import { meantAgent } from "@mcp-swarm/identity";
import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { OUTCOMES } from "../inbox.ts";
import { defineTool } from "./define.ts";
import { aheadMs, messageIds, settled, speaker } from "./message-schemas.ts";

export const acknowledgeMessages = defineTool({
  name: "acknowledge_messages",
  title: "Acknowledge messages",
  description:
    "Says that you are done with messages, want them again later, or reject them as dead letters; else they come again.",
  toolset: "messages",
  operation: "message:acknowledge",
  resource: ({ agentId }, caller) => `inbox/${meantAgent(caller, agentId)}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    messageIds: messageIds(),
    outcome: z.enum(OUTCOMES).exactOptional().describe("Default done"),
    delayMs: aheadMs().describe("For later; default grows"),
    reason: fields.text(REASON_CHARS_MAX).exactOptional(),
    agentId: speaker(),
  }),
  output: () => ({ messages: settled() }),
  handle: ({ inbox }, input, { call }) => inbox.acknowledge(call, input),
});
