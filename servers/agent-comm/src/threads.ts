/** Threads: all that was said under one correlation id, whoever said it. */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import {
  type Held,
  LOOKED_AT_MAX,
  type MessageRecord,
  mayRead,
  messagesOf,
  type Pointer,
  type ReadsTopic,
  threadPrefix,
} from "@mcp-swarm/coordination/messages";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";

/** Rows read at once. */
const PAGE = 100;

export interface ReadThread {
  readonly correlationId: string;
  readonly limit: number;
  readonly cursor?: string | undefined;
  /** A subagent of the caller that reads. */
  readonly agentId?: string | undefined;
}

export interface MessagePage {
  readonly messages: readonly MessageRecord[];
  /** There may be more. */
  readonly nextCursor?: string;
}

export class Threads {
  readonly #held: Held | undefined;
  readonly #readsTopic: ReadsTopic | undefined;

  constructor({ held, readsTopic }: { held?: Held | undefined; readsTopic?: ReadsTopic | undefined } = {}) {
    this.#held = held;
    this.#readsTopic = readsTopic;
  }

  /**
   * The messages of a thread that the reader sent or got, and those of topics, oldest first. Reading takes nothing from an inbox.
   * A thread of others is empty, as one that nobody began.
   * @throws SwarmError invalid_argument (cursor), permission_denied (of `agentId`)
   */
  async read({ caller, store }: Pick<Call, "caller" | "store">, input: ReadThread): Promise<MessagePage> {
    const reader = speakAs(caller, input.agentId);
    const prefix = threadPrefix(input.correlationId);
    const scope = { list: JSON.stringify(["thread", reader]), prefix };
    let after = input.cursor === undefined ? undefined : decodeCursor(scope, input.cursor);
    const found: Pointer[] = [];
    for (let looked = 0; ; ) {
      const rows = await store.scan(prefixRange(prefix, PAGE, after === undefined ? {} : { after }));
      const pointers = rows.map(({ value }) => value as Pointer);
      const readable = await mayRead(store, reader, pointers, this.#held, this.#readsTopic);
      let at = 0;
      for (; at < rows.length && found.length < input.limit; at++) {
        const pointer = pointers[at];
        if (pointer && readable[at]) found.push(pointer);
        after = rows[at]?.key;
      }
      looked += at;
      const isEnd = at === rows.length && rows.length < PAGE;
      if (!isEnd && found.length < input.limit && looked < LOOKED_AT_MAX) continue;
      const messages = await messagesOf(store, found);
      return isEnd || after === undefined ? { messages } : { messages, nextCursor: encodeCursor(scope, after) };
    }
  }
}
