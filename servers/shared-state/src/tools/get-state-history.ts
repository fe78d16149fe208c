import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { inScope, key, place, previewOf, resourceOf } from "./state-schemas.ts";

export const getStateHistory = defineTool({
  name: "get_state_history",
  title: "Read a key's history",
  description: "Lists the last revisions of a key, newest first: who wrote what and when. get_state with atRev reads one whole.",
  toolset: "values",
  operation: "state:read",
  resource: resourceOf,
  effects: READS,
  input: () => ({ key: key(), ...inScope(), limit: fields.limit() }),
  output: () => ({
    ...place(),
    revisions: z.array(
      z.object({
        rev: z.number(),
        op: z.enum(["set", "delete", "expire"]),
        by: z.string(),
        verified: z.boolean(),
        at: z.number(),
        size: z.number(),
        value: fields.json().exactOptional(),
        preview: z.string().exactOptional(),
      }),
    ),
    olderDropped: z.boolean(),
  }),
  untrusted: ["revisions[].value", "revisions[].preview"],
  async handle({ values }, { limit, ...input }, { call }) {
    const { place, revisions, olderDropped } = await values.history(call, input);
    const shown = revisions.slice(0, limit).map(({ rev, op, by, verified, at, size, value }) => ({
      rev,
      op,
      by,
      verified,
      at,
      size,
      ...previewOf(value),
    }));
    return { key: place.key, ...place.space, revisions: fit(shown), olderDropped };
  },
});
