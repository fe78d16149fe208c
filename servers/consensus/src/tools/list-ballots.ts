import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { ballotView } from "./views.ts";
import { ballot, voteId } from "./vote-schemas.ts";

export const listBallots = defineTool({
  name: "list_ballots",
  title: "List the ballots of a vote",
  description:
    "Shows who has voted, delegated or recused themselves; what each said, why, and its signature once the vote is closed.",
  toolset: "results",
  operation: "vote:read",
  resource: (input) => `vote/${input.voteId}`,
  effects: READS,
  input: () => ({ voteId: voteId(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({ ballots: z.array(ballot()), nextCursor: fields.nextCursor() }),
  untrusted: ["ballots[].choice", "ballots[].rationale", "ballots[].recused.reason"],
  async handle({ results }, { limit = PAGE_DEFAULT, ...input }, { call }) {
    const page = await results.ballots(call, { ...input, limit });
    const kept = fit(page.rows.map((row) => ballotView(row, 1))).length;
    const shown = kept === page.rows.length ? page : await results.ballots(call, { ...input, limit: kept });
    const { rows, ...rest } = shown;
    return shrinkToFit((scale) => ({ ...rest, ballots: rows.map((row) => ballotView(row, Math.min(1, scale))) }));
  },
});
