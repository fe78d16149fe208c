import { crc32 } from "node:zlib";
import { type Json, RECORD_BYTES_MAX, SwarmError } from "@mcp-swarm/core";
import { jsonSerializer } from "keyv";

/**
 * A value as the text Keyv keeps for it: `{"value":…,"expires":…}`. Keyv marks strings that begin with ":" (its tags for
 * binary values and big numbers do), so only a text in which a string may begin so takes Keyv's own slower serializer.
 */
const TAGGED = /[:,[]":/;

/** @throws SwarmError limit_exceeded over RECORD_BYTES_MAX, invalid_argument for what JSON cannot hold */
export function encodeValue(value: Json, expiresAt: number | undefined): string {
  const held = expiresAt === undefined ? { value } : { value, expires: expiresAt };
  const text = JSON.stringify(held);
  if (text.length > RECORD_BYTES_MAX / 3 && Buffer.byteLength(text) > RECORD_BYTES_MAX) {
    throw new SwarmError("limit_exceeded", `A record may have at most ${RECORD_BYTES_MAX} bytes of JSON.`, {
      hint: "Store a shorter text and keep the long one in a file that it names.",
    });
  }
  return TAGGED.test(text) ? jsonSerializer.stringify(held) : text; // Keyv's marks are not the caller's bytes
}

/** @throws SyntaxError when the text is not what `encodeValue` or Keyv wrote */
export function decodeValue(text: string): Json {
  const held: { value: Json } = TAGGED.test(text) ? jsonSerializer.parse(text) : JSON.parse(text);
  return held.value;
}

/** When an entry put now ends. @throws SwarmError invalid_argument */
export function expiry(now: number, ttlMs: number | undefined): number | undefined {
  if (ttlMs === undefined) return undefined;
  if (!Number.isSafeInteger(now + ttlMs) || ttlMs < 0) {
    throw new SwarmError("invalid_argument", "A time to live is a whole number of milliseconds of at least 0.");
  }
  return now + ttlMs;
}

/** CRC-32 over key and text: finds changed bytes that a database's own integrity check does not see. */
export function checksum(namespace: string, key: string, text: string): number {
  return crc32(`${namespace}/${key}\0${text}`);
}

/** UTF-8 byte order, which is what both databases sort by. JavaScript's own order differs beyond U+FFFF. */
export function compareBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const xHigh = x >= 0xd800 && x <= 0xdfff;
    const yHigh = y >= 0xd800 && y <= 0xdfff;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1; // a surrogate stands for a code point above all others
  }
  return a.length - b.length;
}
