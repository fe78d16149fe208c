import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { attributes, member, roles, version } from "./security-schemas.ts";

export const setRoles = defineTool({
  name: "set_roles",
  title: "Set a member's roles",
  description: "Replaces the roles of a member, and its attributes when they are given; policies go by both.",
  toolset: "members",
  operation: "member:write",
  resource: ({ agentId }) => `member/${agentId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({
    agentId: member(),
    roles: roles(),
    attributes: attributes().exactOptional(),
  }),
  output: () => ({ agentId: z.string(), version: version() }),
  async handle({ secured }, input, { call }) {
    return await secured.members.setRoles(call, input);
  },
});
