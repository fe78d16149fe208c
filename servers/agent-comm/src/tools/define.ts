import { toolsFor } from "@mcp-swarm/server";
import type { CommServer } from "../open.ts";

/** `defineTool` for the tools of this server. */
export const defineTool = toolsFor<CommServer>();
