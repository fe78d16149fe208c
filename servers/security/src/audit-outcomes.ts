import type { Outcome } from "@mcp-swarm/identity/audit";

/** What an entry of the audit log can be: named here, so that listing the tools does not load the log. */
export const OUTCOMES = ["permit", "deny", "authenticated", "refused", "administered"] as const satisfies readonly Outcome[];
