import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { inScope, listedEntry, listedView, policy, policyView, prefix, resourceOf } from "./state-schemas.ts";

/** Bytes for policies, and for entries. */
const POLICIES_BYTES = 3_000;
const ENTRIES_BYTES = 15_000;

export const listState = defineTool({
  name: "list_state",
  title: "List keys",
  description:
    "Lists keys that begin with prefix, with short values. Wait for changes from the revision it answers and you miss none.",
  toolset: "values",
  operation: "state:read",
  resource: resourceOf,
  effects: READS,
  input: () => ({ prefix: prefix(), ...inScope(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    entries: z.array(listedEntry()),
    revision: z.number(),
    policies: z.array(policy()).exactOptional(),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["entries[].value", "entries[].preview"],
  async handle({ values }, input, { call }) {
    const listing = await values.list(call, input);
    const entries = fit(
      listing.entries.map((one) => listedView(one)),
      ENTRIES_BYTES,
    );
    const last = entries.at(-1);
    const nextCursor = last && entries.length < listing.entries.length ? listing.cursorBehind(last.key) : listing.nextCursor;
    const policies = input.cursor === undefined ? fit(listing.policies.map(policyView), POLICIES_BYTES) : [];
    return {
      entries,
      revision: listing.revision,
      ...(policies.length === 0 ? {} : { policies }),
      ...(nextCursor === undefined ? {} : { nextCursor }),
    };
  },
});
