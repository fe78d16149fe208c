/**
 * Messages as ordered keys. A message is written once; what becomes of it at each receiver is a delivery, and every index is
 * made from the delivery and kept in the same transaction. All rows of a message expire with it (`keptUntil`).
 *
 * | key | value | why |
 * |---|---|---|
 * | `msg/<id>` | MessageRecord | the message |
 * | `delivery/<agent>/<msg>` | Delivery | the truth of one message at one receiver |
 * | `inbox/<agent>/ready/<9 - priority>/<order>/<msg>` | InboxEntry | to be handed out, in the order of reading |
 * | `inbox/<agent>/due/<at>/<msg>` | InboxEntry | delayed or in flight, by when it comes (again) |
 * | `inbox/<agent>/dead/<at>/<msg>` | InboxEntry | dead letters of a receiver |
 * | `dead-sent/<from>/<at>/<msg>/<agent>` | InboxEntry | the same, for the sender |
 * | `overdue/<agent>/owed/<ackDueAt>/<msg>` | InboxEntry | not acknowledged though the sender asks for it, for the receiver |
 * | `overdue/<from>/awaited/<ackDueAt>/<msg>/<agent>` | InboxEntry | the same, for the sender |
 * | `reply/<msg or thread>/<agent>/<order>/<msg>` | InboxEntry | what `agent` received as an answer |
 * | `heard/<agent>/<thread>` | number | most hops of what an agent or its subagents got in a thread: hops.ts |
 * | `thread/<thread>/<order>/<msg>` | Pointer | the messages of a thread: message-index.ts |
 * | `text/<order>/<msg>` | TextRow | the words of a message: message-index.ts |
 * | `sender/<agent>` | SenderRow | order and rate of what an agent and its subagents send: posting.ts |
 * | `inbox-full/<agent>` | FullRow | an inbox that takes no more for now: inbox-room.ts |
 *
 * A delivery is in exactly one of ready, due, dead and nowhere (done). Nobody scans `inbox/<agent>/ready/` within a transaction:
 * an engine that locks what was scanned would make all who send to the agent wait.
 */
import { type Entry, ordered, segment, type Transaction } from "@mcp-swarm/store";
import { deliveryKey, messageKey } from "./message-keys.ts";
import { type Delivery, type MessageRecord, PRIORITY_MAX } from "./message-record.ts";

/** What an index key of a delivery holds: enough to choose by. */
export type InboxEntry = {
  readonly id: string;
  readonly to: string;
  readonly from: string;
  readonly type: string;
  readonly thread: string;
  /** It was published in a topic. */
  readonly topic?: true;
  /** Of what is in flight: the process that has it. */
  readonly processId?: string;
};

export const messagePrefixes = {
  /** All that is open or dead of an agent: what a reader waits for. */
  inbox: (agentId: string) => `inbox/${segment(agentId)}/`,
  ready: (agentId: string) => `inbox/${segment(agentId)}/ready/`,
  due: (agentId: string) => `inbox/${segment(agentId)}/due/`,
  dead: (agentId: string) => `inbox/${segment(agentId)}/dead/`,
  deadSent: (agentId: string) => `dead-sent/${segment(agentId)}/`,
  /** All for which an acknowledgement is asked, overdue or not. */
  overdue: (agentId: string) => `overdue/${segment(agentId)}/`,
  owed: (agentId: string) => `overdue/${segment(agentId)}/owed/`,
  awaited: (agentId: string) => `overdue/${segment(agentId)}/awaited/`,
  /** What `agentId` received as an answer to a message or in the thread it began. */
  replies: (messageId: string, agentId: string) => `reply/${segment(messageId)}/${segment(agentId)}/`,
} as const;

export function inboxEntry(entry: Entry): InboxEntry {
  return entry.value as InboxEntry;
}

/** When an entry of `messagePrefixes.due` comes. */
export function dueAtOf(entry: Entry, agentId: string): number {
  const at = messagePrefixes.due(agentId).length;
  return Number(entry.key.slice(at, entry.key.indexOf("/", at)));
}

/** Writes a message. The caller made its id outside the plan, and delivers it. */
export function putMessage(tx: Transaction, message: MessageRecord): void {
  tx.put(messageKey(message.id), { ...message }, { ttlMs: lifeOf(tx, message) });
}

/**
 * Puts a message into a receiver's inbox; false when it is there already, whatever became of it since, so that a fan-out that is
 * done again gives nobody a second copy. Reads `deliveryKey(receiver, message.id)`.
 */
export function deliver(tx: Transaction, message: MessageRecord, receiver: string): boolean {
  if (tx.get(deliveryKey(receiver, message.id))) return false;
  deliverNew(tx, message, receiver);
  return true;
}

