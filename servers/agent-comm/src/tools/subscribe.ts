import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { SUBSCRIBED_TOPICS_MAX, SUBSCRIBED_TYPES_MAX } from "../subscriptions.ts";
import { defineTool } from "./define.ts";
import { speaker } from "./message-schemas.ts";
import { shown, subscriptionView, topicPattern } from "./topic-schemas.ts";

export const subscribe = defineTool({
  name: "subscribe",
  title: "Subscribe to topics",
  description: "Brings what is published in topics to your inbox. Lasts until unsubscribe, or 30 days without reading.",
  toolset: "topics",
  operation: "topic:subscribe",
  resource: ({ topics }) => `topic/${topics.length === 1 ? topics[0] : "*"}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    topics: z.array(topicPattern()).min(1).max(SUBSCRIBED_TOPICS_MAX).describe("Names; build.* means all that begin so"),
    types: z.array(fields.label()).max(SUBSCRIBED_TYPES_MAX).exactOptional(),
    from: fields.agentId().exactOptional(),
    senderCapability: fields.label().exactOptional(),
    replayFrom: z
      .union([z.enum(["now", "start"]), fields.timeMs()])
      .exactOptional()
      .describe("Default now; else also what topics kept since start or a time in ms"),
    agentId: speaker(),
  }),
  output: () => ({ subscription: subscriptionView() }),
  async handle({ subscriptions }, input, { call }) {
    return { subscription: shown((await subscriptions.subscribe(call, input)).subscription) };
  },
});
