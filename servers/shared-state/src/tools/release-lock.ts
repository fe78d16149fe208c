import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { fencingToken, heldLock, lockName, subagent } from "./lock-schemas.ts";

export const releaseLock = defineTool({
  name: "release_lock",
  title: "Release a lock",
  description: "Gives a lock back as soon as you are done; whoever is first in line has it next.",
  toolset: "locks",
  operation: "lock:release",
  resource: ({ name }) => `lock/${name}`,
  effects: WRITES,
  input: () => ({ name: lockName(), fencingToken: fencingToken(), agentId: subagent() }),
  output: () => ({ lock: heldLock(), waiting: z.number() }),
  async handle({ locks }, input, { call }) {
    return await locks.release(call, input);
  },
});
