import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { agentBrief, agentTexts, page } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";

export const listAgents = defineTool({
  name: "list_agents",
  title: "List agents",
  description: "Lists who is in the swarm, the living first. Filters make pages short: go on while there is a nextCursor.",
  toolset: "agents",
  operation: "agent:read",
  resource: () => "agent/*",
  effects: READS,
  input: () => ({
    type: fields.label().exactOptional(),
    capability: fields.label().exactOptional(),
    status: fields.label().exactOptional().describe("As agents say it, or online, offline"),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ agents: z.array(agentBrief()), nextCursor: fields.nextCursor() }),
  untrusted: agentTexts("agents[]"),
  async handle({ agents }, { limit, ...filter }, { call }) {
    return page((limit) => agents.list(call, { ...filter, limit }), limit);
  },
});
