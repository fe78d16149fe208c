import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { secretName } from "./security-schemas.ts";

export const deleteSecret = defineTool({
  name: "delete_secret",
  title: "Delete a secret",
  description: "Takes a secret away for everyone.",
  toolset: "secrets",
  operation: "secret:write",
  resource: ({ name }) => `secret/${name}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ name: secretName() }),
  output: () => ({ name: z.string() }),
  async handle({ secured }, { name }, { call }) {
    return await secured.secrets.delete(call, name);
  },
});
