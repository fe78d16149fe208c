/** Client assertions: how an agent asks an issuer for a token without a secret that travels (RFC 7523, private_key_jwt). */
import { createHash } from "node:crypto";
import { SwarmError } from "@mcp-swarm/core";
import type { Transaction } from "@mcp-swarm/store";
import { checkAgentId, rootAgent } from "../caller.ts";
import { type JwsRules, proveJws, readJws } from "./jws-strict.ts";
import { CLOCK_SKEW_MS, type Membership } from "./token.ts";

/*
 * | key        | value          | why                                                                |
 * |------------|----------------|--------------------------------------------------------------------|
 * | jti/<hash> | {} (expires)   | an assertion was used; the row outlives it, so that none counts twice |
 */

/** Longest life of an assertion. */
export const ASSERTION_LIFETIME_MS_MAX = 5 * 60_000;
const ASSERTION_LENGTH_MAX = 4_096;
const JTI_LENGTH_MAX = 256;

/** `JWT` is what libraries write; the other is the type that RFC 7523's revision asks for. `kid` is optional: many set none. */
const RULES: JwsRules = { types: ["JWT", "client-authentication+jwt"], lengthMax: ASSERTION_LENGTH_MAX, kidOptional: true };

/** An assertion that was checked, but for whether it was used before: that is decided where the token is issued. */
export interface ProvenAssertion {
  readonly agentId: string;
  /** Where its use is remembered. */
  readonly key: string;
  readonly expiresAt: number;
}

/**
 * Checks who signed an assertion and that it is meant for this issuer, now. `audiences`: the names of this issuer that count;
 * `now`: ms since the epoch. What comes back still has to pass `useAssertion`.
 * @throws SwarmError unauthenticated, unavailable
 */
export async function verifyAssertion(
  text: string,
  membership: Membership,
  { audiences, now }: { audiences: readonly string[]; now: number },
): Promise<ProvenAssertion> {
  membership.check();
  const unproven = readJws(text, RULES);
  const { iss, sub, aud, jti, exp, iat, nbf } = unproven.payload;
  if (typeof sub !== "string" || iss !== sub) throw refused("its issuer and its subject are not one agent");
  const agentId = agentIdOf(sub);
  const member = membership.principal(rootAgent(agentId));
  if (!member || member.revoked || member.quarantined) throw refused("its agent is no member of this swarm in good standing");
  if (unproven.kid !== undefined) {
    const signer = await membership.signerOf(unproven.kid);
    if (!signer?.inForce || signer.agentId !== rootAgent(agentId)) throw refused("its key is not its agent's");
  }
  const keys = await membership.keysOf(rootAgent(agentId));
  if (!keys) throw refused("its agent has no key in force");
  await proveJws(unproven, keys.sign);
  if (typeof aud !== "string" || !audiences.includes(aud)) throw refused("it is for another issuer");
  if (typeof jti !== "string" || jti.length === 0 || jti.length > JTI_LENGTH_MAX) throw refused("it has no id");
  if (!isSeconds(exp) || !isSeconds(iat) || (nbf !== undefined && !isSeconds(nbf))) throw refused("a time of it is missing");
  if (exp * 1000 <= now - CLOCK_SKEW_MS) throw refused("it has ended");
  if (Math.max(iat, nbf ?? iat) * 1000 > now + CLOCK_SKEW_MS) throw refused("it is not valid yet");
  if ((exp - iat) * 1000 > ASSERTION_LIFETIME_MS_MAX || exp <= iat) throw refused("it lives longer than an assertion may");
  const hash = createHash("sha256")
    .update(`${rootAgent(agentId)}\0${jti}`)
    .digest("hex");
  return { agentId, key: `jti/${hash}`, expiresAt: exp * 1000 };
}

/**
 * Uses an assertion up, inside the transaction that its token is issued in.
 * @throws SwarmError unauthenticated when it was used before
 */
export function useAssertion(tx: Pick<Transaction, "now" | "get" | "put">, { key, expiresAt }: ProvenAssertion): void {
  if (tx.get(key)) throw refused("it was used before");
  // readers may think it valid for the skew after its end, and may see another process's clock that late again
  tx.put(key, {}, { ttlMs: Math.max(0, expiresAt - tx.now) + 2 * CLOCK_SKEW_MS });
}

function agentIdOf(text: string): string {
  try {
    return checkAgentId(text);
  } catch (cause) {
    throw refused("it names no agent", cause);
  }
}

function isSeconds(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function refused(why: string, cause?: unknown): SwarmError {
  return new SwarmError("unauthenticated", `The client assertion is refused: ${why}.`, {
    hint: "Sign a fresh one with the agent's own key: iss and sub its id, aud this issuer, exp within 5 minutes, a new jti.",
    cause,
  });
}
