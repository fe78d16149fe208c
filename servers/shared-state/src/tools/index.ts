import type { Tool } from "@mcp-swarm/server";
import type { StateServer } from "../open.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<StateServer>[] = [];
