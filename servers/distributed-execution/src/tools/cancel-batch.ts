import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { mintedId } from "./schemas.ts";

export const cancelBatch = defineTool({
  name: "cancel_batch",
  title: "Cancel a batch",
  description: "Cancels all that has not ended of a batch of yours: what waits at once, what runs is killed.",
  toolset: "batches",
  operation: "execution:cancel",
  resource: ({ batchId }) => `batch/${batchId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({ batchId: mintedId() }),
  output: () => ({ open: z.number() }),
  async handle({ batches }, input, { call }) {
    return await batches.cancel(call, input);
  },
});
