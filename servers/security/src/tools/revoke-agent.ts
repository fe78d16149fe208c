import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { member, version } from "./security-schemas.ts";

export const revokeAgent = defineTool({
  name: "revoke_agent",
  title: "Revoke an agent",
  description:
    "Ends an agent's part in the swarm: within 6 s every server refuses it, and what it holds is free. A person can enrol it again.",
  toolset: "members",
  operation: "member:write",
  resource: ({ agentId }) => `member/${agentId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({ agentId: member() }),
  output: () => ({ agentId: z.string(), version: version() }),
  async handle({ secured }, { agentId }, { call }) {
    return await secured.members.revoke(call, agentId);
  },
});
