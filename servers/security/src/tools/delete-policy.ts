import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { policyId, version } from "./security-schemas.ts";

export const deletePolicy = defineTool({
  name: "delete_policy",
  title: "Delete a policy",
  description: "Takes a policy away; in force everywhere within 6 s.",
  toolset: "policies",
  operation: "policy:write",
  resource: ({ policyId }) => `policy/${policyId}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ policyId: policyId() }),
  output: () => ({ policyId: z.string(), version: version() }),
  async handle({ secured }, { policyId }, { call }) {
    return await secured.policies.delete(call, policyId);
  },
});
