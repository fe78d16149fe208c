import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { patterns, policyId, roles, version } from "./security-schemas.ts";

const DESCRIPTION_MAX = 500;

export const setPolicy = defineTool({
  name: "set_policy",
  title: "Set a policy",
  description:
    "Adds a policy, or replaces the one with its id; in force everywhere within 6 s. What no policy permits is denied, and a forbid wins.",
  toolset: "policies",
  operation: "policy:write",
  resource: ({ id }) => `policy/${id}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({
    id: policyId(),
    effect: z.enum(["permit", "forbid"]),
    description: fields.text(DESCRIPTION_MAX).exactOptional(),
    agents: patterns().exactOptional().describe("Everybody without agents and roles"),
    roles: roles().exactOptional(),
    operations: patterns().describe("e.g. task:*, *:read"),
    resources: patterns().exactOptional().describe("e.g. task/build-*"),
    when: fields.jsonObject().exactOptional().describe("time, rate, arguments, attributes, context"),
  }),
  output: () => ({ policyId: z.string(), version: version(), unknownOperations: z.array(z.string()).exactOptional() }),
  async handle({ secured }, { ...policy }, { call }) {
    return await secured.policies.set(call, policy);
  },
});
