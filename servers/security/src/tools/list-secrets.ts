import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const listSecrets = defineTool({
  name: "list_secrets",
  title: "List secrets",
  description: "Shows the names of secrets, who put them and whether you can read them; no values.",
  toolset: "secrets",
  operation: "secret:read",
  resource: () => "secret/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    secrets: z.array(
      z.object({
        name: z.string(),
        version: z.number().exactOptional(),
        putBy: z.string().exactOptional(),
        putAt: z.number().exactOptional(),
        readers: z.number().exactOptional(),
        readable: z.boolean().exactOptional(),
        damaged: z.boolean().exactOptional(),
      }),
    ),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["secrets[].name", "secrets[].putBy"],
  async handle({ secured }, { limit = PAGE_DEFAULT, cursor }, { call }) {
    const page = await secured.secrets.list(call, { limit, cursor });
    const secrets = fit(page.secrets);
    const nextCursor = page.cursorAt(secrets.length);
    return { secrets, ...(nextCursor === undefined ? {} : { nextCursor }) };
  },
});
