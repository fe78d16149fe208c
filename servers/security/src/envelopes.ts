import { type Clock, type Json, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, rootAgent } from "@mcp-swarm/identity";
import { type Opener, open, seal, type Trust, useSealed } from "@mcp-swarm/identity/trust";

/** An envelope of this type opens as what a tool handed over, and as nothing else. */
const TYPE = "handed-over";
/** Longest envelope, in characters: what a model can read in one answer, and write in one call. */
export const ENVELOPE_LENGTH_MAX = 18_000;

export interface OpenedEnvelope {
  readonly id: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly sealedAt: number;
  readonly payload: Json;
}

export interface EnvelopesOptions {
  readonly trust: Trust;
  readonly clock: Clock;
  readonly random: Random;
}

/** Messages that only their recipients can read, carried by whoever likes. */
export class Envelopes {
  readonly #options: EnvelopesOptions;

  constructor(options: EnvelopesOptions) {
    this.#options = options;
  }

  /** @throws SwarmError not_found (a recipient has no key), failed_precondition (the caller's key is elsewhere), limit_exceeded */
  async seal({ caller }: Call, { payload, recipients }: { payload: Json; recipients: readonly string[] }): Promise<string> {
    const { trust, clock, random } = this.#options;
    const message = { type: TYPE, to: recipients, jti: newId("sealed", random), iat: clock.now(), payload };
    const sealed = await seal(message, caller.agentId, { signatures: trust, keysOf: (agentId) => trust.keysOf(agentId) });
    if (sealed.length <= ENVELOPE_LENGTH_MAX) return sealed;
    throw new SwarmError("limit_exceeded", "The sealed message would be longer than a model can read.", {
      hint: "Seal less, or to fewer recipients; send_message of agent-comm with encrypt: true carries long payloads.",
    });
  }

  /**
   * Opens what was sealed to the caller, once.
   * @throws SwarmError unauthenticated when it was changed, was said to others, or was opened before; failed_precondition when the
   *   caller's key is elsewhere
   */
  async open(call: Call, sealed: string): Promise<OpenedEnvelope> {
    const { agentId } = call.caller;
    const opened = await withOwnKeys(this.#options.trust, agentId, (opener) => open(sealed, opener, { type: TYPE }));
    // what is kept of it holds nothing of what it says: a repetition of the call opens it again
    await call.transact((tx) => {
      useSealed(tx, agentId, opened);
      return null;
    });
    const { jti, from, to, iat, payload } = opened;
    return { id: jti, from, to, sealedAt: iat, payload };
  }
}

/** Opens with the agent's keys; once more when another process of it has replaced them meanwhile. */
export async function withOwnKeys<T>(trust: Trust, agentId: string, run: (opener: Opener) => Promise<T>): Promise<T> {
  const before = trust.self;
  try {
    return await run(openerOf(trust, agentId));
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== "failed_precondition") throw error;
    await trust.refresh();
    if (trust.self === before) throw error;
    return await run(openerOf(trust, agentId));
  }
}

/** What the agent opens with, when its key is in this process. @throws SwarmError failed_precondition */
export function openerOf(trust: Trust, agentId: string): Opener {
  const { self } = trust;
  if (!self || rootAgent(agentId) !== self.agentId) {
    throw new SwarmError("failed_precondition", `This server holds no key of ${agentId}.`, {
      hint: "Read it where your key file is: in a server that your host started over stdio with SWARM_KEY_FILE.",
    });
  }
  return { agentId, decryptionKeys: [self.encrypt, ...self.formerEncrypt], signatures: trust };
}
