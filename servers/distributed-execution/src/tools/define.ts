import { toolsFor } from "@mcp-swarm/server";
import type { DistributedExecution } from "../open.ts";

/** `defineTool` for the tools of this server. */
export const defineTool = toolsFor<DistributedExecution>();
