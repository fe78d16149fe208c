import { meantAgent } from "@mcp-swarm/identity";
import { WRITES } from "@mcp-swarm/server";
import { agentFull, agentFullTexts, full, ownAgentId } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";

export const unregisterAgent = defineTool({
  name: "unregister_agent",
  title: "Unregister an agent",
  description:
    "Removes your registration, configuration and subscriptions, or those of a subagent that is finished. What waits in the inbox stays.",
  toolset: "agents",
  operation: "agent:unregister",
  resource: ({ agentId }, caller) => `agent/${meantAgent(caller, agentId)}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ agentId: ownAgentId() }),
  output: () => ({ agent: agentFull() }),
  untrusted: agentFullTexts,
  async handle({ agents }, input, { call }) {
    const { agent } = await agents.unregister(call, input);
    return { agent: full(agent) };
  },
});
