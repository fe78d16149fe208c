/**
 * A compact JWS read by rules so narrow that a text has one reading or none, before any library sees it. What RFC 7515 leaves
 * open is where forgeries live: other algorithms, keys that the text itself brings or points to, extensions, members that occur
 * twice, and base64url whose unused last bits are set (a flip there leaves the bytes, and so the signature, as they were).
 */
import { JSON_DEPTH_MAX, type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import { type CryptoKey, compactVerify, importJWK } from "jose";

/** RFC 7638 thumbprint by SHA-256: 43 characters of base64url. */
const KID = /^[A-Za-z0-9_-]{43}$/;
const BASE64URL = /^[A-Za-z0-9_-]+$/;
/** Largest header, in characters of base64url: room for type and key id, and for nothing else. */
const HEADER_LENGTH_MAX = 300;

/** What one kind of JWS must be. */
export interface JwsRules {
  /** The values of `typ` that this kind may have. */
  readonly types: readonly string[];
  /** Largest text, in characters. */
  readonly lengthMax: number;
  /** Whether the header may leave out `kid`, for signers whose library sets none; the key is then found in another way. */
  readonly kidOptional?: true;
}

/** What a text says. Nothing of it is proven. */
export interface UnprovenJws {
  readonly text: string;
  readonly kid: string | undefined;
  readonly payload: JsonObject;
}

/**
 * Reads a compact JWS: three canonical parts, a header of `alg` (EdDSA), `typ` and `kid` alone, a payload that is one JSON object.
 * @throws SwarmError unauthenticated
 */
export function readJws(text: string, { types, lengthMax, kidOptional }: JwsRules): UnprovenJws {
  if (typeof text !== "string" || text.length === 0 || text.length > lengthMax) throw malformed("its length is wrong");
  const [head, body, signature, ...more] = text.split(".");
  if (head === undefined || body === undefined || signature === undefined || more.length > 0) {
    throw malformed("it does not have three parts");
  }
  if (head.length > HEADER_LENGTH_MAX) throw malformed("its header is too long");
  const header = objectOf(head);
  if (decodeCanonical(signature)?.length !== 64) throw malformed("its signature is not one of Ed25519");
  const { alg, typ, kid, ...others } = header;
  if (Object.keys(others).length > 0) throw malformed("its header has members besides alg, typ and kid");
  if (alg !== "EdDSA") throw malformed("its algorithm is not EdDSA");
  if (typeof typ !== "string" || !types.includes(typ)) throw malformed("it is of another type");
  if (kid === undefined && kidOptional) return { text, kid: undefined, payload: objectOf(body) };
  if (typeof kid !== "string" || !KID.test(kid)) throw malformed("its key id is not one");
  return { text, kid, payload: objectOf(body) };
}

/**
 * Checks the signature of a text that `readJws` has read. `publicKey` is an Ed25519 key, base64url of 32 bytes.
 * @throws SwarmError unauthenticated
 */
export async function proveJws({ text }: UnprovenJws, publicKey: string): Promise<void> {
  const key = await ed25519(publicKey);
  try {
    await compactVerify(text, key, { algorithms: ["EdDSA"] });
  } catch (cause) {
    throw new SwarmError("unauthenticated", "The signature is not by the key that it names.", { cause });
  }
}

/** Imported keys that are kept: importing costs as much as a signature. */
const KEYS_MAX = 1_000;
const imported = new Map<string, CryptoKey>();

async function ed25519(publicKey: string): Promise<CryptoKey> {
  const known = imported.get(publicKey);
  if (known) return known;
  if (decodeCanonical(publicKey)?.length !== 32) throw new SwarmError("unauthenticated", "Not an Ed25519 public key.");
  const key = (await importJWK({ kty: "OKP", crv: "Ed25519", x: publicKey }, "EdDSA")) as CryptoKey;
  const oldest = imported.keys().next();
  if (imported.size >= KEYS_MAX && !oldest.done) imported.delete(oldest.value);
  imported.set(publicKey, key);
  return key;
}

/** The bytes of a text that is base64url as RFC 4648 writes it: no padding, no unused bits set. */
export function decodeCanonical(text: string): Buffer | undefined {
  if (!BASE64URL.test(text)) return undefined;
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes : undefined;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // a byte order mark stays, and is no JSON

function objectOf(part: string): JsonObject {
  const bytes = decodeCanonical(part);
  if (!bytes) throw malformed("a part of it is not canonical base64url");
  let value: Json;
  try {
    value = strictJson(utf8.decode(bytes));
  } catch {
    throw malformed("a part of it is not strict JSON"); // without the cause, which quotes the text
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed("a part of it is not a JSON object");
  return value as JsonObject;
}

/** A text of JSON, a mark of structure, or what stands between. */
const JSON_TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:]/g;

/**
 * `JSON.parse` that refuses objects with two members of one name (which readers of JSON disagree about) or named `__proto__`, and
 * nesting deeper than JSON_DEPTH_MAX.
 * @throws SyntaxError
 */
export function strictJson(text: string): Json {
  const open: (Set<string> | undefined)[] = []; // the names so far of each open object; undefined for a list
  let last: string | undefined;
  for (const [token] of text.matchAll(JSON_TOKEN)) {
    if (token === "{" || token === "[") {
      open.push(token === "{" ? new Set() : undefined);
      if (open.length > JSON_DEPTH_MAX) throw new SyntaxError("nested too deeply");
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (token === ":") {
      const name = JSON.parse(last ?? "") as string;
      const names = open.at(-1);
      if (!names || names.has(name) || name === "__proto__") throw new SyntaxError("a member's name is not allowed here");
      names.add(name);
    }
    last = token;
  }
  return JSON.parse(text) as Json;
}

function malformed(why: string): SwarmError {
  return new SwarmError("unauthenticated", `What should be a signed text is refused: ${why}.`);
}
