import { fields, fit, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { batchView, memberResult, resultOf, summary } from "./batch-views.ts";
import { defineTool } from "./define.ts";
import { mintedId } from "./schemas.ts";

/** Bytes for the results of members, beside the summary. */
const RESULTS_BYTES = 11_000;

export const getBatch = defineTool({
  name: "get_batch",
  title: "Read a batch",
  description:
    "Shows how far a batch is, after waitMs or its end: counts, times and slot utilisation, in all and by requirements, failures, and a page of results in brief.",
  toolset: "batches",
  operation: "execution:read",
  resource: ({ batchId }) => `batch/${batchId}`,
  effects: READS,
  input: () => ({ batchId: mintedId(), waitMs: fields.waitMs(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({ batch: batchView(), results: z.array(memberResult()), nextCursor: fields.nextCursor() }),
  untrusted: ["batch.name", "results[].value", "results[].stdout", "results[].stderr"],
  async handle({ batches }, input, { call, signal, progress }) {
    const standing = await batches.get(call, input, {
      signal,
      onProgress: (waitedMs) => progress(`Not all of it has ended after ${Math.round(waitedMs / 1_000)} s`),
    });
    return shrinkToFit((scale) => {
      const results = fit(
        standing.page.map((member) => resultOf(member, scale)),
        RESULTS_BYTES,
      );
      const nextCursor = standing.cursorAfter(results.length - 1);
      return { batch: summary(standing, scale), results, ...(nextCursor === undefined ? {} : { nextCursor }) };
    });
  },
});
