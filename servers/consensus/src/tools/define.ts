import { toolsFor } from "@mcp-swarm/server";
import type { ConsensusServer } from "../open.ts";

/** `defineTool` for the tools of this server. */
export const defineTool = toolsFor<ConsensusServer>();
