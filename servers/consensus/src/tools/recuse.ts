import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { RATIONALE_MAX, subagent, voteId } from "./vote-schemas.ts";

export const recuse = defineTool({
  name: "recuse",
  title: "Recuse yourself from a vote",
  description: "Takes you out of those who may vote, for good, with a reason that others read. Only before you have voted.",
  toolset: "votes",
  operation: "vote:recuse",
  resource: (input) => `vote/${input.voteId}`,
  effects: WRITES,
  input: () => ({ voteId: voteId(), reason: fields.text(RATIONALE_MAX), agentId: subagent() }),
  output: () => ({ recusal: z.object({ voteId: z.string(), voter: z.string(), at: z.number() }) }),
  async handle({ casting }, input, { call }) {
    return { recusal: await casting.recuse(call, input) };
  },
});
