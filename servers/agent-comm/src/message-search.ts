/**
 * Search for messages by their words. The store looks in scopes alone. A message has one for each way in which it may be asked for;
 * only of a broadcast to inboxes the receivers are too many to stand in it, so whoever finds one is asked whether it got it.
 */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import {
  type Held,
  LOOKED_AT_MAX,
  mayRead,
  messagesOf,
  type Pointer,
  type ReadsTopic,
  type TextRow,
} from "@mcp-swarm/coordination/messages";
import { type Call, checkAgentId, speakAs } from "@mcp-swarm/identity";
import { type Entry, fromOrdered, holdsPhrases, ordered, phrasesOf, TEXT_NAMESPACE } from "@mcp-swarm/store";
import type { MessagePage } from "./threads.ts";

/** Hits asked of the store at once. */
const PAGE = 50;

const TEXT_PREFIX = `${TEXT_NAMESPACE}/`;
const SENT_AT_DIGITS = ordered(0).length;

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
  readonly #held: Held | undefined;
  readonly #readsTopic: ReadsTopic | undefined;

  constructor({ held, readsTopic }: { held?: Held | undefined; readsTopic?: ReadsTopic | undefined } = {}) {
    this.#held = held;
    this.#readsTopic = readsTopic;
  }

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
      const readable = await mayRead(store, reader, rows, this.#held, this.#readsTopic);
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
