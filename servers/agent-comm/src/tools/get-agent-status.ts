import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { agentFull, agentFullTexts, full } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";

export const getAgentStatus = defineTool({
  name: "get_agent_status",
  title: "Read an agent's status",
  description: "Shows one agent: whether it lives, what it says it is doing, and its mail.",
  toolset: "agents",
  operation: "agent:read",
  resource: ({ agentId }) => `agent/${agentId ?? "self"}`,
  effects: READS,
  input: () => ({ agentId: fields.agentId().exactOptional().describe("Default: you") }),
  output: () => ({
    agent: agentFull(),
    health: z.object({
      online: z.boolean(),
      processes: z.number(),
      since: z.number().exactOptional(),
      lastSeenAt: z.number().exactOptional(),
      leaseExpiresAt: z.number().exactOptional(),
    }),
  }),
  untrusted: agentFullTexts,
  async handle({ agents }, { agentId }, { call, caller }) {
    const { agent, live } = await agents.get(call, agentId ?? caller.agentId);
    const { lastSeenAt } = agent;
    return {
      agent: full(agent),
      health: {
        online: agent.online,
        processes: live?.processes ?? 0,
        ...(live === undefined ? {} : { since: live.sinceAt, leaseExpiresAt: live.leaseExpiresAt }),
        ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
      },
    };
  },
});
