import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { SESSION_MS_MAX, SESSION_MS_MIN } from "../session-layer.ts";
import { defineTool } from "./define.ts";
import { environmentName, requires } from "./schemas.ts";
import { session, sessionView } from "./session-views.ts";

export const startSession = defineTool({
  name: "start_session",
  title: "Start a session",
  description:
    "Keeps variables or files between tasks of yours: give its sessionId to submit_task. One runs at a time; a limit hit, a killed task or a lost worker ends it.",
  toolset: "sessions",
  operation: "session:start",
  resource: ({ environment }) => `environment/${environment}`,
  effects: WRITES,
  input: () => ({
    environment: environmentName(),
    ttlMs: z.int().min(SESSION_MS_MIN).max(SESSION_MS_MAX).exactOptional().describe("Life from now on; default 30 min"),
    requires: requires().exactOptional(),
  }),
  output: () => ({ session: session() }),
  async handle({ sessions }, input, { call }) {
    const started = await sessions.start(call, input);
    return { session: sessionView(started, started.createdAt) };
  },
});
