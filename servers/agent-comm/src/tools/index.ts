import type { Tool } from "@mcp-swarm/server";
import type { CommServer } from "../open.ts";
import { acknowledgeMessages } from "./acknowledge-messages.ts";
import { broadcastMessage } from "./broadcast-message.ts";
import { getAgentConfiguration } from "./get-agent-configuration.ts";
import { getAgentStatus } from "./get-agent-status.ts";
import { getMessage } from "./get-message.ts";
import { getMessages } from "./get-messages.ts";
import { getThread } from "./get-thread.ts";
import { listAgents } from "./list-agents.ts";
import { listDeadLetters } from "./list-dead-letters.ts";
import { listSubscriptions } from "./list-subscriptions.ts";
import { listTopics } from "./list-topics.ts";
import { markOverdue } from "./mark-overdue.ts";
import { redeliverMessages } from "./redeliver-messages.ts";
import { registerAgent } from "./register-agent.ts";
import { requestReply } from "./request-reply.ts";
import { searchMessages } from "./search-messages.ts";
import { sendMessage } from "./send-message.ts";
import { subscribe } from "./subscribe.ts";
import { unregisterAgent } from "./unregister-agent.ts";
import { unsubscribe } from "./unsubscribe.ts";
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
  sendMessage,
  getMessages,
  acknowledgeMessages,
  requestReply,
  getMessage,
  listDeadLetters,
  redeliverMessages,
  markOverdue,
  broadcastMessage,
  subscribe,
  listSubscriptions,
  unsubscribe,
  listTopics,
  getThread,
  searchMessages,
];
