import { WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { mintedId } from "./schemas.ts";
import { session, sessionView } from "./session-views.ts";

export const endSession = defineTool({
  name: "end_session",
  title: "End a session",
  description: "Ends a session of yours and all it keeps; what has not ended of its tasks fails as session_lost.",
  toolset: "sessions",
  operation: "session:end",
  resource: ({ sessionId }) => `session/${sessionId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({ sessionId: mintedId() }),
  output: () => ({ session: session() }),
  async handle({ sessions }, input, { call }) {
    const ended = await sessions.end(call, input);
    return { session: sessionView(ended, ended.over?.at ?? ended.expiresAt) };
  },
});
