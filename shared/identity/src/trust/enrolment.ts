/** The one-time token with which an agent becomes a member, and its redemption. */
import { randomBytes } from "node:crypto";
import { SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import { BUNDLE_KEY, type Bundle, jwsOfRow, type Member, verifyBundle } from "./bundle.ts";
import { certificatesOf, kidKey, memberKey, proveKeys, signCertificate } from "./certificate.ts";
import { decodeCanonical } from "./jws-strict.ts";
import {
  dropStagedKeyFile,
  FORMER_KEYS_MAX,
  findKeys,
  promoteKeyFile,
  readKeyFile,
  stageKeyFile,
  unlessMissing,
} from "./key-file.ts";
import { type AgentKeys, generateKeyPair, isSigningKey, KEY_BYTES, type KeyPair, keyPairFromSecret, kidOf } from "./keys.ts";

/** How long a one-time token may be redeemed. */
export const ENROLMENT_MS = 10 * 60_000;
/** Tries against others who write the same rows. */
const TRIES_MAX = 10;

const PREFIX = "swarm_enrol_";

export interface EnrolmentToken {
  /** Whose public half stands in the bundle. */
  readonly key: KeyPair;
  /** The swarm's root public key, which whoever redeems the token pins. */
  readonly rootKey: string;
}

/** A fresh token of 256 bits. Its text is a secret: it is shown once and kept nowhere. */
export function newEnrolmentToken(rootKey: string): { text: string; key: KeyPair } {
  const secret = randomBytes(KEY_BYTES);
  const text = `${PREFIX}${Buffer.concat([secret, Buffer.from(rootKey, "base64url")]).toString("base64url")}`;
  return { text, key: keyPairFromSecret("Ed25519", secret) };
}

/** @throws SwarmError invalid_argument */
export function parseEnrolmentToken(text: string): EnrolmentToken {
  const whole = text.replace(/\s+/g, ""); // it is copied by hand, and mail breaks lines
  const bytes = whole.startsWith(PREFIX) ? decodeCanonical(whole.slice(PREFIX.length)) : undefined;
  const rootKey = bytes?.subarray(KEY_BYTES).toString("base64url");
  if (bytes?.length !== 2 * KEY_BYTES || rootKey === undefined || !isSigningKey(rootKey)) {
    throw new SwarmError("invalid_argument", "This is not a one-time token.", {
      hint: `Give all that \`mcp-swarm-security enroll\` printed, in one line; it begins with ${PREFIX}.`,
    });
  }
  return { key: keyPairFromSecret("Ed25519", bytes.subarray(0, KEY_BYTES)), rootKey };
}

export interface Redemption {
  readonly store: Store;
  readonly token: string;
  readonly keyFile: string | ((agentId: string) => string);
}

/**
 * Makes the agent's keys and its key file, and puts the public halves into the store, proven by the token. A second redemption
 * finds the keys of the first when its key file is here, and is refused otherwise. `keyFile`: where it is to be, which may go by the
 * agent that the token was made for.
 * @throws SwarmError invalid_argument; failed_precondition when the token has ended, was used, or is not of this swarm;
 *   already_exists when another agent's key file is in the way
 */
export async function redeem({ store, token, keyFile: place }: Redemption): Promise<AgentKeys> {
  const enrolment = parseEnrolmentToken(token);
  for (let n = 0; n < TRIES_MAX; n++) {
    const jws = jwsOfRow((await store.get(BUNDLE_KEY))?.value);
    const { agentId, member } = enrolledBy(await bundleOf(jws, enrolment.rootKey), enrolment.key);
    const keyFile = typeof place === "string" ? place : place(agentId);
    const row = await store.get(memberKey(agentId));
    const inForce = (await proveKeys(agentId, member, certificatesOf(row?.value))).chain.at(-1);
    if (inForce) return await redeemedBefore(keyFile, kidOf(inForce.sign));
    const expiresAt = member.enrolment?.expiresAt ?? 0;
    const issuedAt = await store.now();
    checkInTime(issuedAt, expiresAt);
    const keys = await freshKeys(keyFile, { agentId, generation: member.generation, rootKey: enrolment.rootKey });
    const certificate = await signCertificate(keys, { agentId, generation: member.generation, issuedAt }, enrolment.key);
    const done = await withStagedKeys(keyFile, keys, () =>
      store.transact((tx) => {
        checkInTime(tx.now, expiresAt);
        if (jwsOfRow(tx.get(BUNDLE_KEY)?.value) !== jws || tx.get(memberKey(agentId))?.rev !== row?.rev) return "";
        putCertificates(tx, keys, [certificate]);
        return keys.sign.kid;
      }),
    );
    if (done) return keys;
  }
  throw new SwarmError("conflict", "The swarm's trust bundle changed each time this was tried.", { hint: "Try again." });
}

/** Writes an agent's certificates and where its new key is found. */
export function putCertificates(tx: Transaction, { agentId, sign }: AgentKeys, certificates: readonly string[]): void {
  tx.put(memberKey(agentId), { certificates });
  tx.put(kidKey(sign.kid), { agentId });
}

/**
 * Stages the key file, lets the store learn of the keys, and makes the staged file the key file when `commit` answers that they
 * are in force. After a commit whose outcome is not known they stay staged, where they are found if they are.
 */
export async function withStagedKeys(keyFile: string, keys: AgentKeys, commit: () => Promise<string>): Promise<boolean> {
  await stageKeyFile(keyFile, keys);
  let kid: string;
  try {
    kid = await commit();
  } catch (error) {
    if (error instanceof SwarmError && error.code !== "unavailable") await dropStagedKeyFile(keyFile, keys);
    throw error;
  }
  if (kid === keys.sign.kid) await promoteKeyFile(keyFile, keys);
  else await dropStagedKeyFile(keyFile, keys);
  return kid === keys.sign.kid;
}

async function bundleOf(jws: string | undefined, rootKey: string): Promise<Bundle> {
  const wrongStore = "Set SWARM_STORE to the store of the swarm that the token is for.";
  if (jws === undefined) throw new SwarmError("failed_precondition", "This store's swarm is not secured.", { hint: wrongStore });
  return verifyBundle(jws, rootKey).catch((cause: unknown) => {
    throw new SwarmError("failed_precondition", "This store's trust bundle is not signed by the root key that the token names.", {
      hint: wrongStore,
      cause,
    });
  });
}

function enrolledBy({ members }: Bundle, { publicKey }: KeyPair): { agentId: string; member: Member } {
  for (const [agentId, member] of Object.entries(members)) {
    if (member.enrolment?.key === publicKey && member.revokedAt === undefined) return { agentId, member };
  }
  throw new SwarmError("failed_precondition", "This one-time token is not good, or not any more.", { hint: ASK_AGAIN });
}

const ASK_AGAIN = "Ask for a new one: `mcp-swarm-security enroll <agent>`, or `--replace` when the agent is enrolled.";

function checkInTime(now: number, expiresAt: number): void {
  if (now <= expiresAt) return;
  throw new SwarmError("failed_precondition", `This one-time token has ended: it lives ${ENROLMENT_MS / 60_000} minutes.`, {
    hint: ASK_AGAIN,
  });
}

async function redeemedBefore(keyFile: string, kid: string): Promise<AgentKeys> {
  const keys = await findKeys(keyFile, kid);
  if (keys) return keys;
  throw new SwarmError("failed_precondition", "This one-time token was redeemed already.", {
    hint: "If it was not you, have the agent revoked now. Otherwise use the key file that was made then, or ask for a new token.",
  });
}

/** A file of dead keys of the same agent may be replaced; what was encrypted to them still opens. */
async function freshKeys(keyFile: string, of: Pick<AgentKeys, "agentId" | "generation" | "rootKey">): Promise<AgentKeys> {
  const before = await unlessMissing(readKeyFile(keyFile));
  if (before && !(before.agentId === of.agentId && before.rootKey === of.rootKey && before.generation < of.generation)) {
    throw new SwarmError("already_exists", `There is a key file at ${keyFile} already.`, {
      hint: "Name another path with --key-file.",
    });
  }
  return {
    ...of,
    sign: generateKeyPair("Ed25519"),
    encrypt: generateKeyPair("X25519"),
    formerEncrypt: before ? formerOf(before) : [],
  };
}

/** What the keys after these keep of them. */
export function formerOf({ encrypt, formerEncrypt }: AgentKeys): readonly KeyPair[] {
  return [encrypt, ...formerEncrypt].slice(0, FORMER_KEYS_MAX);
}
