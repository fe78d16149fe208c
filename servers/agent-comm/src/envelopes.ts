/**
 * Payloads that nobody can read but the agent they are for and the one who sent them. What is sealed names the message it is of, so
 * that it is refused in any other: taken out and sent again, it opens for nobody.
 */
import type { Draft, MessageRecord } from "@mcp-swarm/coordination/messages";
import { type Json, SwarmError } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";

/** What is sealed: all that it is bound to beside the payload. */
export interface SealedMessage extends Pick<MessageRecord, "id" | "from" | "messageType" | "payload"> {
  readonly to: readonly string[];
}

/** What a process of a secured swarm can do with the keys of its own agent. */
export interface Sealing {
  /**
   * @throws SwarmError failed_precondition (this process holds no key of `from`), not_found (a receiver has no key), invalid_argument,
   *   limit_exceeded
   */
  seal(message: SealedMessage): Promise<string>;
  /**
   * Opens the payload of a message for an agent.
   * @throws SwarmError unauthenticated (not what its sender sealed for this agent in this message), failed_precondition (no key of
   *   the agent's that it was sealed to)
   */
  open(message: Omit<SealedMessage, "to">, reader: string): Promise<Json>;
}

/** A message as it is shown: a payload that could be opened is opened, one that could not says why and how it can be read. */
export type ShownMessage = MessageRecord & { readonly unopened?: string };

export class Envelopes {
  readonly #sealing: Sealing | undefined;

  constructor(sealing?: Sealing) {
    this.#sealing = sealing;
  }

  /** The draft with its payload sealed to one agent. @throws SwarmError failed_precondition in an open swarm, and what `Sealing.seal` does */
  async seal(draft: Draft, target: string): Promise<Draft> {
    if (!this.#sealing) {
      throw new SwarmError(
        "failed_precondition",
        "Nothing can be encrypted here: this swarm is open, and its agents have no keys.",
        {
          hint: 'Send it without encrypt, or ask the person to secure the swarm ("mcp-swarm-security init").',
        },
      );
    }
    const { id, from, messageType } = draft;
    const payload = await this.#sealing.seal({ id, from, messageType, payload: draft.payload, to: [target, from] });
    return { ...draft, payload, encrypted: true };
  }

  /** Messages as the caller may see them. One that does not open leaves the others as they are. */
  open(caller: Pick<Caller, "agentId">, messages: readonly MessageRecord[]): Promise<ShownMessage[]> {
    return Promise.all(messages.map((message) => this.openOne(caller, message)));
  }

  async openOne(caller: Pick<Caller, "agentId">, message: MessageRecord): Promise<ShownMessage> {
    return message.encrypted ? this.#opened(message, caller.agentId) : message;
  }

  async openIn<T extends { readonly message: MessageRecord }>(
    caller: Pick<Caller, "agentId">,
    items: readonly T[],
  ): Promise<(T & { readonly message: ShownMessage })[]> {
    return Promise.all(items.map(async (item) => ({ ...item, message: await this.openOne(caller, item.message) })));
  }

  async #opened(message: MessageRecord, reader: string): Promise<ShownMessage> {
    try {
      if (!this.#sealing) throw noKeys();
      return { ...message, payload: await this.#sealing.open(message, reader) };
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      const sealed = `Its sealed text: get_message {"messageId":"${message.id}","offset":0}.`;
      return { ...message, unopened: [error.message, error.hint, sealed].filter((line) => line !== undefined).join(" ") };
    }
  }
}

function noKeys(): SwarmError {
  return new SwarmError("failed_precondition", "This server has no keys.", {
    hint: "Read it where your key file is: a server mounted over stdio with SWARM_KEY_FILE.",
  });
}
