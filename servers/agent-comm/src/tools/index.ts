import type { Tool } from "@mcp-swarm/server";
import type { CommServer } from "../open.ts";
import { getAgentConfiguration } from "./get-agent-configuration.ts";
import { getAgentStatus } from "./get-agent-status.ts";
import { listAgents } from "./list-agents.ts";
import { registerAgent } from "./register-agent.ts";
import { unregisterAgent } from "./unregister-agent.ts";
import { updateAgentConfiguration } from "./update-agent-configuration.ts";
import { updateAgentStatus } from "./update-agent-status.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<CommServer>[] = [
  registerAgent,
  listAgents,
  updateAgentStatus,
  getAgentStatus,
  updateAgentConfiguration,
  getAgentConfiguration,
  unregisterAgent,
];
