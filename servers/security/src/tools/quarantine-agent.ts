import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { member, version } from "./security-schemas.ts";

export const quarantineAgent = defineTool({
  name: "quarantine_agent",
  title: "Put an agent in quarantine",
  description:
    "Refuses an agent's calls and holds back what it sent, until on: false ends it. Use it while you find out what an agent is doing.",
  toolset: "members",
  operation: "member:write",
  resource: ({ agentId }) => `member/${agentId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({ agentId: member(), on: z.boolean().exactOptional().describe("Default true") }),
  output: () => ({ agentId: z.string(), version: version() }),
  async handle({ secured }, { agentId, on = true }, { call }) {
    return await secured.members.quarantine(call, agentId, on);
  },
});
