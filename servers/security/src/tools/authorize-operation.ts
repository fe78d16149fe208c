import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { operation, resource } from "./security-schemas.ts";

export const authorizeOperation = defineTool({
  name: "authorize_operation",
  title: "Ask what is permitted",
  description:
    "Says whether an agent may do an operation on a resource, and what is missing. Ask before work that may be refused.",
  toolset: "identity",
  operation: "identity:read",
  resource: ({ agentId }) => `agent/${agentId ?? "self"}`,
  effects: READS,
  input: () => ({
    agentId: fields.agentId().exactOptional().describe("You, when absent"),
    operation: operation().describe("e.g. task:cancel"),
    resource: resource().describe("e.g. task/build"),
    arguments: fields.jsonObject().exactOptional().describe("Of the call"),
    context: fields.jsonObject().exactOptional(),
  }),
  output: () => ({
    authorized: z.boolean(),
    reason: z.string(),
    details: z.string(),
    policyIds: z.array(z.string()),
    rates: z.array(z.object({ policyId: z.string(), max: z.number(), perMs: z.number() })).exactOptional(),
  }),
  async handle({ identity }, input, { call }) {
    return await identity.authorize(call, input);
  },
});
