import type { Tool } from "@mcp-swarm/server";
import type { ConsensusServer } from "../open.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<ConsensusServer>[] = [];
