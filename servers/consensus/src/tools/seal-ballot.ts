import { READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { choice, subagent, voteId } from "./vote-schemas.ts";

export const sealBallot = defineTool({
  name: "seal_ballot",
  title: "Seal a choice",
  description:
    "Makes a commitment and a nonce of your choice for a sealed vote; nothing is written. Keep the nonce, cast the commitment.",
  toolset: "votes",
  operation: "vote:read",
  resource: (input) => `vote/${input.voteId}`,
  effects: READS,
  input: () => ({ voteId: voteId(), ...choice(), agentId: subagent() }),
  output: () => ({ voteId: z.string(), voter: z.string(), commitment: z.string(), nonce: z.string() }),
  async handle({ casting }, input, { call }) {
    return await casting.seal(call, input);
  },
});
