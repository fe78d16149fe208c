import { meantAgent } from "@mcp-swarm/identity";
import { fields, WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { messageIds, settled, speaker } from "./message-schemas.ts";

export const redeliverMessages = defineTool({
  name: "redeliver_messages",
  title: "Deliver dead letters again",
  description: "Puts dead letters back into the inbox they died in, with a fresh count of deliveries.",
  toolset: "messages",
  operation: "message:redeliver",
  resource: ({ agentId }, caller) => `inbox/${meantAgent(caller, agentId)}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    messageIds: messageIds(),
    targetAgent: fields.agentId().exactOptional().describe("Whose, for a message you sent to many"),
    agentId: speaker(),
  }),
  output: () => ({ messages: settled() }),
  handle: ({ deadLetters }, input, { call }) => deadLetters.redeliver(call, input),
});
