import { fields, WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { speaker } from "./message-schemas.ts";
import { shown, subscriptionView } from "./topic-schemas.ts";

export const unsubscribe = defineTool({
  name: "unsubscribe",
  title: "End a subscription",
  description: "Ends a subscription. What it already brought to your inbox stays there.",
  toolset: "topics",
  operation: "topic:unsubscribe",
  resource: ({ subscriptionId }) => `subscription/${subscriptionId}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ subscriptionId: fields.id(), agentId: speaker() }),
  output: () => ({ subscription: subscriptionView() }),
  async handle({ subscriptions }, input, { call }) {
    return { subscription: shown((await subscriptions.unsubscribe(call, input)).subscription) };
  },
});
