import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { castBallot, opening, rationale, readOpening, subagent, voteId } from "./vote-schemas.ts";

export const revealVote = defineTool({
  name: "reveal_vote",
  title: "Reveal a sealed ballot",
  description:
    "Opens your commitment once the status is revealing. The server process that sealed it knows the opening; any other must be given it.",
  toolset: "sealed",
  operation: "vote:cast",
  resource: (input) => `vote/${input.voteId}`,
  effects: WRITES,
  input: () => ({ voteId: voteId(), opening: opening().exactOptional(), rationale: rationale(), agentId: subagent() }),
  output: () => ({ ballot: castBallot() }),
  async handle({ casting }, { opening: given, ...of }, { call }) {
    return { ballot: await casting.reveal(call, { ...of, ...(given === undefined ? {} : readOpening(given)) }) };
  },
});
