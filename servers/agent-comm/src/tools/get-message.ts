import { DELIVERY_STATES, SEALED_CHARS_MAX } from "@mcp-swarm/coordination/messages";
import { SwarmError } from "@mcp-swarm/core";
import { ANSWER_BYTES_MAX, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { readMessage } from "../message-reading.ts";
import { defineTool } from "./define.ts";
import { messageId, messageView, reader } from "./message-schemas.ts";
import { beginning, payloadText, view } from "./message-views.ts";

/** Left for what stands around a part of a payload. */
const AROUND_BYTES = 1_000;

export const getMessage = defineTool({
  name: "get_message",
  title: "Read one message",
  description: "Shows a message that you got or sent and what became of it. offset reads on in a cut payload.",
  toolset: "messages",
  operation: "message:read",
  resource: ({ messageId }) => `message/${messageId}`,
  effects: READS,
  input: () => ({
    messageId: messageId(),
    offset: z.int().min(0).max(SEALED_CHARS_MAX).exactOptional(),
    agentId: reader(),
  }),
  output: () => ({
    message: messageView()
      .extend({ status: z.enum(DELIVERY_STATES).exactOptional(), to: z.string().exactOptional() })
      .exactOptional(),
    part: z
      .object({ offset: z.number(), text: z.string(), nextOffset: z.number().exactOptional(), chars: z.number() })
      .exactOptional(),
  }),
  untrusted: ["message.payload", "part.text"],
  async handle({ inbox, envelopes, readsTopic }, { offset, ...input }, { call, caller }) {
    const { message: found, delivery } = await readMessage(call, input, inbox.held, readsTopic);
    const message = await envelopes.openOne(caller, found);
    if (offset === undefined) {
      const became = delivery && { to: delivery.to, status: delivery.state, deliveries: delivery.deliveries };
      return { message: view(message, became ?? {}) };
    }
    const text = payloadText(message.payload); // of one that does not open its sealed text
    if (offset > text.length) {
      throw new SwarmError("invalid_argument", `The payload of message ${message.id} has ${text.length} characters.`, {
        hint: "Use an offset within it.",
      });
    }
    const part = beginning(text.slice(offset), ANSWER_BYTES_MAX - AROUND_BYTES);
    const end = offset + part.length;
    return { part: { offset, text: part, chars: text.length, ...(end < text.length ? { nextOffset: end } : {}) } };
  },
});
