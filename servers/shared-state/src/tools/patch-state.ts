import { fields, WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { change, entry, fenced, ifRev, inScope, key, resourceOf } from "./state-schemas.ts";

export const patchState = defineTool({
  name: "patch_state",
  title: "Change a value in place",
  description: "Changes a value in one commit. Give exactly one of jsonPatch, mergePatch, increment, append.",
  toolset: "values",
  operation: "state:write",
  resource: resourceOf,
  effects: { ...WRITES, destructive: true },
  input: () => ({ key: key(), ...inScope(), ...change(), ifRev: ifRev(), ...fenced() }),
  output: () => ({ entry: entry().extend({ value: fields.json().exactOptional() }) }),
  untrusted: ["entry.value"],
  async handle({ values }, input, { call }) {
    const { entry, value } = await values.patch(call, input);
    return { entry: value === undefined ? entry : { ...entry, value } };
  },
});
