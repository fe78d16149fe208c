/** Messages whose sender asked for an acknowledgement that did not come in time: for those who wait for it and those who owe it. */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import {
  type Delivery,
  deliveryKey,
  type Held,
  type InboxEntry,
  inboxEntry,
  type MessageRecord,
  messageKey,
  messagePrefixes,
} from "@mcp-swarm/coordination/messages";
import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { type Entry, type KeyRange, ordered, type Store } from "@mcp-swarm/store";

export interface ListOverdue {
  readonly agentId?: string | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export interface OverdueMessage {
  readonly message: MessageRecord;
  readonly delivery: Delivery;
  /** What the asking agent is to it; of a message to oneself there are two. */
  readonly role: "receiver" | "sender";
  readonly overdueMs: number;
}

export interface OverduePage {
  readonly messages: readonly OverdueMessage[];
  readonly nextCursor?: string;
}

export class Overdue {
  readonly #held: Held | undefined;

  constructor({ held }: { held?: Held | undefined } = {}) {
    this.#held = held;
  }

  /** What one owes, then what one awaits, each the longest overdue first. @throws SwarmError permission_denied, invalid_argument */
  async list({ caller, store }: Pick<Call, "caller" | "store">, input: ListOverdue = {}): Promise<OverduePage> {
    const agentId = speakAs(caller, input.agentId);
    const { limit = PAGE_DEFAULT, cursor } = input;
    const scope = { list: "overdue", prefix: messagePrefixes.overdue(agentId) };
    const after = cursor === undefined ? undefined : decodeCursor(scope, cursor);
    const now = await store.now();
    const rows: Entry[] = [];
    for (const prefix of [messagePrefixes.owed(agentId), messagePrefixes.awaited(agentId)]) {
      if (rows.length === limit) break;
      const range = overdueRange(prefix, now, limit - rows.length, after);
      if (range) rows.push(...(await store.scan(range)));
    }
    const isReadable = ({ from }: InboxEntry) => from === agentId || !this.#held?.(from);
    const readable = rows.filter((row) => isReadable(inboxEntry(row)));
    const messages = await readOverdue(store, readable, agentId, now);
    const last = rows.length === limit ? rows.at(-1) : undefined;
    return last === undefined ? { messages } : { messages, nextCursor: encodeCursor(scope, last.key) };
  }
}

/** What was due until now, behind `after`: what one owes comes before what one awaits. Undefined when it was all seen. */
function overdueRange(prefix: string, now: number, limit: number, after: string | undefined): KeyRange | undefined {
  const before = `${prefix}${ordered(now + 1)}`;
  if (after === undefined) return { from: prefix, before, limit };
  if (after.startsWith(prefix)) return { from: `${after}\0`, before, limit };
  return after > prefix ? { from: prefix, before, limit } : undefined; // "owed" is listed first and sorts behind "awaited"
}

async function readOverdue(
  store: Pick<Store, "getMany">,
  rows: readonly Entry[],
  agentId: string,
  now: number,
): Promise<OverdueMessage[]> {
  const keys = rows.map(inboxEntry).flatMap(({ id, to }) => [messageKey(id), deliveryKey(to, id)]);
  const found = keys.length === 0 ? [] : await store.getMany(keys);
  return rows.flatMap((row, at): OverdueMessage[] => {
    const message = found[2 * at]?.value as MessageRecord | undefined;
    const delivery = found[2 * at + 1]?.value as Delivery | undefined;
    if (message?.ackDueAt === undefined || !delivery) return [];
    const role = row.key.startsWith(messagePrefixes.owed(agentId)) ? "receiver" : "sender";
    return [{ message, delivery, role, overdueMs: now - message.ackDueAt }];
  });
}
