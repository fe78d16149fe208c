/**
 * Search for messages by their words.
 *
 * | key | value | why |
 * |---|---|---|
 * | `text/<order>/<msg>` | TextRow | the words of a message, which the store indexes, and who may find them |
 *
 * The store looks in scopes alone. A message has one for each way in which it may be asked for; only of a broadcast to inboxes
 * the receivers are too many to stand in it, so whoever finds one is asked whether it got it.
 */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { mayRead, messagesOf, type Pointer, pointerTo } from "@mcp-swarm/coordination/messages";
import type { Json } from "@mcp-swarm/core";
import { type Call, checkAgentId, speakAs } from "@mcp-swarm/identity";
import {
  type Entry,
  fromOrdered,
  holdsPhrases,
  ordered,
  phrasesOf,
  searchable,
  segment,
  TEXT_LENGTH_MAX,
  TEXT_NAMESPACE,
  type Transaction,
} from "@mcp-swarm/store";
import { lifeOf } from "./message-layer.ts";
import { LOOKED_AT_MAX, type MessageRecord } from "./message-record.ts";
import type { MessagePage } from "./threads.ts";

/** Hits asked of the store at once. */
const PAGE = 50;

type TextRow = Pointer & ReturnType<typeof searchable>;

const TEXT_PREFIX = `${TEXT_NAMESPACE}/`;
const SENT_AT_DIGITS = ordered(0).length;

/** In the transaction that writes the message. */
export function indexText(tx: Transaction, message: MessageRecord): void {
  const row: TextRow = { ...pointerTo(message), ...searchable(textOf(message), scopesOf(message)) };
  const key = `${TEXT_PREFIX}${message.order}/${segment(message.id)}`; // an order begins with the time
  tx.put(key, row, { ttlMs: lifeOf(tx, message) });
}

function scopesOf({ from, audience: { kind, name } }: MessageRecord): string[] {
  const way = kind === "agent" ? `to:${name}` : kind === "topic" ? "topic" : "broadcast";
  return [`from:${from}`, way, `from:${from} ${way}`];
}

/** Its type and the strings in its payload, about as much as is searched. */
function textOf({ messageType, payload }: MessageRecord): string {
  return withStrings(messageType, payload);
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

export interface SearchMessages {
  /** Words that a message must hold; those in quotes, or that no space parts, in this order. */
  readonly text: string;
  /** The sender. */
  readonly from?: string | undefined;
  /** Ms since the epoch; nothing that was sent before. */
  readonly since?: number | undefined;
  readonly limit: number;
  readonly cursor?: string | undefined;
  /** A subagent of the caller that searches. */
  readonly agentId?: string | undefined;
}

export class MessageSearch {
  /**
   * Messages that the reader sent or got, and those of topics, newest first.
   * @throws SwarmError invalid_argument (no word in `text`, cursor), permission_denied (of `agentId`)
   */
  async find({ caller, store }: Pick<Call, "caller" | "store">, input: SearchMessages): Promise<MessagePage> {
    const reader = speakAs(caller, input.agentId);
    const from = input.from === undefined ? undefined : checkAgentId(input.from);
    const { text, since = 0, limit } = input;
    const scope = { list: JSON.stringify(["search", reader, text, from ?? 0, since]), prefix: TEXT_PREFIX };
    let before = input.cursor === undefined ? undefined : decodeCursor(scope, input.cursor);
    const phrases = phrasesOf(text);
    const scopes = asked(reader, from);
    const found: Pointer[] = [];
    for (let looked = 0; ; ) {
      const hits = await store.search({ text, scopes, limit: PAGE, ...(before === undefined ? {} : { before }) });
      const recent = hits.filter((hit) => sentAtOf(hit) >= since);
      const rows = recent.map(({ value }) => value as TextRow);
      const readable = await mayRead(store, reader, rows);
      let at = 0;
      for (; at < rows.length && found.length < limit; at++) {
        const row = rows[at];
        if (row && readable[at] && holdsPhrases(row.text, phrases)) found.push(row);
        before = recent[at]?.key;
      }
      looked += at;
      const isEnd = at === rows.length && rows.length < PAGE;
      if (!isEnd && found.length < limit && looked < LOOKED_AT_MAX) continue;
      const messages = await messagesOf(store, found);
      return isEnd || before === undefined ? { messages } : { messages, nextCursor: encodeCursor(scope, before) };
    }
  }
}

/** The scopes of what a reader may find, of all senders or of one. */
function asked(reader: string, from: string | undefined): string[] {
  const ways = [`to:${reader}`, "topic", "broadcast"];
  if (from === undefined) return [`from:${reader}`, ...ways];
  return from === reader ? [`from:${reader}`] : ways.map((way) => `from:${from} ${way}`);
}

function sentAtOf({ key }: Entry): number {
  return fromOrdered(key.slice(TEXT_PREFIX.length, TEXT_PREFIX.length + SENT_AT_DIGITS));
}
