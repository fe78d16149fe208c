import { READS, shrinkToFit } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { UNTRUSTED_IN_VOTE, wholeView } from "./views.ts";
import { subagent, voteId, wholeVote } from "./vote-schemas.ts";

export const getVote = defineTool({
  name: "get_vote",
  title: "Read a vote",
  description: "Shows a vote's proposal and settings, where it is, who has not voted and what you did. Read it before you vote.",
  toolset: "votes",
  operation: "vote:read",
  resource: (input) => `vote/${input.voteId}`,
  effects: READS,
  input: () => ({ voteId: voteId(), agentId: subagent() }),
  output: () => ({ vote: wholeVote() }),
  untrusted: UNTRUSTED_IN_VOTE,
  async handle({ votes }, input, { call }) {
    const view = await votes.get(call, input);
    return shrinkToFit((scale) => ({ vote: wholeView(view, Math.min(1, scale)) }));
  },
});
