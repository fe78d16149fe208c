/** Sending: to whom a message goes, and whether it may. */
import {
  type Audience,
  agentKey,
  type DeliveryState,
  type Draft,
  deliverNew,
  type InboxRoom,
  inboxIsFull,
  type MessageRecord,
  PAYLOAD_BYTES_MAX,
  type Posting,
  rootOf,
} from "@mcp-swarm/coordination/messages";
import { newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, findLiveAgent, speakAs } from "@mcp-swarm/identity";
import type { Envelopes } from "./envelopes.ts";

/** What a sender says of a message, whoever it goes to. */
export interface NewMessage extends Omit<Draft, "id" | "from" | "verified" | "audience" | "encrypted"> {
  /** A subagent of the caller that speaks. */
  readonly agentId?: string | undefined;
}

export interface SendMessage extends NewMessage {
  readonly targetAgent: string;
  /** Seal the payload so that only the target can read it. */
  readonly encrypt?: boolean | undefined;
  /** Keep it for an agent that nobody knows yet. */
  readonly mailbox?: boolean | undefined;
}

export type SentMessage = Pick<MessageRecord, "id" | "from" | "sentAt" | "correlationId" | "hops" | "expiresAt" | "ackDueAt"> & {
  readonly to: string;
  readonly status: DeliveryState;
};

export interface SendingOptions {
  random: Random;
  room: InboxRoom;
  posting: Posting;
  envelopes: Envelopes;
}

export class Sending {
  readonly #options: SendingOptions;

  constructor(options: SendingOptions) {
    this.#options = options;
  }

  /**
   * To one agent.
   * @throws SwarmError failed_precondition (nobody knows the target; nothing can be encrypted here), not_found (no key of the target), limit_exceeded (inbox, rate, hops), not_found (replyTo),
   *   invalid_argument
   */
  async send(call: Call, input: SendMessage): Promise<SentMessage> {
    const target = checkAgentId(input.targetAgent);
    const { mailbox, encrypt, targetAgent: _, ...said } = input;
    const plain = this.draft(call, said, { kind: "agent", name: target });
    const { draft, refusal } = encrypt ? await this.#sealed(plain, target) : { draft: plain };
    const [full, known] = await Promise.all([
      this.#options.room.fullOf(call.store, [target]),
      mailbox === true || isKnown(call, target),
    ]);
    return call.transact(
      (tx): SentMessage => {
        if (refusal) throw refusal;
        if (!known) throw unknownAgent(target);
        if (full.has(target)) throw inboxIsFull(target);
        const message = this.#options.posting.post(tx, draft);
        deliverNew(tx, message, target);
        return sentMessage(message, target, tx.now);
      },
      { prefetch: { keys: this.#options.posting.reads(draft) } },
    );
  }

  /** Why it cannot be sealed is for the deciding transaction to say: a repetition of a call that was done is not refused. */
  async #sealed(plain: Draft, target: string): Promise<{ draft: Draft; refusal?: SwarmError }> {
    try {
      return { draft: await this.#options.envelopes.seal(plain, target) };
    } catch (error) {
      if (error instanceof SwarmError && !error.retryable) return { draft: plain, refusal: error };
      throw error;
    }
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

function sentMessage(message: MessageRecord, to: string, now: number): SentMessage {
  const { id, from, sentAt, correlationId, hops, expiresAt, ackDueAt, notBefore } = message;
  return {
    ...{ id, from, to, sentAt, correlationId, hops },
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(ackDueAt === undefined ? {} : { ackDueAt }),
    status: notBefore !== undefined && notBefore > now ? "delayed" : "ready",
  };
}
