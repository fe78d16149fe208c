import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { RATIONALE_MAX, voteId } from "./vote-schemas.ts";

export const cancelVote = defineTool({
  name: "cancel_vote",
  title: "Cancel a vote",
  description: "Ends a vote of yours without a result.",
  toolset: "votes",
  operation: "vote:cancel",
  resource: (input) => `vote/${input.voteId}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ voteId: voteId(), reason: fields.text(RATIONALE_MAX).exactOptional() }),
  output: () => ({ vote: z.object({ id: z.string(), status: z.literal("cancelled"), at: z.number() }) }),
  async handle({ votes }, input, { call }) {
    const { id, at } = await votes.cancel(call, input);
    return { vote: { id, status: "cancelled" as const, at } };
  },
});
