import { packageVersion, type ServerDefinition } from "@mcp-swarm/server";
import { executionSweepers } from "./execution-retention.ts";
import { type DistributedExecution, openDistributedExecution } from "./open.ts";
import { tools } from "./tools/index.ts";

export const definition: ServerDefinition<DistributedExecution> = {
  name: "distributed-execution",
  title: "MCP Swarm: code execution",
  version: packageVersion(import.meta.url),
  instructions: "Code of the agents that work here, run in sandboxes on whichever machine has room.",
  toolsets: {
    tasks: "hand over code, wait for it, read what came out, cancel",
    batches: "many tasks at once, with dependencies, and one result of all",
    environments: "what code can run in, and how well it is kept in",
    sessions: "state kept between tasks of one agent",
  },
  tools,
  sweepers: executionSweepers,
  commands: async (host) => (await import("./commands/index.ts")).commands(host),
  open: openDistributedExecution,
};
