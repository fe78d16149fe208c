import { sentCount } from "@mcp-swarm/coordination/messages";
import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { countInbox } from "../inbox.ts";
import { agentFull, agentFullTexts, full } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";

/** An inbox is counted so far. */
const COUNTED_MAX = 1_000;

export const getAgentStatus = defineTool({
  name: "get_agent_status",
  title: "Read an agent's status",
  description: "Shows one agent: whether it lives, what it says it is doing, and its mail.",
  toolset: "agents",
  operation: "agent:read",
  resource: ({ agentId }, caller) => `agent/${agentId ?? caller.agentId}`,
  effects: READS,
  input: () => ({ agentId: fields.agentId().exactOptional().describe("Default: you") }),
  output: () => ({
    agent: agentFull(),
    health: z.object({
      online: z.boolean(),
      processes: z.number(),
      sinceAt: z.number().exactOptional(),
      lastSeenAt: z.number().exactOptional(),
      leaseExpiresAt: z.number().exactOptional(),
    }),
    metrics: z.object({
      messagesWaiting: z.number(),
      messagesUnacknowledged: z.number(),
      deadLetters: z.number(),
      messagesSent: z.number(),
      countedUpTo: z.number().exactOptional(),
    }),
  }),
  untrusted: agentFullTexts,
  async handle({ agents }, { agentId }, { call, caller }) {
    const { agent, live } = await agents.get(call, agentId ?? caller.agentId);
    const { lastSeenAt } = agent;
    const { ready, due, dead } = await countInbox(call.store, agent.id, COUNTED_MAX);
    return {
      agent: full(agent),
      health: {
        online: agent.online,
        processes: live?.processes ?? 0,
        ...(live === undefined ? {} : { sinceAt: live.sinceAt, leaseExpiresAt: live.leaseExpiresAt }),
        ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
      },
      metrics: {
        messagesWaiting: ready.count,
        messagesUnacknowledged: due.count,
        deadLetters: dead.count,
        messagesSent: await sentCount(call.store, agent.id),
        ...(ready.more || due.more || dead.more ? { countedUpTo: COUNTED_MAX } : {}),
      },
    };
  },
});
