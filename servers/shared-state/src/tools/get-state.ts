import { SwarmError, VALUE_BYTES_MAX } from "@mcp-swarm/core";
import { ANSWER_BYTES_MAX, cut, fields, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { POINTER_MAX, textAt } from "../patching.ts";
import { defineTool } from "./define.ts";
import { entry, inScope, key, optionalRev, resourceOf } from "./state-schemas.ts";

/** Bytes of a value that is answered whole; the rest of the answer is for what is known of it. */
const WHOLE_BYTES_MAX = ANSWER_BYTES_MAX - 3_000;
/** Characters of one part at scale 1; a part shrinks until the answer fits. */
const PART_CHARS = 4_200;

export const getState = defineTool({
  name: "get_state",
  title: "Read a value",
  description: "Reads a value and its rev, now or as of an earlier revision. A long value comes in parts: go on with nextOffset.",
  toolset: "values",
  operation: "state:read",
  resource: resourceOf,
  effects: READS,
  input: () => ({
    key: key(),
    ...inScope(),
    atRev: optionalRev(),
    path: z.string().max(POINTER_MAX).exactOptional().describe("JSON pointer to a part of it"),
    offset: fields.whole(0, VALUE_BYTES_MAX).exactOptional(),
  }),
  output: () => ({
    entry: entry().extend({ value: fields.json().exactOptional() }),
    part: z
      .object({
        path: z.string().exactOptional(),
        of: z.enum(["string", "json"]),
        text: z.string(),
        offset: z.number(),
        chars: z.number(),
        nextOffset: z.number().exactOptional(),
        readOn: z.string().exactOptional(),
      })
      .exactOptional(),
  }),
  untrusted: ["entry.value", "part.text"],
  async handle({ values }, { path, offset, ...input }, { call }) {
    const found = await values.get(call, input);
    const { value, text } = textAt(found.value, path);
    if (offset === undefined && Buffer.byteLength(JSON.stringify(value)) <= WHOLE_BYTES_MAX) {
      return { entry: { ...found.entry, value } };
    }
    const from = offset ?? 0;
    if (from > text.length) {
      throw new SwarmError("invalid_argument", `Field offset: the text has ${text.length} characters.`);
    }
    const of = typeof value === "string" ? ("string" as const) : ("json" as const);
    return shrinkToFit((scale) => {
      const part = cut(text.slice(from), Math.ceil(PART_CHARS * scale)).text;
      const end = from + part.length;
      const rest =
        end < text.length ? { nextOffset: end, readOn: readOn({ ...input, atRev: found.entry.rev, path, offset: end }) } : {};
      return {
        entry: found.entry,
        part: { ...(path === undefined ? {} : { path }), of, text: part, offset: from, chars: text.length, ...rest },
      };
    });
  },
});

/** The call that reads the next part, of this very revision. */
function readOn(args: Record<string, string | number | undefined>): string {
  return `get_state ${JSON.stringify(args)}`;
}
