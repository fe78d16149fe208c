import { cut, fields, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { resultView, UNTRUSTED_IN_RESULT } from "./views.ts";
import { result, voteId } from "./vote-schemas.ts";

/** The whole of it is in get_vote. */
const REASON_SHOWN_CHARS = 500;

export const getResult = defineTool({
  name: "get_result",
  title: "Read a vote's result",
  description:
    "What came of a vote, with each step of the count. Waits up to waitMs for its end, or the time to reveal; else result is null.",
  toolset: "votes",
  operation: "vote:read",
  resource: (input) => `vote/${input.voteId}`,
  effects: READS,
  input: () => ({ voteId: voteId(), waitMs: fields.waitMs() }),
  output: () => ({
    voteId: z.string(),
    status: z.enum(["open", "revealing", "closed", "cancelled"]),
    closesAt: z.number(),
    revealUntil: z.number().exactOptional(),
    reason: z.string().exactOptional(),
    result: result().nullable(),
  }),
  untrusted: UNTRUSTED_IN_RESULT,
  async handle({ results }, { waitMs = 0, ...input }, { call, signal, progress }) {
    const {
      record,
      state,
      status,
      result: found,
    } = await results.get(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`Still open after ${Math.round(waitedMs / 1_000)} s`),
    });
    const where = {
      ...{ voteId: record.id, status, closesAt: record.closesAt },
      ...(state?.revealUntil === undefined ? {} : { revealUntil: state.revealUntil }),
      ...(state?.reason === undefined ? {} : { reason: cut(state.reason, REASON_SHOWN_CHARS).text }),
    };
    return shrinkToFit((scale) => ({ ...where, result: found ? resultView(found, scale) : null }));
  },
});
