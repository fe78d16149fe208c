import { READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { voteId } from "./vote-schemas.ts";

export const verifyResult = defineTool({
  name: "verify_result",
  title: "Verify a vote's result",
  description:
    "Computes a result again from proposal, ballots and signatures; checks say what does not hold, difference where it differs.",
  toolset: "results",
  operation: "vote:read",
  resource: (input) => `vote/${input.voteId}`,
  effects: READS,
  input: () => ({ voteId: voteId() }),
  output: () => ({
    voteId: z.string(),
    verified: z.boolean(),
    checks: z.array(z.object({ what: z.enum(["proposal", "ballots", "end", "tally", "record", "signature"]), ok: z.boolean() })),
    difference: z.string().exactOptional(),
  }),
  untrusted: ["difference"],
  async handle({ results }, input, { call }) {
    const { checks, ...verified } = await results.verify(call, input);
    return { ...verified, checks: checks.map((check) => ({ ...check })) };
  },
});
