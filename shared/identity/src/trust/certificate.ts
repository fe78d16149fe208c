/**
 * What an agent's own row proves about its keys before the root key has vouched for them: a chain of certificates.
 *
 * | key | value | why |
 * |---|---|---|
 * | `member/<agent>` | {certificates} | the first is signed by the one-time token's key, each further one by the key it replaces |
 * | `kid/<kid>` | {agentId} | whose key this is; a hint where to look, which proves nothing |
 *
 * Anyone may write these rows and nobody has to be believed: a chain counts as far as it follows from what the bundle says of the
 * member (its keys, or the public half of its one-time token). The next bundle takes the last proven keys in.
 */
import type { JsonObject } from "@mcp-swarm/core";
import { segment } from "@mcp-swarm/store";
import * as z from "zod";
import type { Member, PublicKeys } from "./bundle.ts";
import { proveJws, readJws } from "./jws-strict.ts";
import { type AgentKeys, isEncryptionKey, isSigningKey, type KeyPair, kidOf, publicKeysOf, signJws } from "./keys.ts";

export const memberKey = (agentId: string): string => `member/${segment(agentId)}`;
export const kidKey = (kid: string): string => `kid/${segment(kid)}`;

/** Certificates in one row: how often an agent may replace its keys before the next bundle takes them in. */
export const CERTIFICATES_MAX = 10;
const CERTIFICATE_LENGTH_MAX = 2_000;
/** The new key signs what it is to be for, which proves that the agent holds it; then the key before it signs that. */
const CLAIM_TYPE = "mcp-swarm-key-claim+jws";
const TYPE = "mcp-swarm-key+jws";

export interface Certificate {
  readonly agentId: string;
  /** Of the member, for which these keys were made. */
  readonly generation: number;
  readonly keys: PublicKeys;
  /** Ms since the epoch by the store's clock; of the first one it must lie within the enrolment. */
  readonly issuedAt: number;
}

const schema = z.strictObject({
  agentId: z.string(),
  generation: z.number().int().nonnegative(),
  keys: z.strictObject({ sign: z.string().refine(isSigningKey), encrypt: z.string().refine(isEncryptionKey) }),
  issuedAt: z.number().int().nonnegative(),
});

/** `by`: the one-time token's key, or the key that is replaced. */
export async function signCertificate(
  { sign, encrypt }: Pick<AgentKeys, "sign" | "encrypt">,
  of: Omit<Certificate, "keys">,
  by: KeyPair,
): Promise<string> {
  const certificate: Certificate = { ...of, keys: publicKeysOf({ sign, encrypt }) };
  const claim = await signJws(sign, CLAIM_TYPE, certificate as unknown as JsonObject);
  return signJws(by, TYPE, { claim });
}

/** The certificates that a member's row holds; none when it is missing or is anything else. */
export function certificatesOf(value: unknown): readonly string[] {
  if (typeof value !== "object" || value === null || !("certificates" in value)) return [];
  const { certificates } = value;
  if (!Array.isArray(certificates) || certificates.length > CERTIFICATES_MAX) return [];
  return certificates.every((one) => typeof one === "string") ? certificates : [];
}

/** The public key that a member's chain begins with, as the bundle says it. */
export function anchorOf(member: Member): string | undefined {
  return member.keys?.sign ?? member.enrolment?.key;
}

export interface Proven {
  /** Oldest first; the last are in force. Begins with the bundle's own when it has some. Empty: nothing is proven. */
  readonly chain: readonly PublicKeys[];
  /** The certificates that prove what follows the anchor. */
  readonly certificates: readonly string[];
}

/** Follows the chain from what the bundle says of the member, as far as it holds. */
export async function proveKeys(agentId: string, member: Member, certificates: readonly string[]): Promise<Proven> {
  const chain: PublicKeys[] = member.keys ? [member.keys] : [];
  const proving: string[] = [];
  let signer = anchorOf(member);
  for (const jws of certificates) {
    if (signer === undefined) break;
    const certificate = await certificateBy(signer, jws);
    if (certificate === undefined) continue; // from before the anchor, or by nobody
    if (certificate.agentId !== agentId || certificate.generation !== member.generation) break;
    if (chain.length === 0 && certificate.issuedAt > (member.enrolment?.expiresAt ?? 0)) break;
    if (chain.some(({ sign }) => sign === certificate.keys.sign) || member.retired?.includes(certificate.keys.sign)) break;
    chain.push(certificate.keys);
    proving.push(jws);
    signer = certificate.keys.sign;
  }
  return { chain, certificates: proving };
}

/** The certificate when this key signed it. */
async function certificateBy(signer: string, jws: string): Promise<Certificate | undefined> {
  try {
    const unproven = readJws(jws, { types: [TYPE], lengthMax: CERTIFICATE_LENGTH_MAX });
    const { claim } = unproven.payload;
    if (unproven.kid !== kidOf(signer) || typeof claim !== "string") return undefined;
    await proveJws(unproven, signer);
    const unprovenClaim = readJws(claim, { types: [CLAIM_TYPE], lengthMax: CERTIFICATE_LENGTH_MAX });
    const { data } = schema.safeParse(unprovenClaim.payload);
    if (data === undefined || unprovenClaim.kid !== kidOf(data.keys.sign)) return undefined;
    await proveJws(unprovenClaim, data.keys.sign);
    return data;
  } catch {
    return undefined; // a row that anyone may have written: what proves nothing is passed over
  }
}
