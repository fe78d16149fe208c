import type { Tool } from "@mcp-swarm/server";
import type { DistributedExecution } from "../open.ts";

export const tools: readonly Tool<DistributedExecution>[] = [];
