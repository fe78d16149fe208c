/** A question to one agent and its answer, as one call. */
import { waitFor } from "@mcp-swarm/coordination";
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
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { LOOK_AGAIN_MS, type Waiting } from "./inbox.ts";
import type { Sending, SendMessage } from "./sending.ts";

/** How long a request waits for its reply when the caller does not say. */
export const REPLY_WAIT_MS_DEFAULT = 30_000;
/** Answers to one request that are looked at; those in front may not be due yet. */
const REPLIES_LOOKED_AT = 10;

export type AskAgent = Omit<SendMessage, "messageType" | "correlationId" | "replyTo" | "notBefore"> & {
  readonly messageType?: string | undefined;
};

export interface Answered {
  readonly requestId: string;
  readonly reply: MessageRecord;
}

export class Requests {
  readonly #clock: Clock;
  readonly #sending: Sending;
  readonly #held: Held | undefined;

  constructor({ clock, sending, held }: { clock: Clock; sending: Sending; held?: Held | undefined }) {
    this.#clock = clock;
    this.#sending = sending;
    this.#held = held;
  }

  /**
   * Sends the request and waits for the first message to the caller that answers it or continues its thread; that message is then
   * acknowledged. A repetition with the same idempotency key sends nothing and waits on.
   * @throws SwarmError deadline_exceeded when none came in `waitMs` (a late one comes to the inbox), and what `Sending.send` throws
   */
  async ask(call: Call, input: AskAgent, waiting: Waiting = { waitMs: REPLY_WAIT_MS_DEFAULT }): Promise<Answered> {
    const agentId = speakAs(call.caller, input.agentId);
    const { store } = call;
    const { id: requestId } = await this.#sending.send(call, {
      ...input,
      messageType: input.messageType ?? "coordination_request",
    });
    const reply = await waitFor({
      store,
      clock: this.#clock,
      prefixes: [messagePrefixes.replies(requestId, agentId)],
      ...waiting,
      attempt: async () => {
        const { first, isHeld } = await firstReply(store, requestId, agentId, this.#held);
        if (first) return { value: first };
        return isHeld ? { againInMs: LOOK_AGAIN_MS } : {};
      },
    });
    waiting.signal?.throwIfAborted();
    if (!reply) throw noReply(requestId);
    await store.transact((tx) => {
      const delivery = findDelivery(tx, agentId, reply.id);
      if (delivery && delivery.state !== "done")
        changeDelivery(tx, delivery, { state: "done", deliveries: delivery.deliveries + 1 });
    });
    return { requestId, reply };
  }
}

type Reply = { readonly first?: MessageRecord | undefined; readonly isHeld: boolean };

async function firstReply(store: Store, requestId: string, agentId: string, held: Held | undefined): Promise<Reply> {
  const rows = await store.scan(prefixRange(messagePrefixes.replies(requestId, agentId), REPLIES_LOOKED_AT));
  const readable = rows.map(inboxEntry).filter(({ from }) => !held?.(from));
  const isHeld = readable.length < rows.length;
  if (readable.length === 0) return { isHeld };
  const ids = readable.map(({ id }) => id);
  const deliveries = await store.getMany(ids.map((id) => deliveryKey(agentId, id)));
  const arrived = ids.filter((_, at) => {
    const delivery = deliveries[at]?.value as Delivery | undefined;
    return delivery !== undefined && !(delivery.state === "delayed" && delivery.deliveries === 0);
  });
  const [first] = arrived;
  if (first === undefined) return { isHeld };
  return { first: (await store.get(messageKey(first)))?.value as MessageRecord | undefined, isHeld };
}

function noReply(requestId: string): SwarmError {
  return new SwarmError("deadline_exceeded", `No reply to ${requestId} came in time.`, {
    hint: `It was sent, and a late reply comes to your inbox: get_messages with correlationId ${requestId}. To wait on, repeat the call with the same idempotencyKey.`,
    retryable: false,
  });
}
