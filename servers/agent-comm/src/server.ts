import { packageVersion, type ServerDefinition } from "@mcp-swarm/server";
import { agentSweeper } from "./agent-retention.ts";
import { type CommServer, openCommServer } from "./open.ts";
import { inboxResource } from "./resources/inbox.ts";
import { inboxChannel } from "./resources/inbox-channel.ts";
import { tools } from "./tools/index.ts";

export const definition: ServerDefinition<CommServer> = {
  name: "agent-comm",
  title: "MCP Swarm: messages",
  version: packageVersion(import.meta.url),
  instructions: "",
  toolsets: {
    agents: "who is there, what each can do and is doing",
    messages: "send, receive, acknowledge, ask and answer",
    topics: "broadcasts, topics and subscriptions",
    threads: "conversations, search and what is overdue",
  },
  tools,
  resources: [inboxResource],
  channel: inboxChannel,
  sweepers: (config) => [agentSweeper(config)],
  open: openCommServer,
};
