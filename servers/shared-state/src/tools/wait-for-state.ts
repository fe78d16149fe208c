import { fields, fit, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { positionCursor, type ShownValue, type StateChange } from "../changes.ts";
import { defineTool } from "./define.ts";
import { inScope, key, optionalRev, prefix, resourceOf, subscriptionId } from "./state-schemas.ts";

/** Characters of a value's JSON that stands in an answer, at scale 1. */
const VALUE_CHARS = 600;
const CHANGES_BYTES = 17_500;

export const waitForState = defineTool({
  name: "wait_for_state",
  title: "Wait for changes",
  description:
    "Answers the changes since sinceRev, and waits for one when there are none. Call again with sinceRev nextRev (or cursor nextCursor): none is missed.",
  toolset: "values",
  operation: "state:read",
  // what a subscription is about is judged as well when it is found
  resource: ({ subscriptionId, ...place }, caller) =>
    subscriptionId === undefined ? resourceOf(place, caller) : `subscription/${subscriptionId}`,
  effects: READS,
  input: () => ({
    key: key().exactOptional(),
    prefix: prefix(),
    ...inScope(),
    subscriptionId: subscriptionId().exactOptional(),
    sinceRev: optionalRev().describe("Default: now, or the acknowledged rev"),
    cursor: fields.cursor(),
    waitMs: fields.waitMs(),
    limit: fields.limit(),
  }),
  output: () => ({
    changes: z.array(
      z.object({
        key: z.string(),
        rev: z.number(),
        op: z.enum(["set", "delete", "expire"]),
        value: fields.json().exactOptional(),
        valueBytes: z.number().exactOptional(),
        oldValue: fields.json().exactOptional(),
        oldValueBytes: z.number().exactOptional(),
        by: z.string(),
        verified: z.boolean(),
        at: z.number(),
      }),
    ),
    revision: z.number(),
    nextRev: z.number(),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["changes[].value", "changes[].oldValue"],
  async handle({ changes }, input, { call, signal, progress }) {
    const found = await changes.wait(call, input, {
      signal,
      onProgress: (waitedMs) => progress(`No change yet after ${Math.round(waitedMs / 1_000)} s`),
    });
    return shrinkToFit((scale) => {
      const shown = fit(
        found.changes.map((change) => changeView(change, scale)),
        CHANGES_BYTES,
      );
      const next = found.nextAfter(shown.length);
      return {
        changes: shown,
        revision: found.revision,
        nextRev: next.rev,
        ...(next.skip > 0 ? { nextCursor: positionCursor(next) } : {}),
      };
    });
  },
});

function changeView({ key, rev, op, by, verified, at, now, before }: StateChange, scale: number) {
  const value = shown(now, scale);
  const oldValue = shown(before, scale);
  return {
    key,
    rev,
    op,
    ...("value" in value ? { value: value.value } : "bytes" in value ? { valueBytes: value.bytes } : {}),
    ...("value" in oldValue ? { oldValue: oldValue.value } : "bytes" in oldValue ? { oldValueBytes: oldValue.bytes } : {}),
    by,
    verified,
    at,
  };
}

/** A short value as it is, a long one as its length; nothing of one that is no longer kept. */
function shown(value: ShownValue | undefined, scale: number) {
  if (value === undefined || "dropped" in value) return {};
  if ("size" in value) return { bytes: value.size };
  const text = JSON.stringify(value.value);
  return text.length <= VALUE_CHARS * scale ? { value: value.value } : { bytes: Buffer.byteLength(text) };
}
