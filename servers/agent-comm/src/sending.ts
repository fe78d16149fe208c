/** Sending: what the server itself says of a message (who, when, in which order, how many led to it), and to whom it goes. */
import { assert, type Json, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, findLiveAgent, speakAs } from "@mcp-swarm/identity";
import { ordered, type Store, segment, type Transaction } from "@mcp-swarm/store";
import { agentKey } from "./agent-record.ts";
import { hopKeys, hopsOf } from "./hops.ts";
import { type InboxRoom, inboxIsFull } from "./inbox-room.ts";
import { deliverNew, deliveryKey, findDelivery, messageKey, putMessage } from "./message-layer.ts";
import {
  AHEAD_MS_MAX,
  type Audience,
  type DeliveryState,
  type MessageRecord,
  PAYLOAD_BYTES_MAX,
  PRIORITY_DEFAULT,
  rootOf,
} from "./message-record.ts";
import { indexText } from "./message-search.ts";
import { type Bucket, take } from "./rate.ts";
import { indexThread } from "./threads.ts";

/** What a sender says of a message, whoever it goes to. */
export interface NewMessage {
  /** A subagent of the caller that speaks. */
  readonly agentId?: string | undefined;
  readonly messageType: string;
  readonly payload: Json;
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

export interface SendMessage extends NewMessage {
  readonly targetAgent: string;
  /** Keep it for an agent that nobody knows yet. */
  readonly mailbox?: boolean | undefined;
}

export type SentMessage = Pick<MessageRecord, "id" | "from" | "sentAt" | "correlationId" | "hops" | "expiresAt" | "ackDueAt"> & {
  readonly to: string;
  readonly status: DeliveryState;
};

/** A message that is checked as far as that needs no store. Made outside the plan: its id is new. */
export type Draft = Omit<NewMessage, "agentId"> & Pick<MessageRecord, "id" | "from" | "verified" | "audience">;

/** Of an agent and its subagents: `lastAt` and `same` order what they send, whatever process it comes from. */
type SenderRow = {
  readonly lastAt: number;
  /** How many went before at the very same ms. */
  readonly same: number;
  readonly sent: number;
  readonly bucket: Bucket;
};

const senderKey = (agentId: string): string => `sender/${segment(rootOf(agentId))}`;
/** Digits for messages of one sender in one ms. */
const SAME_DIGITS = 4;

export interface SendingOptions {
  random: Random;
  room: InboxRoom;
  /** `SWARM_MESSAGE_RATE`: messages a minute that an agent may send, its subagents included. */
  messageRate: number;
  /** How long a message without `ttlMs` lives: message-retention.ts. */
  retentionMs: number;
}

export class Sending {
  readonly #options: SendingOptions;

  constructor(options: SendingOptions) {
    this.#options = options;
  }

  /**
   * To one agent.
   * @throws SwarmError failed_precondition (nobody knows the target), limit_exceeded (inbox, rate, hops), not_found (replyTo),
   *   invalid_argument
   */
  async send(call: Call, input: SendMessage): Promise<SentMessage> {
    const target = checkAgentId(input.targetAgent);
    const draft = this.draft(call, input, { kind: "agent", name: target });
    const [full, known] = await Promise.all([
      this.#options.room.fullOf(call.store, [target]),
      input.mailbox === true || isKnown(call, target),
    ]);
    return call.transact(
      (tx): SentMessage => {
        if (!known) throw unknownAgent(target);
        if (full.has(target)) throw inboxIsFull(target);
        const message = this.post(tx, draft);
        deliverNew(tx, message, target);
        return sentMessage(message, target, tx.now);
      },
      { prefetch: { keys: this.reads(draft) } },
    );
  }

  /** @throws SwarmError invalid_argument, permission_denied (of `agentId`) */
  draft(call: Pick<Call, "caller">, { agentId, ...input }: NewMessage, audience: Audience): Draft {
    const bytes = Buffer.byteLength(JSON.stringify(input.payload));
    if (bytes > PAYLOAD_BYTES_MAX) {
      throw new SwarmError(
        "invalid_argument",
        `Field "payload" has ${bytes} bytes of JSON; at most ${PAYLOAD_BYTES_MAX} are taken.`,
        {
          hint: "Put the long part into a file or into shared state, and send its name.",
        },
      );
    }
    const from = speakAs(call.caller, agentId);
    return { ...input, id: newId("msg", this.#options.random), from, verified: call.caller.verified, audience };
  }

  /** What `post` reads, to be fetched ahead. */
  reads({ from, replyTo, correlationId }: Draft): string[] {
    return [
      senderKey(from),
      ...(replyTo === undefined ? [] : [messageKey(replyTo), ...readersOf(from).map((reader) => deliveryKey(reader, replyTo))]),
      ...(correlationId === undefined ? [] : hopKeys(from, correlationId)),
    ];
  }

  /**
   * Writes the message within a transaction; the caller delivers it. `cost` is what it takes from the sender's rate; `after` is a
   * time behind which its place lies, for order among several senders.
   * @throws SwarmError limit_exceeded (rate, hops), not_found (replyTo), invalid_argument (times)
   */
  post(tx: Transaction, draft: Draft, cost = 1, after = 0): MessageRecord {
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
      ...(replyTo === undefined ? {} : { replyTo }),
      ...(notBefore === undefined ? {} : { notBefore }),
      ...(ackDueAt === undefined ? {} : { ackDueAt }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
      keptUntil: expiresAt ?? Math.max(deliverAt, ackDueAt ?? 0) + this.#options.retentionMs,
    };
    putMessage(tx, message);
    indexThread(tx, message);
    indexText(tx, message);
    return message;
  }
}

/** How many messages an agent and its subagents sent, as long as it is remembered. */
export async function sentCount(store: Pick<Store, "get">, agentId: string): Promise<number> {
  return ((await store.get(senderKey(agentId)))?.value as SenderRow | undefined)?.sent ?? 0;
}

/** Whether messages to the agent find somebody: it lives, or is registered, or is a subagent of one that does or is. */
export async function isKnown({ caller, store }: Pick<Call, "caller" | "store">, target: string): Promise<boolean> {
  if (rootOf(target) === rootOf(caller.agentId)) return true;
  const names = [...new Set([target, rootOf(target)])];
  const [registered, ...alive] = await Promise.all([
    store.getMany(names.map(agentKey)),
    ...names.map((name) => findLiveAgent(store, name)),
  ]);
  return [...registered, ...alive].some((found) => found !== undefined);
}

function unknownAgent(target: string): SwarmError {
  return new SwarmError("failed_precondition", `No agent ${target} is there, and none has registered under that name.`, {
    hint: "list_agents shows the names; with mailbox: true the message waits for an agent that comes later.",
  });
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

function sentMessage(message: MessageRecord, to: string, now: number): SentMessage {
  const { id, from, sentAt, correlationId, hops, expiresAt, ackDueAt, notBefore } = message;
  return {
    ...{ id, from, to, sentAt, correlationId, hops },
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(ackDueAt === undefined ? {} : { ackDueAt }),
    status: notBefore !== undefined && notBefore > now ? "delayed" : "ready",
  };
}
