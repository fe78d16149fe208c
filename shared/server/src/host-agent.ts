import { readFileSync } from "node:fs";
import { systemRandom } from "@mcp-swarm/core";
import { type Caller, checkAgentId, deriveAgentId } from "@mcp-swarm/identity";
import type { Config } from "./config.ts";

/** Who calls over this process's stdin, as its environment says. */
type HostAgent = Pick<Caller, "agentId" | "verified">;

/**
 * The agent whose host started this process: the one of its key file, or the one that the environment names, which nothing
 * proves. The guard lets nobody in under the name of a key file before it has checked the key.
 */
export function hostAgent(config: Pick<Config, "keyFile" | "agentId" | "hostSessionId">): () => HostAgent {
  let known: HostAgent | undefined;
  return () => {
    if (known) return known;
    const agentId = config.keyFile === undefined ? undefined : agentOf(config.keyFile);
    if (agentId !== undefined) {
      known = { agentId, verified: true };
      return known;
    }
    const env = { SWARM_AGENT: config.agentId, CLAUDE_CODE_SESSION_ID: config.hostSessionId };
    const unproven = { agentId: deriveAgentId({ env, random: systemRandom }), verified: false };
    if (config.keyFile === undefined) known = unproven; // a key file that cannot be read now is looked at again
    return unproven;
  };
}

/** The agent that a key file names; undefined for a file that is none, of which every call says what is wrong with it. */
function agentOf(keyFile: string): string | undefined {
  try {
    const { agentId } = JSON.parse(readFileSync(keyFile, "utf8")) as { agentId?: unknown };
    return typeof agentId === "string" ? checkAgentId(agentId) : undefined;
  } catch {
    return undefined;
  }
}
