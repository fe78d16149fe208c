import { packageVersion, type ServerDefinition } from "@mcp-swarm/server";
import { openStateServer, type StateServer } from "./open.ts";
import { stateResource } from "./resources/state.ts";
import { stateSweepers } from "./state-retention.ts";
import { tools } from "./tools/index.ts";

export const definition: ServerDefinition<StateServer> = {
  name: "shared-state",
  title: "MCP Swarm: state",
  version: packageVersion(import.meta.url),
  instructions: "",
  toolsets: {
    values: "versioned values, history and changes",
    locks: "locks with fencing tokens, and leaders",
    files: "file reservations",
    context: "what an agent must know, within a budget",
  },
  tools,
  resources: [stateResource],
  sweepers: stateSweepers,
  open: openStateServer,
};
