import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const listMembers = defineTool({
  name: "list_members",
  title: "List members",
  description: "Shows the agents of this swarm with their roles and whether they are active, enrolled, quarantined or revoked.",
  toolset: "members",
  operation: "member:read",
  resource: () => "member/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    members: z.array(
      z.object({
        agentId: z.string(),
        standing: z.enum(["active", "enrolled", "lapsed", "quarantined", "revoked"]),
        roles: z.array(z.string()),
        attributes: z.record(z.string(), z.string()).exactOptional(),
        issuer: z.boolean().exactOptional(),
        generation: z.number(),
        revokedAt: z.number().exactOptional(),
        quarantinedAt: z.number().exactOptional(),
        enrolledUntil: z.number().exactOptional(),
      }),
    ),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["members[].attributes"],
  async handle({ secured }, { limit = PAGE_DEFAULT, cursor }) {
    const page = await secured.members.list({ limit, cursor });
    const members = fit(page.members);
    const nextCursor = page.cursorAt(members.length);
    return { members, ...(nextCursor === undefined ? {} : { nextCursor }) };
  },
});
