/** The domain of this server at work in one process: what its tools are given. */
import type { Domain, Host } from "@mcp-swarm/server";

export interface DistributedExecution extends Domain {}

export async function openDistributedExecution(_host: Host): Promise<DistributedExecution> {
  return { close: async () => {} };
}
