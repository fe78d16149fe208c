import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { TRANSACT_KEYS_MAX } from "../state-record.ts";
import { defineTool } from "./define.ts";
import { change, fenced, ifRev, inScope, key, place, ttlMs } from "./state-schemas.ts";

/** Of a transaction that wrote more keys, the answer names the first ones. */
const ENTRIES_SHOWN = 50;

export const transactState = defineTool({
  name: "transact_state",
  title: "Write several keys at once",
  description:
    "Checks and writes up to 100 keys: all or nothing. A check has ifRev, exists or equals; a write value, delete, or a change as in patch_state.",
  toolset: "values",
  operation: "state:write",
  resource: () => "state/*",
  effects: { ...WRITES, destructive: true },
  input: () => ({
    checks: z
      .array(
        fields.namedOnly(
          z.strictObject({
            key: key(),
            ...inScope(),
            ifRev: ifRev(),
            exists: z.boolean().exactOptional(),
            equals: fields.json().exactOptional(),
          }),
        ),
      )
      .max(TRANSACT_KEYS_MAX)
      .exactOptional(),
    writes: z
      .array(
        fields.namedOnly(
          z.strictObject({
            key: key(),
            ...inScope(),
            value: fields.json().exactOptional(),
            delete: z.literal(true).exactOptional(),
            ttlMs: ttlMs(),
            ...change(),
          }),
        ),
      )
      .min(1)
      .max(TRANSACT_KEYS_MAX),
    ...fenced(),
  }),
  output: () => ({
    entries: z.array(
      z.object({ ...place(), rev: z.number(), version: z.number().exactOptional(), deleted: z.literal(true).exactOptional() }),
    ),
    moreEntries: z.number().exactOptional(),
  }),
  async handle({ values }, input, { call }) {
    const { entries } = await values.transact(call, input);
    const more = entries.length - ENTRIES_SHOWN;
    return {
      entries: entries.slice(0, ENTRIES_SHOWN).map((one) => {
        const { key, scope, scopeId, rev } = one;
        const of = { key, scope, ...(scopeId === undefined ? {} : { scopeId }), rev };
        return "deleted" in one ? { ...of, deleted: true as const } : { ...of, version: one.version };
      }),
      ...(more > 0 ? { moreEntries: more } : {}),
    };
  },
});