/** The same of a message that this very transaction posts: nobody can have it yet, so nothing is read. */
export function deliverNew(tx: Transaction, message: MessageRecord, receiver: string): void {
  const { id, from, messageType, priority, order, correlationId, hops, keptUntil, ackDueAt, notBefore } = message;
  const delayed = notBefore !== undefined && notBefore > tx.now;
  const delivery: Delivery = {
    ...{ id, from, to: receiver, messageType, priority, order, correlationId, hops, keptUntil, deliveries: 0 },
    ...(ackDueAt === undefined ? {} : { ackDueAt }),
    ...(message.audience.kind === "topic" ? { topic: true } : {}),
    ...(delayed ? { state: "delayed", dueAt: notBefore } : { state: "ready" }),
  };
  writeDelivery(tx, undefined, delivery);
  for (const key of replyKeys(message, receiver)) tx.put(key, entryOf(delivery), { ttlMs: lifeOf(tx, message) });
}

export function findDelivery(tx: Pick<Transaction, "get">, agentId: string, id: string): Delivery | undefined {
  return tx.get(deliveryKey(agentId, id))?.value as Delivery | undefined;
}

/** What a change may set; everything else stays as it was delivered. Fields that the new state does not have are left out. */
export type Change = Pick<Delivery, "state"> & Partial<Pick<Delivery, "deliveries" | "dueAt" | "processId" | "cause" | "reason">>;

/** Moves a delivery to another state, and every index with it. */
export function changeDelivery(tx: Transaction, before: Delivery, change: Change): Delivery {
  const { dueAt: _due, processId: _process, endedAt: _ended, cause: _cause, reason: _reason, ...kept } = before;
  const ends = change.state === "done" || change.state === "dead";
  const after: Delivery = { ...kept, ...change, ...(ends ? { endedAt: tx.now } : {}) };
  writeDelivery(tx, before, after);
  return after;
}

function writeDelivery(tx: Transaction, before: Delivery | undefined, after: Delivery): void {
  const keys = indexKeys(after);
  if (before) for (const key of indexKeys(before)) if (!keys.includes(key)) tx.delete(key);
  const life = { ttlMs: lifeOf(tx, after) };
  for (const key of keys) tx.put(key, entryOf(after), life);
  tx.put(deliveryKey(after.to, after.id), { ...after }, life);
}

function entryOf({ id, to, from, messageType, correlationId, topic, processId }: Delivery): InboxEntry {
  const entry = { id, to, from, type: messageType, thread: correlationId, ...(topic ? { topic } : {}) };
  return processId === undefined ? entry : { ...entry, processId };
}

function indexKeys(delivery: Delivery): string[] {
  const { to, from, ackDueAt, state, dueAt = 0, endedAt = 0 } = delivery;
  const id = segment(delivery.id);
  const keys: string[] = [];
  if (state === "ready") keys.push(readyKey(delivery));
  if (state === "delayed" || state === "in_flight") keys.push(`${messagePrefixes.due(to)}${ordered(dueAt)}/${id}`);
  if (state === "dead") {
    keys.push(`${messagePrefixes.dead(to)}${ordered(endedAt)}/${id}`);
    keys.push(`${messagePrefixes.deadSent(from)}${ordered(endedAt)}/${id}/${segment(to)}`);
  }
  if (ackDueAt !== undefined && !acknowledged(delivery)) {
    keys.push(`${messagePrefixes.owed(to)}${ordered(ackDueAt)}/${id}`);
    keys.push(`${messagePrefixes.awaited(from)}${ordered(ackDueAt)}/${id}/${segment(to)}`);
  }
  return keys;
}

/** The place of a delivery among what is ready. A message that comes again has it still. */
export function readyKey({ to, priority, order, id }: Pick<Delivery, "to" | "priority" | "order" | "id">): string {
  return `${messagePrefixes.ready(to)}${PRIORITY_MAX - priority}/${order}/${segment(id)}`;
}

/** A message that nobody answered after its last delivery died without an acknowledgement. */
function acknowledged({ state, cause }: Delivery): boolean {
  return state === "done" || (state === "dead" && cause === "rejected");
}

/** An answer is found by what it answers and by the message that began its thread. */
function replyKeys({ id, replyTo, correlationId, order }: MessageRecord, receiver: string): string[] {
  const answered = new Set([replyTo, correlationId === id ? undefined : correlationId]);
  return [...answered].flatMap((asked) =>
    asked === undefined ? [] : [`${messagePrefixes.replies(asked, receiver)}${order}/${segment(id)}`],
  );
}

/** What is left of the life of a message's rows. */
export function lifeOf(tx: Pick<Transaction, "now">, { keptUntil }: { readonly keptUntil: number }): number {
  return Math.max(0, keptUntil - tx.now);
}
