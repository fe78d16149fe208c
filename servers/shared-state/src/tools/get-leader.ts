import { fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { group, leader } from "./lock-schemas.ts";

export const getLeader = defineTool({
  name: "get_leader",
  title: "Get the leader",
  description: "Tells who leads a group at this moment, null when nobody does, and who would be next.",
  toolset: "locks",
  operation: "leader:read",
  resource: ({ group }) => `leader/${group}`,
  effects: READS,
  input: () => ({ group: group() }),
  output: () => ({
    leader: leader().nullable(),
    candidates: z.array(z.object({ agentId: z.string(), sinceAt: z.number(), info: z.string().exactOptional() })),
  }),
  untrusted: ["leader.info", "candidates[].info"],
  async handle({ leaders }, input, { call }) {
    const { leader, candidates } = await leaders.get(call, input);
    return { leader, candidates: fit(candidates) };
  },
});
