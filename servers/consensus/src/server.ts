import { packageVersion, type ServerDefinition } from "@mcp-swarm/server";
import { type ConsensusServer, openConsensusServer } from "./open.ts";
import { tools } from "./tools/index.ts";

export const definition: ServerDefinition<ConsensusServer> = {
  name: "consensus",
  title: "MCP Swarm: votes",
  version: packageVersion(import.meta.url),
  instructions: `Votes of the agents that work here.`,
  toolsets: {
    votes: "begin, cast, read and check votes",
  },
  tools,
  open: openConsensusServer,
};
