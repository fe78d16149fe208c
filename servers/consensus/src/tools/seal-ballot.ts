import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { choice, subagent, voteId } from "./vote-schemas.ts";

export const sealBallot = defineTool({
  name: "seal_ballot",
  title: "Seal a choice",
  description:
    "Makes a commitment of your choice for a sealed vote, and what opens it. Nothing is written: cast the commitment, keep the opening.",
  toolset: "sealed",
  operation: "vote:read",
  resource: (input) => `vote/${input.voteId}`,
  effects: READS,
  input: () => ({
    voteId: voteId(),
    choice: fields.namedOnly(z.strictObject(choice()).describe("As in cast_vote")),
    agentId: subagent(),
  }),
  output: () => ({ voteId: z.string(), voter: z.string(), commitment: z.string(), opening: z.string() }),
  untrusted: ["opening"], // it names options
  async handle({ casting }, input, { call }) {
    const { choice: said, ...of } = input;
    const { nonce, choice: sealed, ...made } = await casting.seal(call, { ...of, ...said });
    return { ...made, opening: JSON.stringify({ nonce, ...sealed }) };
  },
});
