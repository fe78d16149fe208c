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

/** What a sender says of a message, whoever it goes to. */
export interface NewMessage extends Omit<Draft, "id" | "from" | "verified" | "audience"> {
  /** A subagent of the caller that speaks. */
  readonly agentId?: string | undefined;
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

export interface SendingOptions {
  random: Random;
  room: InboxRoom;
  posting: Posting;
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
        const message = this.#options.posting.post(tx, draft);
        deliverNew(tx, message, target);
        return sentMessage(message, target, tx.now);
      },
      { prefetch: { keys: this.#options.posting.reads(draft) } },
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
