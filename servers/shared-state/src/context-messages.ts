/** A conversation as sources of a context, read where agent-comm keeps it. */
import {
  type Held,
  type MessageRecord,
  mayRead,
  messagesOf,
  type Pointer,
  type ReadsTopic,
  threadPrefix,
} from "@mcp-swarm/coordination/messages";
import { SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";
import type { Source, Sources } from "./context-source.ts";

/** Most messages of a conversation that are looked at, the newest first, and how many are read at once. */
const LOOKED_AT_MAX = 500;
const MESSAGES_AT_ONCE = 20;
/** Characters of JSON of payloads that one context reads. */
const PAYLOAD_CHARS_MAX = 2_000_000;
/** From the newest to the oldest. */
const WEIGHTS = { newest: 3, oldest: 1 } as const;

/** What the caller sent, got, or may read of topics; of a conversation of others, and what is held back, nothing. @throws SwarmError not_found */
export async function messageSources(
  { store, caller }: Pick<Call, "store" | "caller">,
  correlationId: string,
  held?: Held,
  readsTopic?: ReadsTopic,
): Promise<Sources> {
  const rows = await store.scan(prefixRange(threadPrefix(correlationId), LOOKED_AT_MAX + 1, { reverse: true }));
  const pointers = rows.slice(0, LOOKED_AT_MAX).map(({ value }) => value as Pointer);
  const readable = await mayRead(store, caller.agentId, pointers, held, readsTopic);
  const own = pointers.filter((_, at) => readable[at]);
  const found: MessageRecord[] = [];
  let chars = 0;
  let read = 0;
  while (read < own.length && chars < PAYLOAD_CHARS_MAX) {
    const messages = await messagesOf(store, own.slice(read, read + MESSAGES_AT_ONCE));
    read += MESSAGES_AT_ONCE;
    found.push(...messages);
    chars += messages.reduce((sum, { payload }) => sum + JSON.stringify(payload).length, 0);
  }
  if (found.length === 0) {
    throw new SwarmError("not_found", "There is no such conversation of yours.", {
      hint: "correlationId is that of a message that you sent or got.",
    });
  }
  const step = (WEIGHTS.newest - WEIGHTS.oldest) / found.length;
  const sources = found.map((message, at) => sourceOf(message, WEIGHTS.newest - at * step));
  if (read >= own.length && rows.length <= LOOKED_AT_MAX) return { sources, unread: [] };
  const readOn = `get_thread ${JSON.stringify({ correlationId })}`;
  return { sources, unread: [{ what: "older messages", why: "one context reads a bounded number of messages", readOn }] };
}

function sourceOf(
  { id, from, sentAt, messageType, audience, payload, replyTo, encrypted }: MessageRecord,
  weight: number,
): Source {
  return {
    kind: "message",
    id,
    reading: 'get_message {"messageId":"<id>"}',
    facts: {
      from,
      ...(audience.name === undefined ? { to: audience.kind } : { to: `${audience.kind}:${audience.name}` }),
      messageType,
      sentAt,
      ...(replyTo === undefined ? {} : { replyTo }),
      ...(encrypted ? { encrypted } : {}),
    },
    weight,
    // what is sealed only the reader's own server of messages opens
    parts: encrypted
      ? []
      : [{ name: "payload", value: payload, readOn: (offset) => `get_message {"messageId":"${id}","offset":${offset}}` }],
  };
}
