/** Dead letters: messages that were rejected, or handed out too often without an acknowledgement. Receiver and sender see them. */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import {
  changeDelivery,
  type Delivery,
  deliveryKey,
  findDelivery,
  type Held,
  inboxEntry,
  type MessageRecord,
  messageKey,
  messagePrefixes,
} from "@mcp-swarm/coordination/messages";
import { PAGE_DEFAULT, SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, speakAs } from "@mcp-swarm/identity";
import { prefixRange, type Transaction } from "@mcp-swarm/store";
import type { Acknowledged } from "./inbox.ts";

export interface ListDeadLetters {
  readonly agentId?: string | undefined;
  /** Those of messages that one sent, instead of those in one's inbox. */
  readonly sent?: boolean | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export type DeadLetter = { readonly message: MessageRecord; readonly delivery: Delivery };

export interface DeadLetterPage {
  readonly deadLetters: readonly DeadLetter[];
  readonly nextCursor?: string;
}

export interface RedeliverMessages {
  readonly messageIds: readonly string[];
  readonly agentId?: string | undefined;
  /** As the sender of a message to many: whose dead letter it is. */
  readonly targetAgent?: string | undefined;
}

export class DeadLetters {
  readonly #held: Held | undefined;

  constructor({ held }: { held?: Held | undefined } = {}) {
    this.#held = held;
  }

  /** The latest first, without what is held back. @throws SwarmError permission_denied, invalid_argument (cursor) */
  async list({ caller, store }: Pick<Call, "caller" | "store">, input: ListDeadLetters = {}): Promise<DeadLetterPage> {
    const agentId = speakAs(caller, input.agentId);
    const { limit = PAGE_DEFAULT, cursor, sent = false } = input;
    const prefix = sent ? messagePrefixes.deadSent(agentId) : messagePrefixes.dead(agentId);
    const scope = { list: "dead letters", prefix };
    const after = cursor === undefined ? {} : { after: decodeCursor(scope, cursor) };
    const rows = await store.scan(prefixRange(prefix, limit, { ...after, reverse: true }));
    const entries = rows.map(inboxEntry).filter(({ from }) => sent || !this.#held?.(from));
    const found =
      entries.length === 0 ? [] : await store.getMany(entries.flatMap(({ id, to }) => [messageKey(id), deliveryKey(to, id)]));
    const deadLetters = entries.flatMap((_, at): DeadLetter[] => {
      const [message, delivery] = found.slice(2 * at, 2 * at + 2);
      return message && delivery ? [{ message: message.value as MessageRecord, delivery: delivery.value as Delivery }] : [];
    });
    const last = rows.length === limit ? rows.at(-1) : undefined;
    return last === undefined ? { deadLetters } : { deadLetters, nextCursor: encodeCursor(scope, last.key) };
  }

  /**
   * Makes dead letters ready again at their old place, with a fresh count of deliveries. Whoever got or sent them may.
   * @throws SwarmError permission_denied
   */
  async redeliver(call: Call, input: RedeliverMessages): Promise<{ messages: Acknowledged[] }> {
    const agentId = speakAs(call.caller, input.agentId);
    const target = input.targetAgent === undefined ? undefined : checkAgentId(input.targetAgent);
    const ids = [...new Set(input.messageIds)];
    const messages = await call.transact((tx) => ids.map((id): Acknowledged => revive(tx, id, agentId, target)), {
      prefetch: { keys: ids.flatMap((id) => [messageKey(id), deliveryKey(target ?? agentId, id)]) },
    });
    return { messages };
  }
}

function revive(tx: Transaction, id: string, agentId: string, target: string | undefined): Acknowledged {
  const delivery = ofReceiver(tx, id, agentId, target) ?? ofSender(tx, id, agentId, target);
  if (delivery?.state !== "dead") return { id, status: delivery?.state ?? "unknown", changed: false };
  changeDelivery(tx, delivery, { state: "ready", deliveries: 0 });
  return { id, status: "ready", changed: true };
}

function ofReceiver(tx: Transaction, id: string, agentId: string, target: string | undefined): Delivery | undefined {
  return target === undefined || target === agentId ? findDelivery(tx, agentId, id) : undefined;
}

function ofSender(tx: Transaction, id: string, agentId: string, target: string | undefined): Delivery | undefined {
  const message = tx.get(messageKey(id))?.value as MessageRecord | undefined;
  if (message?.from !== agentId) return undefined;
  const receiver = target ?? (message.audience.kind === "agent" ? message.audience.name : undefined);
  if (receiver !== undefined) return findDelivery(tx, receiver, id);
  throw new SwarmError("invalid_argument", `Message ${id} went to many: name whose dead letter you mean.`, {
    hint: "Give targetAgent; list_dead_letters with sent: true names the receivers.",
  });
}
