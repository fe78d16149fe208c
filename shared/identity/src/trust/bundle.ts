/** What a secured swarm agrees on: one signed, versioned record, which every process reads from the store and checks against the pinned root key. */
import type { JsonObject } from "@mcp-swarm/core";
import { SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { checkAgentId } from "../caller.ts";
import { POLICIES_MAX, type Policy } from "../policy/policy.ts";
import { proveJws, readJws } from "./jws-strict.ts";
import { isEncryptionKey, isSigningKey, type KeyPair, kidOf, signJws } from "./keys.ts";

export { BUNDLE_KEY } from "./bundle-key.ts";

/** Most agents that one swarm enrols, the revoked included. */
export const MEMBERS_MAX = 2_000;
export const ROLES_MAX = 16;
export const ROLE_LENGTH_MAX = 64;
export const ATTRIBUTES_MAX = 32;
export const ATTRIBUTE_LENGTH_MAX = 256;
/** Former keys of one agent that are kept, newest first. */
export const RETIRED_KEYS_MAX = 10;
/** Tokens refused before they end; they leave the bundle when they would have ended. */
export const REVOKED_TOKENS_MAX = 1_000;
/** Largest signed bundle, in characters: it fits one row. */
export const BUNDLE_LENGTH_MAX = 1_000_000;
/** Up to here members and policies are added. The rest is room to take keys in, and to revoke every member, at any time. */
export const BUNDLE_LENGTH_GROWN_MAX = 750_000;
/** Header and signature. */
const ENVELOPE_LENGTH = 300;

const TYPE = "mcp-swarm-bundle+jws";

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
  /** The public half of the one-time token, and until when it may be redeemed, in ms since the epoch. Never beside `keys`. */
  readonly enrolment?: { readonly key: string; readonly expiresAt: number };
  readonly revokedAt?: number;
  readonly quarantinedAt?: number;
  /** Ed25519 keys that were in force once, newest first: what they signed then can still be checked. */
  readonly retired?: readonly string[];
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

const whole = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const signingKey = z.string().refine(isSigningKey);
const publicKeys = z.strictObject({ sign: signingKey, encrypt: z.string().refine(isEncryptionKey) });
const role = z.string().min(1).max(ROLE_LENGTH_MAX);
const names = z.array(z.string());

const member = z
  .strictObject({
    roles: z.array(role).max(ROLES_MAX),
    attributes: z
      .record(z.string().min(1).max(ROLE_LENGTH_MAX), z.string().max(ATTRIBUTE_LENGTH_MAX))
      .refine((attributes) => Object.keys(attributes).length <= ATTRIBUTES_MAX)
      .exactOptional(),
    issuer: z.literal(true).exactOptional(),
    generation: whole,
    keys: publicKeys.exactOptional(),
    enrolment: z.strictObject({ key: signingKey, expiresAt: whole }).exactOptional(),
    revokedAt: whole.exactOptional(),
    quarantinedAt: whole.exactOptional(),
    retired: z.array(signingKey).max(RETIRED_KEYS_MAX).exactOptional(),
  })
  .refine((one) => one.keys === undefined || one.enrolment === undefined);

/** What a newer version of this program may have added to a policy is left for the decision, which denies what it does not know. */
const policy = z.looseObject({
  id: z.string().min(1),
  effect: z.enum(["permit", "forbid"]),
  operations: names,
  agents: names.exactOptional(),
  roles: names.exactOptional(),
  resources: names.exactOptional(),
  when: z.looseObject({}).exactOptional(),
});

const bundle = z
  .strictObject({
    version: whole.min(1),
    issuedAt: whole,
    epoch: whole,
    members: z.record(z.string().refine(isMemberId), member),
    policies: z.array(policy).max(POLICIES_MAX),
    revokedTokens: z.record(z.string().min(1).max(128), whole),
  })
  .refine(({ members }) => Object.keys(members).length <= MEMBERS_MAX)
  .refine(({ policies }) => new Set(policies.map(({ id }) => id)).size === policies.length)
  .refine(({ revokedTokens }) => Object.keys(revokedTokens).length <= REVOKED_TOKENS_MAX)
  .refine(({ members }) => eachKeyOnce(Object.values(members)));

function isMemberId(id: string): boolean {
  try {
    return !checkAgentId(id).includes("/");
  } catch {
    return false;
  }
}

/** A key that two members had would let one sign for the other. */
function eachKeyOnce(members: readonly z.infer<typeof member>[]): boolean {
  const keys = members.flatMap(({ keys, enrolment, retired = [] }) => [
    ...(keys ? [keys.sign] : []),
    ...(enrolment ? [enrolment.key] : []),
    ...retired,
  ]);
  return new Set(keys).size === keys.length;
}

/**
 * Signs a bundle with the root key.
 * @throws SwarmError invalid_argument when it breaks a bound, limit_exceeded when it would not fit its row, unauthenticated when a
 *   policy holds what a signed text may not (names that objects have by themselves, deep nesting)
 */
export async function signBundle(content: Bundle, root: KeyPair): Promise<string> {
  const checked = bundle.safeParse(content);
  if (!checked.success) {
    const path = checked.error.issues[0]?.path.filter((step) => typeof step === "string" && /^[\w.@-]+$/.test(step)).join(".");
    throw new SwarmError("invalid_argument", `This would not be a trust bundle: ${path || "a bound of it"} is wrong.`, {
      hint: `A swarm has at most ${MEMBERS_MAX} members with ${ROLES_MAX} roles and ${ATTRIBUTES_MAX} attributes each, and ${POLICIES_MAX} policies.`,
    });
  }
  if (signedLength(content) > BUNDLE_LENGTH_MAX) throw bundleTooLarge();
  const jws = await signJws(root, TYPE, content as unknown as JsonObject);
  await verifyBundle(jws, root.publicKey); // what no process would read must not take the place of what they have
  return jws;
}

/** At most so many characters a bundle has when it is signed. */
export function signedLength(content: Bundle): number {
  return Math.ceil((Buffer.byteLength(JSON.stringify(content)) * 4) / 3) + ENVELOPE_LENGTH;
}

export function bundleTooLarge(): SwarmError {
  return new SwarmError("limit_exceeded", "The trust bundle would be larger than its row may be.", {
    hint: "Delete policies that are no longer used, or give members fewer attributes.",
  });
}

/**
 * The bundle that the root key signed.
 * @throws SwarmError unauthenticated
 */
export async function verifyBundle(jws: string, rootKey: string): Promise<Bundle> {
  const unproven = readJws(jws, { types: [TYPE], lengthMax: BUNDLE_LENGTH_MAX });
  if (unproven.kid !== kidOf(rootKey)) throw new SwarmError("unauthenticated", "The trust bundle is signed by another key.");
  await proveJws(unproven, rootKey);
  const parsed = bundle.safeParse(unproven.payload);
  if (!parsed.success) throw new SwarmError("unauthenticated", "The trust bundle is not one that this version can read.");
  return unproven.payload as unknown as Bundle;
}

/** The text of a bundle's row; undefined when it holds none. */
export function jwsOfRow(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || !("jws" in value)) return undefined;
  return typeof value.jws === "string" ? value.jws : undefined;
}
