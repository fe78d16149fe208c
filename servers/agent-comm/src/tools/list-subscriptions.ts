import { fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { speaker } from "./message-schemas.ts";
import { shown, subscriptionView } from "./topic-schemas.ts";

export const listSubscriptions = defineTool({
  name: "list_subscriptions",
  title: "List your subscriptions",
  description:
    "Lists your subscriptions: what each brought, how many messages it has yet to look at, and how many were gone before.",
  toolset: "topics",
  operation: "topic:read",
  resource: () => "subscription/*",
  effects: READS,
  input: () => ({ agentId: speaker() }),
  output: () => ({ subscriptions: z.array(subscriptionView()), total: z.number() }),
  async handle({ subscriptions }, input, { call }) {
    const all = (await subscriptions.list(call, input)).subscriptions;
    return { subscriptions: fit(all.map(shown)), total: all.length };
  },
});
