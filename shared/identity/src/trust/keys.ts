/** Keys as this swarm uses them: Ed25519 (RFC 8032) to sign, X25519 (RFC 7748) to be encrypted to. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import { CompactSign } from "jose";
import type { PublicKeys } from "./bundle.ts";
import { decodeCanonical } from "./jws-strict.ts";

export type Curve = "Ed25519" | "X25519";

/** Bytes of a public key, and of the secret a private key is made from. */
export const KEY_BYTES = 32;

export interface KeyPair {
  /** Base64url of 32 bytes. */
  readonly publicKey: string;
  readonly privateKey: KeyObject;
  /** RFC 7638 thumbprint of the public key. */
  readonly kid: string;
}

/** What an agent's process holds. */
export interface AgentKeys {
  /** The agent as it was enrolled; it signs for its subagents too. */
  readonly agentId: string;
  /** Of its member record, when the keys were made. */
  readonly generation: number;
  /** The swarm's root public key: what this agent goes by. Base64url of 32 bytes. */
  readonly rootKey: string;
  readonly sign: KeyPair;
  readonly encrypt: KeyPair;
  /** What it was encrypted to before its keys were replaced, newest first: what was kept since then still opens. */
  readonly formerEncrypt: readonly KeyPair[];
}

export function generateKeyPair(curve: Curve): KeyPair {
  const { privateKey } = curve === "Ed25519" ? generateKeyPairSync("ed25519") : generateKeyPairSync("x25519");
  return pairOf(curve, privateKey);
}

/** PKCS #8 up to the secret itself (RFC 8410, section 7). */
const PKCS8_HEAD: Readonly<Record<Curve, Buffer>> = {
  Ed25519: Buffer.from("302e020100300506032b657004220420", "hex"),
  X25519: Buffer.from("302e020100300506032b656e04220420", "hex"),
};

/**
 * The pair that a secret of 32 bytes stands for; the same secret always gives the same pair.
 * @throws SwarmError invalid_argument
 */
export function keyPairFromSecret(curve: Curve, secret: Uint8Array): KeyPair {
  if (secret.length !== KEY_BYTES) throw new SwarmError("invalid_argument", `The secret of a key has ${KEY_BYTES} bytes.`);
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD[curve], secret]), format: "der", type: "pkcs8" });
  return pairOf(curve, privateKey);
}

/** The 32 bytes that the private key is made from. Whoever has them is the key's owner. */
export function secretOf(pair: KeyPair): Buffer {
  return pair.privateKey.export({ format: "der", type: "pkcs8" }).subarray(-KEY_BYTES);
}

function pairOf(curve: Curve, privateKey: KeyObject): KeyPair {
  const { x } = createPublicKey(privateKey).export({ format: "jwk" });
  if (typeof x !== "string") throw new SwarmError("internal", "Broken invariant: a public key has an x");
  return { publicKey: x, privateKey, kid: thumbprint(curve, x) };
}

/** RFC 7638 thumbprint of an Ed25519 public key: its name wherever something is signed. */
export function kidOf(sign: string): string {
  return thumbprint("Ed25519", sign);
}

/** The same of an X25519 public key: its name wherever something is encrypted. */
export function kidOfEncryption(encrypt: string): string {
  return thumbprint("X25519", encrypt);
}

function thumbprint(curve: Curve, x: string): string {
  return createHash("sha256").update(`{"crv":"${curve}","kty":"OKP","x":"${x}"}`).digest("base64url");
}

/**
 * The encodings of points of small order on Ed25519's curve, without the sign bit: anyone can sign for such a key (the list is
 * libsodium's).
 */
const SMALL_ORDER = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

/** Whether the text is a public key to verify signatures with: canonical base64url of 32 bytes, and no point of small order. */
export function isSigningKey(text: string): boolean {
  const bytes = decodeCanonical(text);
  if (bytes?.length !== KEY_BYTES) return false;
  bytes[KEY_BYTES - 1] = (bytes[KEY_BYTES - 1] ?? 0) & 0x7f;
  return !SMALL_ORDER.has(bytes.toString("hex"));
}

/** Whether the text is an X25519 public key: canonical base64url of 32 bytes. One of small order fails when it is used. */
export function isEncryptionKey(text: string): boolean {
  return decodeCanonical(text)?.length === KEY_BYTES;
}

/** A public key as JWK, for what encrypts to it or verifies with it. */
export function publicJwk(curve: Curve, publicKey: string): { kty: "OKP"; crv: Curve; x: string } {
  return { kty: "OKP", crv: curve, x: publicKey };
}

export function publicKeysOf({ sign, encrypt }: Pick<AgentKeys, "sign" | "encrypt">): PublicKeys {
  return { sign: sign.publicKey, encrypt: encrypt.publicKey };
}

/** A compact JWS by an Ed25519 key with the header {alg: "EdDSA", typ, kid}, as `readJws` reads it. */
export async function signJws(key: KeyPair, typ: string, payload: JsonObject): Promise<string> {
  return new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({ alg: "EdDSA", typ, kid: key.kid })
    .sign(key.privateKey);
}
