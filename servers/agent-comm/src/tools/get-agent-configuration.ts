import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const configured = fields.shared(() => ({
  agentId: z.string(),
  configuration: fields.json(),
  rev: z.number(),
  updatedAt: z.number(),
  updatedBy: z.string(),
}));

export const getAgentConfiguration = defineTool({
  name: "get_agent_configuration",
  title: "Read an agent's configuration",
  description: "Shows what an agent is set to do, and at which rev.",
  toolset: "agents",
  operation: "agent:read",
  resource: ({ agentId }, caller) => `agent/${agentId ?? caller.agentId}`,
  effects: READS,
  input: () => ({ agentId: fields.agentId().exactOptional().describe("Default: you") }),
  output: configured,
  untrusted: ["configuration"],
  async handle({ agents }, input, { call }) {
    return agents.configuration(call, input);
  },
});
