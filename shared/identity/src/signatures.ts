import type { JsonObject } from "@mcp-swarm/core";

/** Something an agent said and signed. */
export interface Signed {
  /** The agent whose key signed, or a subagent of it that it spoke for. */
  readonly agentId: string;
  /** The key that signed. */
  readonly kid: string;
  readonly payload: JsonObject;
}

/** What a process of a secured swarm can prove of itself and check of others. */
export interface Signatures {
  /**
   * A compact JWS by the key of this process; undefined when it holds no key of that agent (callers over HTTP have theirs elsewhere).
   * `type` parts uses: what was signed as one type verifies as no other.
   */
  sign(agentId: string, type: string, payload: JsonObject): Promise<string | undefined>;
  /**
   * Checks the signature and that the signer's key is in force.
   * `whenever`: a key that was in force once will do, for records of the past.
   * @throws SwarmError unauthenticated
   */
  verify(type: string, jws: string, options?: { whenever?: boolean }): Promise<Signed>;
}
