import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { rev, subscription, subscriptionId } from "./state-schemas.ts";
import { subscriptionView } from "./subscription-view.ts";

export const acknowledgeStateChanges = defineTool({
  name: "acknowledge_state_changes",
  title: "Acknowledge changes",
  description:
    "Says that you have dealt with a subscription's changes up to rev (nextRev of wait_for_state): they do not come again.",
  toolset: "values",
  operation: "state:subscribe",
  resource: ({ subscriptionId }) => `subscription/${subscriptionId}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ subscriptionId: subscriptionId(), rev: rev() }),
  output: () => ({ subscription: subscription() }),
  async handle({ changes }, input, { call }) {
    return subscriptionView(await changes.acknowledge(call, input));
  },
});
