import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { group, leader, subagent } from "./lock-schemas.ts";

export const resignLeader = defineTool({
  name: "resign_leader",
  title: "Resign as leader",
  description: "Ends your candidacy in a group; if you led it, the next candidate leads at once.",
  toolset: "locks",
  operation: "leader:resign",
  resource: ({ group }) => `leader/${group}`,
  effects: WRITES,
  input: () => ({ group: group(), agentId: subagent() }),
  output: () => ({ resigned: z.object({ group: z.string(), led: z.boolean() }), leader: leader().nullable() }),
  untrusted: ["leader.info"],
  async handle({ leaders }, input, { call }) {
    return await leaders.resign(call, input);
  },
});
