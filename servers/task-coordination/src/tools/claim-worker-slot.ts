import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { workerId } from "./schemas.ts";

export const slot = fields.shared(() =>
  z.object({
    slot: z.number(),
    workerId: z.string(),
    claimedAt: z.number(),
    leaseExpiresAt: z.number(),
    fencingToken: z.number(),
  }),
);

export const claimWorkerSlot = defineTool({
  name: "claim_worker_slot",
  title: "Claim a worker slot",
  description: "Takes one of the limited places for workers, so that not too many work at once. It frees itself when you end.",
  toolset: "slots",
  operation: "slot:claim",
  resource: () => "slot/*",
  effects: WRITES,
  input: () => ({ workerId: workerId() }),
  output: () => ({ slot: slot() }),
  async handle({ slots }, input, { call }) {
    return await slots.claim(call, input);
  },
});
