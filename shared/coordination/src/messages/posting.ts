/** Writing a message: what the server itself says of it (when, in which order, how many led to it, how long it is kept). */
import { assert, SwarmError } from "@mcp-swarm/core";
import { ordered, type Store, segment, type Transaction } from "@mcp-swarm/store";
import { hopKeys, hopsOf } from "./hops.ts";
import { indexMessage } from "./message-index.ts";
import { deliveryKey, messageKey } from "./message-keys.ts";
import { findDelivery, putMessage } from "./message-layer.ts";
import { AHEAD_MS_MAX, type MessageRecord, PRIORITY_DEFAULT, rootOf } from "./message-record.ts";
import { type Bucket, take } from "./rate.ts";

/** A message that is checked as far as that needs no store. Made outside the plan: its id is new. */
export interface Draft
  extends Pick<MessageRecord, "id" | "from" | "verified" | "audience" | "messageType" | "payload" | "encrypted"> {
  /** 0 to PRIORITY_MAX, 9 first. */
  readonly priority?: number | undefined;
  readonly correlationId?: string | undefined;
  /** A message that the sender got or sent. */
  readonly replyTo?: string | undefined;
  /** From the sending on. */
  readonly ttlMs?: number | undefined;
  /** Ms since the epoch. */
  readonly notBefore?: number | undefined;
  /** From the sending, or from `notBefore` on. */
  readonly ackWithinMs?: number | undefined;
}

/** Of an agent and its subagents: `lastAt` and `same` order what they send, whatever process it comes from. */
type SenderRow = {
  readonly lastAt: number;
  /** How many went before at the very same ms. */
  readonly same: number;
  readonly sent: number;
  readonly bucket: Bucket;
};

export const senderKey = (agentId: string): string => `sender/${segment(rootOf(agentId))}`;
/** Digits for messages of one sender in one ms. */
const SAME_DIGITS = 4;

export interface PostingOptions {
  /** `SWARM_MESSAGE_RATE`: messages a minute that an agent may send, its subagents included. */
  messageRate: number;
  /** How long a message without `ttlMs` lives: message-retention.ts. */
  retentionMs: number;
}

export interface Posted {
  /** What it takes from the sender's rate; 1 unless it is said. */
  readonly cost?: number;
  /** A time behind which its place lies, for order among several senders. */
  readonly after?: number;
}

export class Posting {
  readonly #options: PostingOptions;

  constructor(options: PostingOptions) {
    this.#options = options;
  }

  /** What `post` reads, to be fetched ahead. */
  reads({ from, replyTo, correlationId }: Pick<Draft, "from" | "replyTo" | "correlationId">): string[] {
    return [
      senderKey(from),
      ...(replyTo === undefined ? [] : [messageKey(replyTo), ...readersOf(from).map((reader) => deliveryKey(reader, replyTo))]),
      ...(correlationId === undefined ? [] : hopKeys(from, correlationId)),
    ];
  }

  /**
   * Writes the message within a transaction; the caller delivers it.
   * @throws SwarmError limit_exceeded (rate, hops), not_found (replyTo), invalid_argument (times)
   */
  post(tx: Transaction, draft: Draft, { cost = 1, after = 0 }: Posted = {}): MessageRecord {
    const { id, from, verified, audience, messageType, payload, replyTo, notBefore, ttlMs, ackWithinMs } = draft;
    const before = tx.get(senderKey(from))?.value as SenderRow | undefined;
    const bucket = take(before?.bucket, tx.now, this.#options.messageRate, cost);
    const sentAt = Math.max(tx.now, before?.lastAt ?? 0, after + 1);
    const same = sentAt === before?.lastAt ? before.same + 1 : 0;
    assert(same < 36 ** SAME_DIGITS, "the rate keeps a sender from so many messages in one ms");
    tx.put(
      senderKey(from),
      { lastAt: sentAt, same, sent: (before?.sent ?? 0) + 1, bucket: { ...bucket } },
      { ttlMs: this.#options.retentionMs },
    );

    const answered = replyTo === undefined ? undefined : answeredBy(tx, from, replyTo);
    const correlationId = draft.correlationId ?? answered?.correlationId ?? id;
    const deliverAt = Math.max(sentAt, notBefore ?? 0);
    const ackDueAt = ackWithinMs === undefined ? undefined : deliverAt + ackWithinMs;
    const expiresAt = ttlMs === undefined ? undefined : sentAt + ttlMs;
    checkTimes(tx.now, deliverAt, expiresAt);
    const message: MessageRecord = {
      ...{ id, from, verified, sentAt, audience, messageType, payload, correlationId },
      order: `${ordered(sentAt)}${same.toString(36).padStart(SAME_DIGITS, "0")}`,
      priority: draft.priority ?? PRIORITY_DEFAULT,
      hops: correlationId === id ? 0 : hopsOf(tx, from, correlationId, answered),
      ...(draft.encrypted ? { encrypted: true } : {}),
      ...(replyTo === undefined ? {} : { replyTo }),
      ...(notBefore === undefined ? {} : { notBefore }),
      ...(ackDueAt === undefined ? {} : { ackDueAt }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
      keptUntil: expiresAt ?? Math.max(deliverAt, ackDueAt ?? 0) + this.#options.retentionMs,
    };
    putMessage(tx, message);
    indexMessage(tx, message);
    return message;
  }
}

/** How many messages an agent and its subagents sent, as long as it is remembered. */
export async function sentCount(store: Pick<Store, "get">, agentId: string): Promise<number> {
  return ((await store.get(senderKey(agentId)))?.value as SenderRow | undefined)?.sent ?? 0;
}

/** A subagent may answer what its parent got. */
function readersOf(from: string): string[] {
  return [...new Set([from, rootOf(from)])];
}

/** @throws SwarmError not_found */
function answeredBy(tx: Transaction, from: string, replyTo: string): MessageRecord {
  const answered = tx.get(messageKey(replyTo))?.value as MessageRecord | undefined;
  const mayRead =
    answered &&
    (rootOf(answered.from) === rootOf(from) ||
      answered.audience.kind === "topic" ||
      readersOf(from).some((reader) => findDelivery(tx, reader, replyTo)));
  if (mayRead) return answered;
  throw new SwarmError("not_found", `You neither got nor sent a message ${replyTo}.`, {
    hint: "replyTo is the id of the message you answer, as get_messages shows it; leave it out to begin a thread.",
  });
}

/** @throws SwarmError invalid_argument */
function checkTimes(now: number, deliverAt: number, expiresAt: number | undefined): void {
  if (deliverAt > now + AHEAD_MS_MAX) {
    throw new SwarmError("invalid_argument", 'Field "notBefore" lies too far ahead.', {
      hint: `It is a time in ms since the epoch, at most ${AHEAD_MS_MAX / 86_400_000} days from now.`,
    });
  }
  if (expiresAt !== undefined && expiresAt <= deliverAt) {
    throw new SwarmError("invalid_argument", 'Field "ttlMs" ends before "notBefore": nobody would get the message.', {
      hint: "ttlMs counts from now on; make it longer.",
    });
  }
}
