import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { fenced, ifRev, inScope, key, place, resourceOf } from "./state-schemas.ts";

export const deleteState = defineTool({
  name: "delete_state",
  title: "Delete a value",
  description: "Deletes a value; its history can still be read, and restore_state brings it back.",
  toolset: "values",
  operation: "state:delete",
  resource: resourceOf,
  effects: { ...WRITES, destructive: true },
  input: () => ({ key: key(), ...inScope(), ifRev: ifRev(), ...fenced() }),
  output: () => ({ deleted: z.object({ ...place(), rev: z.number(), deletedRev: z.number() }) }),
  async handle({ values }, input, { call }) {
    return await values.delete(call, input);
  },
});
