import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { castBallot, choice, hex, rationale, subagent, voteId } from "./vote-schemas.ts";

export const revealVote = defineTool({
  name: "reveal_vote",
  title: "Reveal a sealed ballot",
  description:
    "Opens your commitment once the status is revealing. The process that sealed it knows choice and nonce; else give both.",
  toolset: "votes",
  operation: "vote:cast",
  resource: (input) => `vote/${input.voteId}`,
  effects: WRITES,
  input: () => ({ voteId: voteId(), nonce: hex().exactOptional(), ...choice(), rationale: rationale(), agentId: subagent() }),
  output: () => ({ ballot: castBallot() }),
  async handle({ casting }, input, { call }) {
    return { ballot: await casting.reveal(call, input) };
  },
});
