import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { signature, subagent, voteId } from "./vote-schemas.ts";

export const delegateVote = defineTool({
  name: "delegate_vote",
  title: "Delegate your vote",
  description: "Lets another participant's ballot count for you too, unless you vote yourself. Without to it takes that back.",
  toolset: "votes",
  operation: "vote:delegate",
  resource: (input) => `vote/${input.voteId}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ voteId: voteId(), to: fields.agentId().exactOptional(), signature: signature(), agentId: subagent() }),
  output: () => ({
    delegation: z.object({ voteId: z.string(), voter: z.string(), to: z.string().nullable(), at: z.number() }),
  }),
  async handle({ casting }, input, { call }) {
    return { delegation: await casting.delegate(call, input) };
  },
});
