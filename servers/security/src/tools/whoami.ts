import { READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const whoami = defineTool({
  name: "whoami",
  title: "Who am I",
  description: "Says which agent you are, with which roles, and whether this swarm is secured.",
  toolset: "identity",
  operation: "identity:read",
  resource: () => "agent/self",
  effects: READS,
  input: () => ({}),
  output: () => ({
    agent: z.object({
      id: z.string(),
      roles: z.array(z.string()).exactOptional(),
      attributes: z.record(z.string(), z.string()).exactOptional(),
      issuer: z.boolean().exactOptional(),
      keyId: z.string().exactOptional(),
    }),
    swarm: z.object({
      secured: z.boolean(),
      rootKey: z.string().exactOptional(),
      version: z.number().exactOptional(),
      hasRootKey: z.boolean().exactOptional(),
    }),
    sessions: z
      .array(z.object({ id: z.string(), agentId: z.string(), audience: z.string(), expiresAt: z.number() }))
      .exactOptional(),
  }),
  untrusted: ["agent.attributes", "sessions[].audience"],
  async handle({ identity }, _, { call }) {
    return await identity.whoami(call);
  },
});
