import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { OPTIONS_MAX, WEIGHT_MAX } from "../tally/rule.ts";
import {
  PARTICIPANTS_MAX,
  REVEAL_MS_MAX,
  REVEAL_MS_MIN,
  TIMEOUT_MS_MAX,
  TIMEOUT_MS_MIN,
  VETO_HOLDERS_MAX,
} from "../vote-record.ts";
import { defineTool } from "./define.ts";
import { algorithm, base, method, option } from "./vote-schemas.ts";

export const initiateVote = defineTool({
  name: "initiate_vote",
  title: "Begin a vote",
  description: "Puts a proposal to agents, over yes and no or over options. Nothing of it can be changed later.",
  toolset: "votes",
  operation: "vote:initiate",
  resource: () => "vote/*",
  effects: WRITES,
  input: () => ({
    proposal: fields.json(),
    participants: z.array(fields.agentId()).min(1).max(PARTICIPANTS_MAX),
    algorithm: algorithm().exactOptional().describe("Default majority"),
    method: method().exactOptional().describe("Default simple; of options plurality"),
    options: z.array(option()).min(2).max(OPTIONS_MAX).exactOptional(),
    timeout: fields.whole(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX).exactOptional().describe("Ms, default 300000"),
    threshold: fields.text(9).exactOptional().describe("2/3"),
    base: base().exactOptional(),
    quorum: z
      .union([fields.whole(1, PARTICIPANTS_MAX * WEIGHT_MAX), fields.text(9)])
      .exactOptional()
      .describe("Number or 1/2"),
    weights: z.record(fields.agentId(), fields.whole(1, WEIGHT_MAX)).exactOptional().describe("By agent, for weighted"),
    tieBreak: fields.text(70).exactOptional().describe("co_winners, status_quo or chair:<agent>"),
    vetoHolders: z.array(fields.agentId()).max(VETO_HOLDERS_MAX).exactOptional(),
    sealed: z.boolean().exactOptional().describe("Choices are hidden until the close"),
    revealMs: fields.whole(REVEAL_MS_MIN, REVEAL_MS_MAX).exactOptional(),
    revisable: z.boolean().exactOptional().describe("Ballots may be replaced"),
    trustNames: z.boolean().exactOptional().describe("byzantine in an open swarm"),
  }),
  output: () => ({
    vote: z.object({
      id: z.string(),
      hash: z.string(),
      status: z.literal("open"),
      participants: z.number(),
      startedAt: z.number(),
      closesAt: z.number(),
      told: z.number(),
    }),
  }),
  async handle({ votes }, { timeout, ...input }, { call }) {
    return { vote: await votes.initiate(call, { ...input, ...(timeout === undefined ? {} : { timeoutMs: timeout }) }) };
  },
});
