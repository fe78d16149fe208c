/** The cheapest read of each server that goes to the store, and that of the bare server. */
import type { ServerName } from "./servers.ts";

export interface ToolCall {
  tool: string;
  args: Record<string, unknown>;
}

export const READS: Readonly<Record<ServerName, ToolCall>> = {
  "task-coordination": { tool: "get_workers", args: {} },
  "agent-comm": { tool: "list_subscriptions", args: {} },
  "shared-state": { tool: "list_locks", args: {} },
  consensus: { tool: "list_active_votes", args: { ended: true } },
  "distributed-execution": { tool: "list_sessions", args: {} },
};

export const ECHO: ToolCall = { tool: "echo", args: { text: "hello" } };
