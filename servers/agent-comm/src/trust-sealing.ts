/** Sealing by the keys of a secured swarm. What does it is loaded when the first message is sealed or opened. */
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { rootAgent, type Signatures } from "@mcp-swarm/identity";
import type { AgentKeys, PublicKeys } from "@mcp-swarm/identity/trust";
import type { Sealing } from "./envelopes.ts";

/** What a process holds and knows of keys. */
export interface SealingKeys extends Signatures {
  /** Those of the process's own agent. */
  readonly self: AgentKeys | undefined;
  keysOf(agentId: string): Promise<PublicKeys | undefined>;
}

/** An envelope of this type opens as a message and nothing else. */
const TYPE = "message";

export function trustSealing(keys: SealingKeys, clock: Clock): Sealing {
  return {
    async seal({ id, from, to, messageType, payload }) {
      const { seal } = await import("@mcp-swarm/identity/trust");
      const sealed = { type: TYPE, to, jti: id, iat: clock.now(), payload, boundTo: [messageType] };
      return seal(sealed, from, { signatures: keys, keysOf: (agentId) => keys.keysOf(agentId) });
    },
    async open({ id, from, messageType, payload }, reader) {
      const { self } = keys;
      if (!self || rootAgent(reader) !== self.agentId) throw noKeyOf(reader);
      const { open } = await import("@mcp-swarm/identity/trust");
      // a message is kept for days, and its sender's key may have been replaced since
      const expected = { type: TYPE, jti: id, from, boundTo: [messageType], whenever: true };
      const opener = { agentId: reader, decryptionKeys: [self.encrypt, ...self.formerEncrypt], signatures: keys };
      return (await open(typeof payload === "string" ? payload : "", opener, expected)).payload;
    },
  };
}

function noKeyOf(agentId: string): SwarmError {
  return new SwarmError("failed_precondition", `This server holds no key of ${agentId}.`, {
    hint: "Read it where your key file is: a server mounted over stdio with SWARM_KEY_FILE.",
  });
}
