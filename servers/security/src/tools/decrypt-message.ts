import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

/** A little more than `encrypt_message` makes. */
const SEALED_MAX = 20_000;

export const decryptMessage = defineTool({
  name: "decrypt_message",
  title: "Decrypt a message",
  description: "Opens what encrypt_message sealed to you, says who signed it, and refuses it when you have opened it before.",
  toolset: "messages",
  operation: "message:seal",
  resource: () => "inbox/self",
  effects: WRITES,
  input: () => ({ sealed: fields.text(SEALED_MAX) }),
  output: () => ({
    message: z.object({
      id: z.string(),
      from: z.string(),
      to: z.array(z.string()),
      sealedAt: z.number(),
      payload: fields.json(),
    }),
  }),
  untrusted: ["message.payload"],
  async handle({ secured }, { sealed }, { call }) {
    const { to, ...message } = await secured.envelopes.open(call, sealed);
    return { message: { ...message, to: [...to] } };
  },
});
