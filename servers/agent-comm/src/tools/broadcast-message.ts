import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { SCOPES } from "../broadcast.ts";
import { defineTool } from "./define.ts";
import { aheadMs, correlationId, messageId, priority, speaker } from "./message-schemas.ts";

export const broadcastMessage = defineTool({
  name: "broadcast_message",
  title: "Send to many agents",
  description:
    "Sends one message to all agents alive now, to those of a type, capability or workflow, or to a topic's subscribers.",
  toolset: "topics",
  operation: "message:broadcast",
  resource: ({ scope, name }) => (name === undefined ? scope : `${scope}/${name}`),
  effects: WRITES,
  input: () => ({
    scope: z.enum(SCOPES),
    name: fields.label().exactOptional().describe("Of type, capability, topic or workflow"),
    messageType: fields.label(),
    payload: fields.json(),
    priority: priority(),
    correlationId: correlationId(),
    replyTo: messageId().exactOptional(),
    ttlMs: aheadMs(),
    ackWithinMs: aheadMs(),
    keep: z.boolean().exactOptional().describe("Of a topic: later subscribers may read it"),
    agentId: speaker(),
  }),
  output: () => ({
    message: z.object({
      id: z.string(),
      from: z.string(),
      sentAt: z.number(),
      correlationId: z.string(),
      hops: z.number(),
      expiresAt: z.number().exactOptional(),
      ackDueAt: z.number().exactOptional(),
    }),
    delivered: z.number().exactOptional(),
    failed: z.number().exactOptional(),
    failedReceivers: z.array(z.string()).exactOptional(),
    published: z
      .object({ topic: z.string(), sequence: z.number(), keep: z.boolean(), moreSubscribers: z.literal(true).exactOptional() })
      .exactOptional(),
  }),
  async handle({ broadcasts }, input, { call }) {
    const { failedReceivers, ...outcome } = await broadcasts.send(call, input);
    return failedReceivers === undefined || failedReceivers.length === 0
      ? outcome
      : { ...outcome, failedReceivers: [...failedReceivers] };
  },
});
