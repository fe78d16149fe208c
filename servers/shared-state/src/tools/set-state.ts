import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { entry, fenced, ifRev, inScope, key, onConflict, resourceOf, ttlMs } from "./state-schemas.ts";

export const setState = defineTool({
  name: "set_state",
  title: "Set a value",
  description:
    "Writes a value. Give ifRev so that another's newer value is not lost: then a write that lost a race answers conflict.",
  toolset: "values",
  operation: "state:write",
  resource: resourceOf,
  effects: { ...WRITES, destructive: true },
  input: () => ({
    key: key(),
    value: fields.json(),
    ...inScope(),
    ifRev: ifRev(),
    onConflict: onConflict().exactOptional().describe("merge: RFC 7396"),
    ttlMs: ttlMs().describe("Ends by itself"),
    ...fenced(),
  }),
  output: () => ({ entry: entry(), outcome: z.enum(["written", "overwrote", "merged"]) }),
  async handle({ values }, input, { call }) {
    return await values.set(call, input);
  },
});
