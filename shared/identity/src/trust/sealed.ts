/**
 * Sealed envelopes: what one agent says to others so that nobody else can read it, and nobody else can have said it. The sender signs
 * {from, to, jti, iat, payload} (JWS, EdDSA), and the signed text is encrypted to each receiver's X25519 key (one General JWE, RFC 7516:
 * ECDH-ES+A256KW, A256GCM). Names stand inside the signature, so a receiver who encrypts the signed text on to a third agent is found
 * out: that agent is not among those it was said to. (Davis, "Defective Sign & Encrypt", 2001.)
 */
import { createHash } from "node:crypto";
import { type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import { segment, type Transaction } from "@mcp-swarm/store";
import { GeneralEncrypt, type GeneralJWE, generalDecrypt, importJWK, type JWK } from "jose";
import { checkAgentId, rootAgent } from "../caller.ts";
import type { Signatures } from "../signatures.ts";
import type { PublicKeys } from "./bundle.ts";
import { decodeCanonical, strictJson } from "./jws-strict.ts";
import { type KeyPair, kidOfEncryption, publicJwk } from "./keys.ts";
import { CLOCK_SKEW_MS } from "./token.ts";

/*
 * | key                     | value          | why                                                          |
 * |-------------------------|----------------|--------------------------------------------------------------|
 * | sealed/<agent>/<hash>   | {} (expires)   | this agent has opened this envelope; a second time is a replay |
 */

/** Most agents that one envelope is sealed to. */
export const RECIPIENTS_MAX = 100;
/** Largest envelope, in characters. */
export const SEALED_LENGTH_MAX = 1_048_576;
/** Oldest envelope that `useSealed` lets pass: so long each one that was opened is remembered. */
export const SEALED_AGE_MS_MAX = 24 * 60 * 60_000;
const JTI_LENGTH_MAX = 128;

const ALGORITHM = "ECDH-ES+A256KW";
const ENCRYPTION = "A256GCM";
const TYPE = "mcp-swarm-sealed+jwe";

/** What goes into an envelope. */
export interface Sealed {
  /** What it is for; an envelope of one type opens as no other. Letters and hyphens. */
  readonly type: string;
  /** Agents, subagents included; at most `RECIPIENTS_MAX`. */
  readonly to: readonly string[];
  /** Its own id: what is sealed under one id, the receivers take once. */
  readonly jti: string;
  /** Ms since the epoch. */
  readonly iat: number;
  readonly payload: Json;
  /** What the envelope belongs to, for example the name of a secret: in clear, and bound to it. */
  readonly boundTo?: Json;
}

/** An envelope that was opened, with who said it. */
export interface Opened {
  readonly from: string;
  readonly to: readonly string[];
  readonly jti: string;
  readonly iat: number;
  readonly payload: Json;
}

/** What sealing needs of a process: its signature, and others' keys. */
export interface Sealer {
  readonly signatures: Signatures;
  /** The keys of a member that are in force. */
  keysOf(agentId: string): Promise<PublicKeys | undefined>;
}

/** What opening needs. */
export interface Opener {
  readonly agentId: string;
  /** The agent's own X25519 keys, those that it had before too: what was sealed to them still opens. */
  readonly decryptionKeys: readonly KeyPair[];
  readonly signatures: Pick<Signatures, "verify">;
}

/** What the one who opens knows of the envelope already; what differs from it is refused. */
export interface Expected {
  readonly type: string;
  readonly jti?: string;
  readonly from?: string;
  readonly boundTo?: Json;
  /** For what was kept: the sender's key need not be in force any more. */
  readonly whenever?: boolean;
}

/**
 * Signs as `from` and encrypts to all of `to`; a subagent reads with its agent's key. The answer is the JSON text of the JWE.
 * @throws SwarmError failed_precondition (this process holds no key of `from`), not_found (a receiver has no key), invalid_argument
 */
export async function seal(
  { type, to, jti, iat, payload, boundTo }: Sealed,
  from: string,
  { signatures, keysOf }: Sealer,
): Promise<string> {
  const receivers = [...new Set(to)];
  if (receivers.length === 0 || receivers.length > RECIPIENTS_MAX) {
    throw new SwarmError("invalid_argument", "An envelope has too many receivers, or none.", {
      hint: `Name 1 to ${RECIPIENTS_MAX} agents.`,
    });
  }
  const keys = new Map<string, string>();
  for (const agentId of new Set(receivers.map((receiver) => rootAgent(checkAgentId(receiver))))) {
    const known = await keysOf(agentId);
    if (!known) {
      throw new SwarmError("not_found", `No key of ${agentId} is known.`, {
        hint: "Only an enrolled agent that has redeemed its token can be sealed to. Leave it out, or enrol it first.",
      });
    }
    keys.set(agentId, known.encrypt);
  }
  const signed = await signatures.sign(from, sealedType(type), { from, to: receivers, jti, iat, payload });
  if (signed === undefined) {
    throw new SwarmError("failed_precondition", "This server holds no key of yours, so it cannot sign for you.", {
      hint: "Mount the server over stdio with SWARM_KEY_FILE, or send without encryption.",
    });
  }
  const text = await encryptTo(signed, [...keys.values()], boundTo);
  if (text.length > SEALED_LENGTH_MAX) {
    throw new SwarmError("limit_exceeded", "The envelope is too large.", {
      hint: `Seal at most ${SEALED_LENGTH_MAX / 2} bytes.`,
    });
  }
  return text;
}

/**
 * Opens an envelope with the agent's own key and checks who said it, that it was said to this agent, and all that is `expected`.
 * @throws SwarmError unauthenticated; failed_precondition when it was not sealed to a key that this process holds
 */
export async function open(text: string, { agentId, decryptionKeys, signatures }: Opener, expected: Expected): Promise<Opened> {
  const jws = await decryptOwn(text, decryptionKeys, expected.boundTo);
  const signed = await signatures.verify(sealedType(expected.type), jws, expected.whenever ? { whenever: true } : {});
  const { from, to, jti, iat, payload } = said(signed.payload);
  if (from !== signed.agentId) throw refused("who signed it is not who it says it is from");
  if (!to.some((receiver) => rootAgent(receiver) === rootAgent(agentId))) throw refused("it was not said to you");
  if (expected.from !== undefined && from !== expected.from) throw refused("it is from another agent than it seems");
  if (expected.jti !== undefined && jti !== expected.jti) throw refused("it was sealed as another message");
  return { from, to, jti, iat, payload };
}

/**
 * Remembers, inside a transaction, that this agent has opened an envelope.
 * @throws SwarmError unauthenticated when it did before, or when the envelope is older than that is remembered
 */
export function useSealed(tx: Pick<Transaction, "now" | "get" | "put">, agentId: string, { from, jti, iat }: Opened): void {
  if (iat > tx.now + CLOCK_SKEW_MS) throw refused("it was sealed at a time that has not come");
  const leftMs = iat + SEALED_AGE_MS_MAX - tx.now;
  if (leftMs <= 0) throw refused("it is too old to tell whether you have opened it before");
  const hash = createHash("sha256")
    .update(JSON.stringify([from, jti]))
    .digest("hex");
  const key = `sealed/${segment(rootAgent(agentId))}/${hash}`;
  if (tx.get(key)) throw refused("you have opened it before, so this is a replay");
  tx.put(key, {}, { ttlMs: leftMs + 2 * CLOCK_SKEW_MS });
}

/** A secret as its readers get it. */
export interface OpenedSecret {
  readonly value: Json;
  /** Who put it. */
  readonly from: string;
}

/**
 * Seals one version of a secret to its readers. Name and version are bound in, so that no other secret, and no older version, can be put in
 * its place unnoticed.
 * @throws as `seal` does
 */
export function sealSecret(
  secret: { name: string; version: number; value: Json; readers: readonly string[]; iat: number },
  from: string,
  sealer: Sealer,
): Promise<string> {
  const { name, version, value, readers, iat } = secret;
  return seal(
    { type: "secret", to: readers, jti: secretId(name, version), iat, payload: value, boundTo: [name, version] },
    from,
    sealer,
  );
}

/** @throws as `open` does */
export async function openSecret(text: string, of: { name: string; version: number }, opener: Opener): Promise<OpenedSecret> {
  const { name, version } = of;
  const expected = { type: "secret", jti: secretId(name, version), boundTo: [name, version], whenever: true };
  const { payload, from } = await open(text, opener, expected);
  return { value: payload, from };
}

function secretId(name: string, version: number): string {
  return createHash("sha256")
    .update(JSON.stringify([name, version]))
    .digest("base64url");
}

function sealedType(type: string): string {
  return `sealed-${type}`;
}

/** What was signed, by its form. */
function said({ from, to, jti, iat, payload, ...others }: JsonObject): Opened {
  const named = typeof from === "string" && typeof jti === "string" && jti.length > 0 && jti.length <= JTI_LENGTH_MAX;
  const timed = typeof iat === "number" && Number.isSafeInteger(iat);
  const listed = Array.isArray(to) && to.length > 0 && to.length <= RECIPIENTS_MAX;
  if (!named || !timed || !listed || payload === undefined || Object.keys(others).length > 0) throw refused("its form is wrong");
  const receivers: Json[] = to;
  if (!receivers.every((receiver) => typeof receiver === "string")) throw refused("its form is wrong");
  return { from, to: receivers, jti, iat, payload };
}

function associated(boundTo: Json): Buffer {
  return Buffer.from(JSON.stringify(boundTo));
}

async function encryptTo(plaintext: string, publicKeys: readonly string[], boundTo: Json | undefined): Promise<string> {
  const jwe = new GeneralEncrypt(Buffer.from(plaintext)).setProtectedHeader({ enc: ENCRYPTION, typ: TYPE });
  if (boundTo !== undefined) jwe.setAdditionalAuthenticatedData(associated(boundTo));
  for (const x of publicKeys) {
    const key = await importJWK(publicJwk("X25519", x), ALGORITHM);
    jwe.addRecipient(key).setUnprotectedHeader({ alg: ALGORITHM, kid: kidOfEncryption(x) });
  }
  return JSON.stringify(await jwe.encrypt());
}

async function decryptOwn(text: string, keys: readonly KeyPair[], boundTo: Json | undefined): Promise<string> {
  const jwe = readJwe(text);
  const aad = boundTo === undefined ? undefined : associated(boundTo).toString("base64url");
  if (jwe.aad !== aad) throw refused("it belongs to something else");
  for (const { kid, privateKey } of keys) {
    const own = jwe.recipients.filter(({ header }) => header?.kid === kid);
    if (own.length > 1) throw refused("it names a receiver twice");
    if (own.length === 0) continue;
    try {
      const { plaintext } = await generalDecrypt({ ...jwe, recipients: own }, privateKey, {
        keyManagementAlgorithms: [ALGORITHM],
        contentEncryptionAlgorithms: [ENCRYPTION],
      });
      return Buffer.from(plaintext).toString("utf8");
    } catch (cause) {
      throw refused("it does not open with your key", cause);
    }
  }
  throw new SwarmError("failed_precondition", "It was not sealed to a key that this server holds.", {
    hint: "Read it where your key file is: a server mounted over stdio with SWARM_KEY_FILE. What was sealed to a lost key is lost.",
  });
}

type Fields = Readonly<Record<string, unknown>>;

/** Reads the JSON of a General JWE: the members that `encryptTo` writes and no others, each canonical. @throws SwarmError unauthenticated */
function readJwe(text: string): GeneralJWE {
  if (typeof text !== "string" || text.length === 0 || text.length > SEALED_LENGTH_MAX) throw refused("its length is wrong");
  const { protected: head, iv, ciphertext, tag, aad, recipients, ...others } = object(parsed(text));
  if (Object.keys(others).length > 0) throw refused("it has members that no envelope has");
  if (!isBytes(head) || !isBytes(iv, 12) || !isBytes(ciphertext) || !isBytes(tag, 16)) throw refused("its form is wrong");
  if (aad !== undefined && !isBytes(aad)) throw refused("its form is wrong");
  const { enc, typ, epk, ...more } = object(parsed(Buffer.from(head, "base64url").toString("utf8")));
  if (enc !== ENCRYPTION || typ !== TYPE || Object.keys(more).length > 0) throw refused("its header is wrong");
  if (!Array.isArray(recipients) || recipients.length === 0 || recipients.length > RECIPIENTS_MAX) {
    throw refused("its receivers are wrong");
  }
  // with one receiver the ephemeral key stands in the common header
  if ((epk !== undefined) !== (recipients.length === 1)) throw refused("its header is wrong");
  if (epk !== undefined) checkEphemeral(epk);
  const entries = recipients.map((entry: unknown) => {
    const { encrypted_key, header, ...rest } = object(entry);
    const { alg, kid, epk: own, ...unknown } = object(header);
    const wrong = Object.keys(rest).length > 0 || Object.keys(unknown).length > 0 || alg !== ALGORITHM;
    if (wrong || !isBytes(encrypted_key, 40) || !isBytes(kid, 32)) throw refused("its receivers are wrong");
    if ((own !== undefined) === (recipients.length === 1)) throw refused("its receivers are wrong");
    if (own === undefined) return { encrypted_key, header: { alg, kid } };
    checkEphemeral(own);
    return { encrypted_key, header: { alg, kid, epk: own as JWK } };
  });
  return { protected: head, iv, ciphertext, tag, recipients: entries, ...(aad === undefined ? {} : { aad }) };
}

/** X25519 ignores the highest bit of a public key (RFC 7748, section 5): with it set, one key would have two writings. */
function checkEphemeral(epk: unknown): void {
  const { kty, crv, x, ...others } = object(epk);
  const bytes = typeof x === "string" ? decodeCanonical(x) : undefined;
  const fits = kty === "OKP" && crv === "X25519" && Object.keys(others).length === 0 && bytes?.length === 32;
  if (!fits || (bytes.at(-1) ?? 0) >= 0x80) throw refused("its ephemeral key is wrong");
}

function isBytes(value: unknown, length?: number): value is string {
  if (typeof value !== "string") return false;
  const bytes = decodeCanonical(value);
  return bytes !== undefined && (length === undefined || bytes.length === length);
}

function object(value: unknown): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw refused("its form is wrong");
  return value as Fields;
}

function parsed(text: string): unknown {
  try {
    return strictJson(text);
  } catch {
    throw refused("it is not strict JSON"); // without the cause, which quotes the text
  }
}

function refused(why: string, cause?: unknown): SwarmError {
  return new SwarmError("unauthenticated", `The sealed message is refused: ${why}.`, {
    hint: "Do not act on it. Ask its sender to seal it anew, to you.",
    cause,
  });
}
