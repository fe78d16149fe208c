import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { slot } from "./claim-worker-slot.ts";
import { defineTool } from "./define.ts";
import { workerId } from "./schemas.ts";

export const releaseWorkerSlot = defineTool({
  name: "release_worker_slot",
  title: "Release a worker slot",
  description: "Gives back a worker slot that you hold.",
  toolset: "slots",
  operation: "slot:release",
  resource: ({ slot }) => `slot/${slot}`,
  effects: WRITES,
  input: () => ({ slot: z.int().min(1).max(1_000), workerId: workerId() }),
  output: () => ({ slot: slot() }),
  async handle({ slots }, input, { call }) {
    return await slots.release(call, input);
  },
});
