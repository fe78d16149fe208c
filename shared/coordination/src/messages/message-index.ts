/**
 * Where a message is found besides in inboxes.
 *
 * | key | value | why |
 * |---|---|---|
 * | `thread/<correlationId>/<order>/<msg>` | Pointer | the messages of a thread in the order in which they were sent |
 * | `text/<order>/<msg>` | TextRow | the words of a message, which the store indexes, and who may find them |
 */
import type { Json } from "@mcp-swarm/core";
import { searchable, segment, TEXT_LENGTH_MAX, TEXT_NAMESPACE, type Transaction } from "@mcp-swarm/store";
import { type Pointer, pointerTo } from "./message-finding.ts";
import { threadPrefix } from "./message-keys.ts";
import { lifeOf } from "./message-layer.ts";
import type { MessageRecord } from "./message-record.ts";

export type TextRow = Pointer & ReturnType<typeof searchable>;

/** In the transaction that writes the message. */
export function indexMessage(tx: Transaction, message: MessageRecord): void {
  const place = `${message.order}/${segment(message.id)}`; // an order begins with the time
  const life = { ttlMs: lifeOf(tx, message) };
  const pointer = pointerTo(message);
  tx.put(`${threadPrefix(message.correlationId)}${place}`, { ...pointer }, life);
  const row: TextRow = { ...pointer, ...searchable(textOf(message), scopesOf(message)) };
  tx.put(`${TEXT_NAMESPACE}/${place}`, row, life);
}

/** One scope for each way in which a message may be asked for. */
function scopesOf({ from, audience: { kind, name } }: MessageRecord): string[] {
  const way = kind === "agent" ? `to:${name}` : kind === "topic" ? "topic" : "broadcast";
  return [`from:${from}`, way, `from:${from} ${way}`];
}

/** Its type and the strings in its payload, about as much as is searched; what is sealed has no words. */
function textOf({ messageType, payload, encrypted }: MessageRecord): string {
  return encrypted ? messageType : withStrings(messageType, payload);
}

/** Input is checked for its depth before it comes here. */
function withStrings(text: string, value: Json | undefined): string {
  if (typeof value === "string") return `${text}\n${value.slice(0, TEXT_LENGTH_MAX)}`;
  if (typeof value !== "object" || value === null) return text;
  let all = text;
  for (const member of Object.values(value)) {
    if (all.length >= TEXT_LENGTH_MAX) break;
    all = withStrings(all, member);
  }
  return all;
}
