/** Where messages are found: the keys that other servers read too. agent-comm writes them, and has the tables of all its keys. */
import { segment } from "@mcp-swarm/store";

export const messageKey = (id: string): string => `msg/${segment(id)}`;
export const deliveryKey = (agentId: string, id: string): string => `delivery/${segment(agentId)}/${segment(id)}`;
/** The messages of a thread in the order in which they were sent: Pointer. */
export const threadPrefix = (correlationId: string): string => `thread/${segment(correlationId)}/`;
/** Of an agent that registered or told its status. */
export const agentKey = (agentId: string): string => `agent/${segment(agentId)}`;
