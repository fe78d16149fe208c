/**
 * Access tokens: JWTs (RFC 7519, type `at+jwt` of RFC 9068) that a key of the swarm signs and that every server checks offline,
 * against the signed bundle. An agent's own key signs for the agent and its subagents; a key of an issuer for anyone.
 */
import { type JsonObject, newId, type Random, SwarmError, systemRandom } from "@mcp-swarm/core";
import { checkAgentId, rootAgent } from "../caller.ts";
import type { Bundle, PublicKeys } from "./bundle.ts";
import { type JwsRules, proveJws, readJws } from "./jws-strict.ts";
import { type AgentKeys, signJws } from "./keys.ts";

/** Longest life of a token. */
export const TOKEN_LIFETIME_MS_MAX = 15 * 60_000;
/** How far the clocks of two machines may lie apart. */
export const CLOCK_SKEW_MS = 5_000;
/** Longest token, audience and scope, in characters. */
export const TOKEN_LENGTH_MAX = 4_096;
export const AUDIENCE_LENGTH_MAX = 512;
export const SCOPE_LENGTH_MAX = 1_024;
const JTI_LENGTH_MAX = 64;

const TYPE = "at+jwt";
const RULES: JwsRules = { types: [TYPE], lengthMax: TOKEN_LENGTH_MAX };
const CLAIMS = ["iss", "sub", "aud", "jti", "iat", "nbf", "exp", "epoch", "scope"];
/** Characters of a scope (RFC 6749, section 3.3): words of printable ASCII but for `"` and `\`, parted by single spaces. */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/;

/** What this process knows of the swarm's members, as far as tokens need it. */
export interface Membership {
  /** @throws SwarmError unavailable when nothing that can be trusted says who is a member */
  check(): void;
  readonly bundle: Bundle;
  principal(agentId: string): { readonly revoked: boolean; readonly quarantined: boolean } | undefined;
  /** Whose signing key this is, with the key itself; undefined when it is nobody's. */
  signerOf(
    kid: string,
  ): Promise<
    { readonly agentId: string; readonly sign: string; readonly issuer: boolean; readonly inForce: boolean } | undefined
  >;
  /** The keys of the agent that are in force. */
  keysOf(agentId: string): Promise<PublicKeys | undefined>;
}

/** Who signs: an agent whose key this process holds. */
export type Signer = Pick<AgentKeys, "agentId" | "sign">;

export interface TokenRequest {
  /** The agent that the token speaks for: the signer or a subagent of it, or anyone when the signer is an issuer. */
  readonly agentId: string;
  /** The one server that the token is for. */
  readonly audience: string;
  /** Patterns of operations, parted by spaces, that the token is good for; absent: all that policy permits its agent. */
  readonly scope?: string;
  /** Its id; a fresh one when absent. */
  readonly jti?: string;
  /** At most `TOKEN_LIFETIME_MS_MAX`, which it is when absent. */
  readonly lifetimeMs?: number;
}

export interface IssuedToken {
  readonly token: string;
  readonly jti: string;
  readonly expiresAt: number;
}

/** What a token that was checked proves. */
export interface ProvenToken {
  /** Whom the bearer is: an agent or a subagent. */
  readonly agentId: string;
  readonly scope: string | undefined;
  readonly jti: string;
  readonly expiresAt: number;
}

/**
 * Signs a token. `now` is in ms since the epoch.
 * @throws SwarmError invalid_argument
 */
export async function issueToken(
  signer: Signer,
  { epoch }: Pick<Bundle, "epoch">,
  { agentId, audience, scope, jti: ownId, lifetimeMs = TOKEN_LIFETIME_MS_MAX }: TokenRequest,
  { now, random = systemRandom }: { now: number; random?: Random },
): Promise<IssuedToken> {
  checkAgentId(agentId);
  checkScope(scope);
  if (audience.length === 0 || audience.length > AUDIENCE_LENGTH_MAX) {
    throw new SwarmError("invalid_argument", "A token is for one server, and its name has a wrong length.", {
      hint: `Name the server by its URL, with at most ${AUDIENCE_LENGTH_MAX} characters.`,
    });
  }
  if (!(lifetimeMs > 0 && lifetimeMs <= TOKEN_LIFETIME_MS_MAX)) {
    throw new SwarmError("invalid_argument", "A token does not live so long.", {
      hint: `Ask for at most ${TOKEN_LIFETIME_MS_MAX} ms, and for another token when it ends.`,
    });
  }
  const iat = Math.floor(now / 1000);
  const exp = iat + Math.max(1, Math.floor(lifetimeMs / 1000));
  const jti = ownId ?? newId("token", random);
  const claims = { iss: signer.agentId, sub: agentId, aud: audience, jti, iat, nbf: iat, exp, epoch };
  const token = await signJws(signer.sign, TYPE, scope === undefined ? claims : { ...claims, scope });
  return { token, jti, expiresAt: exp * 1000 };
}

