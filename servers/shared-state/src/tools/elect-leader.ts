import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { CANDIDATE_INFO_MAX } from "../leaders.ts";
import { defineTool } from "./define.ts";
import { group, leader, subagent } from "./lock-schemas.ts";

export const electLeader = defineTool({
  name: "elect_leader",
  title: "Stand for leader",
  description:
    "Makes you a candidate while you live (over HTTP: call again within 5 min) and tells who leads; waitMs waits until you lead. Fence writes with lock leader:<group> and term.",
  toolset: "locks",
  operation: "leader:elect",
  resource: ({ group }) => `leader/${group}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    group: group(),
    waitMs: fields.waitMs(),
    candidateInfo: fields.text(CANDIDATE_INFO_MAX).exactOptional(),
    agentId: subagent(),
  }),
  output: () => ({ leader: leader(), candidates: z.number() }),
  untrusted: ["leader.info"],
  async handle({ leaders }, { waitMs = 0, ...input }, { call, signal, progress }) {
    return await leaders.elect(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`Another leads, ${Math.round(waitedMs / 1_000)} s`),
    });
  },
});
