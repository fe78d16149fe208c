import { MESSAGE_TYPES } from "@mcp-swarm/coordination/messages";
import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { aheadMs, correlationId, encrypt, messageId, priority, sent, speaker, target } from "./message-schemas.ts";

export const sendMessage = defineTool({
  name: "send_message",
  title: "Send a message",
  description:
    "Puts a message into another agent's inbox, until it is acknowledged or expires. request_reply waits for an answer.",
  toolset: "messages",
  operation: "message:send",
  resource: ({ targetAgent }) => `inbox/${targetAgent}`,
  effects: WRITES,
  secretInput: ({ encrypt }) => (encrypt ? ["payload"] : []),
  input: () => ({
    targetAgent: target(),
    messageType: fields.label().describe(`${MESSAGE_TYPES.join(", ")} or your own`),
    payload: fields.json(),
    priority: priority(),
    correlationId: correlationId().describe("Of the thread it belongs to"),
    replyTo: messageId().exactOptional().describe("Message it answers"),
    ttlMs: aheadMs(),
    notBefore: fields.timeMs().exactOptional().describe("ms since epoch"),
    ackWithinMs: aheadMs().describe("Ask for an acknowledgement"),
    encrypt: encrypt().describe("Only its receiver can read it"),
    mailbox: z.boolean().exactOptional().describe("Keep for an agent not known yet"),
    agentId: speaker(),
  }),
  output: () => ({ message: sent() }),
  async handle({ sending }, input, { call }) {
    return { message: await sending.send(call, input) };
  },
});
