import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { member, secretName } from "./security-schemas.ts";

/** Longest value, in characters; its bytes are bounded too. */
const VALUE_MAX = 12_000;
const READERS_MAX = 100;

export const putSecret = defineTool({
  name: "put_secret",
  title: "Put a secret",
  description:
    "Seals a secret to everyone who may read it now. Without value it shares the present one with those permitted since.",
  toolset: "secrets",
  operation: "secret:write",
  resource: ({ name }) => `secret/${name}`,
  effects: { ...WRITES, destructive: true },
  secretInput: () => ["value"],
  input: () => ({
    name: secretName(),
    value: fields.text(VALUE_MAX).exactOptional(),
    readers: z.array(member()).min(1).max(READERS_MAX).exactOptional().describe("Only these"),
  }),
  output: () => ({ name: z.string(), version: z.number() }),
  async handle({ secured }, input, { call }) {
    return await secured.secrets.put(call, input);
  },
});
