import { packageVersion, type ServerDefinition } from "@mcp-swarm/server";
import { openSecurityServer, type SecurityServer } from "./open.ts";
import { tools } from "./tools/index.ts";

export const definition: ServerDefinition<SecurityServer> = {
  name: "security",
  title: "MCP Swarm: security",
  version: packageVersion(import.meta.url),
  instructions: `Who may do what in this swarm.`,
  toolsets: {
    identity: "who you are and what you may",
  },
  tools,
  open: openSecurityServer,
};
