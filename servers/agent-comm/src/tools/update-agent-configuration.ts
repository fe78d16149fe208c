import { meantAgent } from "@mcp-swarm/identity";
import { fields, WRITES } from "@mcp-swarm/server";
import { ownAgentId } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";
import { configured } from "./get-agent-configuration.ts";

/** More changes than one record can see: a thousand a second for thirty years. */
const REV_MAX = 1_000_000_000_000;

export const updateAgentConfiguration = defineTool({
  name: "update_agent_configuration",
  title: "Change an agent's configuration",
  description: "Merges settings into your configuration or a subagent's, as JSON Merge Patch does: null removes one.",
  toolset: "agents",
  operation: "agent:configure",
  resource: ({ agentId }, caller) => `agent/${meantAgent(caller, agentId)}`,
  effects: WRITES,
  input: () => ({
    configuration: fields.jsonObject(),
    ifRev: fields.whole(0, REV_MAX).exactOptional().describe("Refuse unless it is at this rev"),
    agentId: ownAgentId(),
  }),
  output: configured,
  untrusted: ["configuration"],
  async handle({ agents }, input, { call }) {
    return agents.configure(call, input);
  },
});