/**
 * Checks a token: its form, its signature by a key in force whose holder may speak for its subject, that it is for this server,
 * that it is now, and that neither it nor its subject nor its epoch was revoked. `audiences`: the names of this one server; `now`: ms
 * since the epoch.
 * @throws SwarmError unauthenticated, unavailable
 */
export async function verifyToken(
  text: string,
  membership: Membership,
  { audiences, now }: { audiences: readonly string[]; now: number },
): Promise<ProvenToken> {
  membership.check();
  const unproven = readJws(text, RULES);
  const signer = unproven.kid === undefined ? undefined : await membership.signerOf(unproven.kid);
  if (!signer?.inForce) throw refused("it is not signed by a key in force");
  await proveJws(unproven, signer.sign);
  const claims = claimsOf(unproven.payload);
  if (claims.iss !== signer.agentId) throw refused("its issuer is not who signed it");
  if (!signer.issuer && rootAgent(claims.sub) !== signer.agentId) throw refused("its signer may not speak for its subject");
  if (!audiences.includes(claims.aud)) throw refused("it is for another server");
  checkTimes(claims, now);
  checkInForce(claims, membership, signer.agentId);
  return { agentId: claims.sub, scope: claims.scope, jti: claims.jti, expiresAt: claims.exp * 1000 };
}

/** @throws SwarmError invalid_argument */
export function checkScope(scope: string | undefined): void {
  if (scope === undefined || (scope.length <= SCOPE_LENGTH_MAX && SCOPE.test(scope))) return;
  throw new SwarmError("invalid_argument", "Not a scope.", {
    hint: `Name operations such as task:claim or message:*, parted by single spaces, in at most ${SCOPE_LENGTH_MAX} characters.`,
  });
}

interface Claims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: string;
  readonly jti: string;
  /** In seconds since the epoch, like `nbf` and `exp`. */
  readonly iat: number;
  readonly nbf: number;
  readonly exp: number;
  readonly epoch: number;
  readonly scope: string | undefined;
}

function claimsOf(payload: JsonObject): Claims {
  const { iss, sub, aud, jti, iat, nbf, exp, epoch, scope } = payload;
  const unknown = Object.keys(payload).some((name) => !CLAIMS.includes(name));
  if (unknown) throw refused("it claims what no token does");
  if (typeof iss !== "string" || typeof sub !== "string" || !isAgentId(sub)) throw refused("it names no agent");
  if (typeof aud !== "string") throw refused("it is not for one server"); // a list is refused, also of one
  if (typeof jti !== "string" || jti.length === 0 || jti.length > JTI_LENGTH_MAX) throw refused("it has no id");
  if (!isSeconds(iat) || !isSeconds(nbf) || !isSeconds(exp) || !isSeconds(epoch)) throw refused("a time of it is missing");
  if (scope !== undefined && (typeof scope !== "string" || scope.length > SCOPE_LENGTH_MAX || !SCOPE.test(scope))) {
    throw refused("its scope is not one");
  }
  return { iss, sub, aud, jti, iat, nbf, exp, epoch, scope };
}

function checkTimes({ iat, nbf, exp }: Claims, now: number): void {
  if (exp * 1000 <= now - CLOCK_SKEW_MS) throw refused("it has ended");
  if (nbf * 1000 > now + CLOCK_SKEW_MS || iat * 1000 > now + CLOCK_SKEW_MS) throw refused("it is not valid yet");
  if ((exp - iat) * 1000 > TOKEN_LIFETIME_MS_MAX || exp <= iat) throw refused("it lives longer than a token may");
}

function checkInForce({ sub, jti, epoch }: Claims, membership: Membership, signer: string): void {
  const { bundle } = membership;
  if (epoch !== bundle.epoch) throw refused("it is of another epoch"); // a later one too: nobody knows it yet
  if (Object.hasOwn(bundle.revokedTokens, jti)) throw refused("it was revoked");
  for (const agentId of [rootAgent(sub), signer]) {
    const principal = membership.principal(agentId);
    if (!principal || principal.revoked) throw refused("it speaks for no member of this swarm");
    if (principal.quarantined) throw refused("it speaks for a member in quarantine");
  }
}

function isSeconds(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isAgentId(text: string): boolean {
  try {
    return checkAgentId(text) === text;
  } catch {
    return false;
  }
}

function refused(why: string): SwarmError {
  return new SwarmError("unauthenticated", `The token is refused: ${why}.`, {
    hint: "Ask the issuer for a new token, for this server.",
  });
}
