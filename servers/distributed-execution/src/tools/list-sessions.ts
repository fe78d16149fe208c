import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { session, sessionView } from "./session-views.ts";

/** As many fit into an answer. */
const SESSIONS_SHOWN_MAX = 50;

export const listSessions = defineTool({
  name: "list_sessions",
  title: "List your sessions",
  description: "Shows your sessions, the latest first: open ones, and why those of the last day are over.",
  toolset: "sessions",
  operation: "session:read",
  resource: () => "session/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({ sessions: z.array(session()), nextCursor: fields.nextCursor() }),
  async handle({ sessions }, { limit = SESSIONS_SHOWN_MAX, cursor }, { call }) {
    const listed = await sessions.list(call, { limit: Math.min(limit, SESSIONS_SHOWN_MAX), cursor });
    const now = await call.store.now();
    return { ...listed, sessions: listed.sessions.map((one) => sessionView(one, now)) };
  },
});
