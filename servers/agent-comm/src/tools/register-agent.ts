import { CAPABILITY_LENGTH_MAX, meantAgent } from "@mcp-swarm/identity";
import { fields, WRITES } from "@mcp-swarm/server";
import { DESCRIPTION_CHARS_MAX } from "../agent-record.ts";
import { agentFull, agentFullTexts, capabilities, full, ownAgentId } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";

export const registerAgent = defineTool({
  name: "register_agent",
  title: "Register as an agent",
  description: "Tells the swarm what you are and can do, so that others find you and give you work. Call it first.",
  toolset: "agents",
  operation: "agent:register",
  resource: ({ agentId }, caller) => `agent/${meantAgent(caller, agentId)}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    agentType: fields.label().describe("Such as claude-code"),
    capabilities: capabilities().describe(`Words of at most ${CAPABILITY_LENGTH_MAX} characters`),
    description: fields.text(DESCRIPTION_CHARS_MAX).exactOptional(),
    metadata: fields.jsonObject().exactOptional(),
    agentId: ownAgentId(),
  }),
  output: () => ({ agent: agentFull() }),
  untrusted: agentFullTexts,
  async handle({ agents }, input, { call }) {
    const { agent } = await agents.register(call, input);
    return { agent: full(agent) };
  },
});
