/** What a secured swarm agrees on: one signed, versioned record, which every process reads from the store and checks against the pinned root key. */
import type { Policy } from "../policy/policy.ts";

/** Both base64url of 32 bytes. */
export interface PublicKeys {
  /** Ed25519: signs. */
  readonly sign: string;
  /** X25519: is encrypted to. */
  readonly encrypt: string;
}

export interface Member {
  readonly roles: readonly string[];
  readonly attributes?: Readonly<Record<string, string>>;
  /** May sign tokens for others: a server that agents reach over HTTP. */
  readonly issuer?: true;
  /** Rises when an administrator replaces its keys; keys of an older generation are dead. */
  readonly generation: number;
  /** Undefined until a redeemed key was taken into the bundle; until then it is proven by `enrolment`. */
  readonly keys?: PublicKeys;
  /** The public half of the one-time token, and until when it may be redeemed, in ms since the epoch. */
  readonly enrolment?: { readonly key: string; readonly expiresAt: number };
  readonly revokedAt?: number;
  readonly quarantinedAt?: number;
  /** Keys that were in force once: what they signed then can still be checked. */
  readonly retired?: readonly PublicKeys[];
}

export interface Bundle {
  /** Rises by one with each signing. */
  readonly version: number;
  readonly issuedAt: number;
  /** Tokens issued under a lower one are refused. */
  readonly epoch: number;
  readonly members: Readonly<Record<string, Member>>;
  readonly policies: readonly Policy[];
  /** Tokens refused before they end: `jti` → when it would have ended, in ms since the epoch. */
  readonly revokedTokens: Readonly<Record<string, number>>;
}
