import { READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { secretName } from "./security-schemas.ts";

export const getSecret = defineTool({
  name: "get_secret",
  title: "Read a secret",
  description: "Opens a secret that was sealed to you. Repeat its value nowhere.",
  toolset: "secrets",
  operation: "secret:read",
  resource: ({ name }) => `secret/${name}`,
  effects: READS,
  input: () => ({ name: secretName() }),
  output: () => ({
    secret: z.object({
      name: z.string(),
      version: z.number(),
      value: z.string(),
      putBy: z.string(),
      putAt: z.number(),
      readers: z.number(),
    }),
  }),
  untrusted: ["secret.value"],
  async handle({ secured }, { name }, { call }) {
    const { readable: _, ...secret } = await secured.secrets.get(call, name);
    return { secret };
  },
});
