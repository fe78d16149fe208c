/** A text with a signature, in the form of https://c2sp.org/signed-note, with Ed25519. */
import { createPublicKey, hash, verify } from "node:crypto";

/** A note is at most so long, in UTF-16 units. */
const NOTE_MAX = 128_000;

const ED25519 = 1;
const KEY_ID_BYTES = 4;
const SIGNATURE_BYTES = 64;
const SIGNATURE_LINE = /^— ([^\s+]{1,64}) ([A-Za-z0-9+/]+={0,2})$/;
/** DER of a SubjectPublicKeyInfo of Ed25519, up to the key. */
const SPKI = Buffer.from("302a300506032b6570032100", "hex");

/** Who signs notes. */
export interface NoteSigner {
  /** The agent: no spaces, no "+". */
  readonly name: string;
  /** Ed25519, base64url of 32 bytes. */
  readonly publicKey: string;
  /** The Ed25519 signature of these bytes, which is the same each time. */
  readonly sign: (bytes: Uint8Array) => Uint8Array;
}

/** A note's only signature. */
export interface NoteSignature {
  readonly name: string;
  /** Which of the signer's keys: `keyIdOf`. */
  readonly keyId: string;
  readonly signature: Uint8Array;
}

export interface Note {
  /** Ends in a newline. */
  readonly text: string;
  readonly signature: NoteSignature;
}

/** The first four bytes of a hash over name and key, in hex: tells keys of one name apart, and proves nothing. */
export function keyIdOf(name: string, publicKey: string): string {
  const bytes = Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([ED25519]), Buffer.from(publicKey, "base64url")]);
  return hash("sha256", bytes, "buffer").subarray(0, KEY_ID_BYTES).toString("hex");
}

/** @param text ends in a newline */
export function signNote(text: string, { name, publicKey, sign }: NoteSigner): string {
  const signed = Buffer.concat([Buffer.from(keyIdOf(name, publicKey), "hex"), sign(Buffer.from(text))]);
  return `${text}\n— ${name} ${signed.toString("base64")}\n`;
}

/** Undefined when it is no note with one Ed25519 signature. Nothing of it may be believed before `isSignedBy`. */
export function parseNote(note: string): Note | undefined {
  if (note.length > NOTE_MAX || !note.isWellFormed() || /[\0-\x09\x0b-\x1f]/.test(note)) return undefined;
  const end = note.lastIndexOf("\n\n");
  if (end < 0 || !note.endsWith("\n")) return undefined;
  const [, name, base64] = SIGNATURE_LINE.exec(note.slice(end + 2, -1)) ?? [];
  if (!name || !base64) return undefined;
  const bytes = Buffer.from(base64, "base64");
  if (bytes.length !== KEY_ID_BYTES + SIGNATURE_BYTES || bytes.toString("base64") !== base64) return undefined;
  const signature = { name, keyId: bytes.subarray(0, KEY_ID_BYTES).toString("hex"), signature: bytes.subarray(KEY_ID_BYTES) };
  return { text: note.slice(0, end + 1), signature };
}

/** @param publicKey base64url of 32 bytes */
export function isSignedBy({ text, signature: { name, keyId, signature } }: Note, publicKey: string): boolean {
  const raw = Buffer.from(publicKey, "base64url");
  if (raw.length !== 32 || keyIdOf(name, publicKey) !== keyId) return false;
  const key = createPublicKey({ key: Buffer.concat([SPKI, raw]), format: "der", type: "spki" });
  return verify(null, Buffer.from(text), key, signature);
}
