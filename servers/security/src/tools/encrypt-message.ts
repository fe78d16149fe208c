import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

/** Most recipients of one envelope: their parts of it have to fit an answer. */
const RECIPIENTS_MAX = 20;

export const encryptMessage = defineTool({
  name: "encrypt_message",
  title: "Encrypt a message",
  description: "Signs a payload as you and seals it, so that only the recipients can read it, whoever carries it.",
  toolset: "messages",
  operation: "message:seal",
  resource: ({ recipients }) => (recipients.length === 1 ? `inbox/${recipients[0]}` : "inbox/*"),
  effects: READS,
  input: () => ({
    payload: fields.json(),
    recipients: z.array(fields.agentId()).min(1).max(RECIPIENTS_MAX),
  }),
  output: () => ({ sealed: z.string() }),
  async handle({ secured }, input, { call }) {
    return { sealed: await secured.envelopes.seal(call, input) };
  },
});
