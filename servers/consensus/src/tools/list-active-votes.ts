import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { listedView } from "./views.ts";
import { listedVote, subagent } from "./vote-schemas.ts";

export const listActiveVotes = defineTool({
  name: "list_active_votes",
  title: "List votes",
  description: "Shows votes that run, yours first, next to close at the top; you says what you still have to do.",
  toolset: "votes",
  operation: "vote:read",
  resource: () => "vote/*",
  effects: READS,
  input: () => ({
    mine: z.boolean().exactOptional().describe("Only where you may vote"),
    ended: z.boolean().exactOptional().describe("Ended ones instead"),
    agentId: subagent(),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ votes: z.array(listedVote()), nextCursor: fields.nextCursor() }),
  untrusted: ["votes[].proposal"],
  async handle({ votes }, { limit = PAGE_DEFAULT, ...input }, { call }) {
    const page = await votes.list(call, { ...input, limit });
    const shown = page.votes.map(listedView);
    const kept = fit(shown).length;
    if (kept === shown.length) return { ...page, votes: shown };
    const less = await votes.list(call, { ...input, limit: kept });
    return { ...less, votes: less.votes.map(listedView) };
  },
});
