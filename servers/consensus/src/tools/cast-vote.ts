import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { castBallot, choice, hex, rationale, signature, subagent, voteId } from "./vote-schemas.ts";

export const castVote = defineTool({
  name: "cast_vote",
  title: "Cast your ballot",
  description:
    "Casts your ballot: vote, ranking or scores, as the vote's method asks; of a sealed vote the commitment that seal_ballot made.",
  toolset: "votes",
  operation: "vote:cast",
  resource: (input) => `vote/${input.voteId}`,
  effects: WRITES,
  input: () => ({
    voteId: voteId(),
    ...choice(),
    rationale: rationale(),
    commitment: hex().exactOptional(),
    signature: signature(),
    agentId: subagent(),
  }),
  output: () => ({ ballot: castBallot() }),
  async handle({ casting }, input, { call }) {
    return { ballot: await casting.cast(call, input) };
  },
});
