import { fit, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { inScope, key, onConflict, policy, policyView, prefix, resourceOf } from "./state-schemas.ts";

export const setStatePolicy = defineTool({
  name: "set_state_policy",
  title: "Set how conflicts end",
  description:
    "Sets what a write without onConflict does, for a key or all keys with a prefix. reject binds every writer: each write must then give ifRev.",
  toolset: "values",
  operation: "state:policy",
  resource: resourceOf,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    key: key().exactOptional(),
    prefix: prefix(),
    ...inScope(),
    onConflict: onConflict().exactOptional().describe("Left out: no policy"),
  }),
  output: () => ({ policies: z.array(policy()) }),
  async handle({ values }, input, { call }) {
    const { policies } = await values.setPolicy(call, input);
    return { policies: fit(policies.map(policyView)) };
  },
});
