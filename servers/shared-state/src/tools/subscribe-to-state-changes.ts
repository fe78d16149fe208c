import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { inScope, key, optionalRev, prefix, resourceOf, subscription } from "./state-schemas.ts";
import { subscriptionView } from "./subscription-view.ts";

export const subscribeToStateChanges = defineTool({
  name: "subscribe_to_state_changes",
  title: "Subscribe to changes",
  description:
    "Keeps your place among the changes of a key or prefix, over restarts. Read them with wait_for_state, then acknowledge_state_changes.",
  toolset: "values",
  operation: "state:subscribe",
  resource: resourceOf,
  effects: WRITES,
  input: () => ({
    key: key().exactOptional(),
    prefix: prefix(),
    ...inScope(),
    fromRev: optionalRev().describe("Default: from now on"),
  }),
  output: () => ({ subscription: subscription() }),
  async handle({ changes }, input, { call }) {
    return subscriptionView(await changes.subscribe(call, input));
  },
});
