import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { entry, fenced, ifRev, inScope, key, resourceOf, rev } from "./state-schemas.ts";

export const restoreState = defineTool({
  name: "restore_state",
  title: "Restore an earlier value",
  description: "Writes the value that a key had at an earlier revision as its newest one, also after it was deleted.",
  toolset: "values",
  operation: "state:write",
  resource: resourceOf,
  effects: { ...WRITES, destructive: true },
  input: () => ({ key: key(), ...inScope(), rev: rev(), ifRev: ifRev(), ...fenced() }),
  output: () => ({ entry: entry(), restoredRev: z.number() }),
  async handle({ values }, input, { call }) {
    return await values.restore(call, input);
  },
});
