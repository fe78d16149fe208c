import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { REPLY_WAIT_MS_DEFAULT } from "../requests.ts";
import { defineTool } from "./define.ts";
import { aheadMs, encrypt, messageView, priority, speaker, target } from "./message-schemas.ts";
import { view } from "./message-views.ts";

export const requestReply = defineTool({
  name: "request_reply",
  title: "Ask an agent and wait",
  description:
    "Sends a request and waits for the answer, which it acknowledges. A late answer comes to your inbox; repeat with the same idempotencyKey to wait on.",
  toolset: "messages",
  operation: "message:send",
  resource: ({ targetAgent }) => `inbox/${targetAgent}`,
  effects: WRITES,
  secretInput: ({ encrypt }) => (encrypt ? ["payload"] : []),
  input: () => ({
    targetAgent: target(),
    payload: fields.json(),
    messageType: fields.label().exactOptional(),
    priority: priority(),
    ttlMs: aheadMs(),
    waitMs: fields.waitMs().describe("Default 30 s"),
    encrypt: encrypt(),
    mailbox: z.boolean().exactOptional(),
    agentId: speaker(),
  }),
  output: () => ({ requestId: z.string(), reply: messageView() }),
  untrusted: ["reply.payload"],
  async handle({ requests, envelopes }, { waitMs = REPLY_WAIT_MS_DEFAULT, ...input }, { call, caller, signal, progress }) {
    const { requestId, reply } = await requests.ask(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`No reply yet after ${Math.round(waitedMs / 1_000)} s`),
    });
    return { requestId, reply: view(await envelopes.openOne(caller, reply), {}) };
  },
});
