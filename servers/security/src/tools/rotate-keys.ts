import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { member } from "./security-schemas.ts";

export const rotateKeys = defineTool({
  name: "rotate_keys",
  title: "Replace keys",
  description:
    "Replaces your own keys; the old ones are dead within 6 s. With agentId it ends another's, for which a person hands over a new token.",
  toolset: "members",
  operation: "key:rotate",
  // nobody is enrolled as `self`, and whoever names itself means a member like any other
  resource: ({ agentId }) => `key/${agentId ?? "self"}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ agentId: member().exactOptional() }),
  output: () => ({
    agentId: z.string(),
    keyId: z.string().exactOptional(),
    version: z.number().exactOptional(),
    tokenFile: z.string().exactOptional(),
  }),
  async handle({ secured }, { agentId }, { call }) {
    return agentId === undefined ? await secured.members.rotateOwn(call) : await secured.members.replaceKeys(call, agentId);
  },
});
