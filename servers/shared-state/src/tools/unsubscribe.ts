import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { subscription, subscriptionId } from "./state-schemas.ts";
import { subscriptionView } from "./subscription-view.ts";

export const unsubscribe = defineTool({
  name: "unsubscribe",
  title: "End a subscription",
  description: "Ends a subscription to changes.",
  toolset: "values",
  operation: "state:subscribe",
  resource: ({ subscriptionId }) => `subscription/${subscriptionId}`,
  effects: WRITES,
  input: () => ({ subscriptionId: subscriptionId() }),
  output: () => ({ subscription: subscription() }),
  async handle({ changes }, input, { call }) {
    return subscriptionView(await changes.unsubscribe(call, input));
  },
});
