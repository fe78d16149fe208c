import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { fencingToken, heldLock, lockName, subagent, ttlMs } from "./lock-schemas.ts";

export const renewLock = defineTool({
  name: "renew_lock",
  title: "Renew a lock",
  description:
    "Lets you hold a lock for another ttlMs from now. Before that the server renews its lease by itself, except over HTTP.",
  toolset: "locks",
  operation: "lock:acquire",
  resource: ({ name }) => `lock/${name}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ name: lockName(), ttlMs: ttlMs(), fencingToken: fencingToken(), agentId: subagent() }),
  output: () => ({ lock: heldLock() }),
  async handle({ locks }, input, { call }) {
    return await locks.renew(call, input);
  },
});
