import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { heldLock, lockName, mode, subagent, ttlMs } from "./lock-schemas.ts";

export const acquireLock = defineTool({
  name: "acquire_lock",
  title: "Acquire a lock",
  description: "Takes a lock, waiting in line up to waitMs. Give its fencingToken with writes; it frees itself when you end.",
  toolset: "locks",
  operation: "lock:acquire",
  resource: ({ name }) => `lock/${name}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    name: lockName(),
    mode: mode().exactOptional(),
    ttlMs: ttlMs().describe("Longest holding; default 600000"),
    waitMs: fields.waitMs(),
    agentId: subagent(),
  }),
  output: () => ({ lock: heldLock(), alreadyHeld: z.boolean() }),
  async handle({ locks }, { waitMs = 0, ...input }, { call, signal, progress }) {
    return await locks.acquire(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`Still in line after ${Math.round(waitedMs / 1_000)} s`),
    });
  },
});
