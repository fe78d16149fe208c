import { createHash } from "node:crypto";
import { SwarmError } from "@mcp-swarm/core";
import { type KeyRange, SCAN_LIMIT_MAX } from "./contract.ts";

/** Longest key in bytes of UTF-8. */
export const KEY_BYTES_MAX = 255;
/** Longest encoded segment; a longer one is cut and closed with a hash, so two segments always fit a key. */
const SEGMENT_MAX = 96;
const SEGMENT_HEAD = 60;
/** Enough digits for 2^53 and for ms since the epoch until the year 287396. */
const NUMBER_DIGITS = 16;
const NUMBER_LIMIT = 10 ** NUMBER_DIGITS;

export const NAMESPACE = /^[a-z0-9_-]{1,32}$/;
const PLAIN = /^[a-z0-9_.-]*$/;

/**
 * Text as one key segment: `[a-z0-9_.-]` stay, each other byte of its UTF-8 becomes `~hh`. Distinct texts give distinct
 * segments (a long one ends in 128 bits of its SHA-256); the way back is the record, which carries its own id.
 */
export function segment(text: string): string {
  let encoded = text;
  if (!PLAIN.test(text)) {
    encoded = "";
    for (const byte of Buffer.from(text, "utf8")) {
      const char = String.fromCharCode(byte);
      encoded += PLAIN.test(char) ? char : `~${byte.toString(16).padStart(2, "0")}`;
    }
  }
  if (encoded.length <= SEGMENT_MAX) return encoded;
  return `${encoded.slice(0, SEGMENT_HEAD)}~~${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
}

/** A whole number >= 0 as a segment of fixed width, so that byte order is numeric order. */
export function ordered(number: number): string {
  if (!Number.isInteger(number) || number < 0 || number >= NUMBER_LIMIT) {
    throw new SwarmError("internal", `Not an orderable number: ${number}`);
  }
  return String(number).padStart(NUMBER_DIGITS, "0");
}

/** The number of an `ordered` segment. */
export function fromOrdered(text: string): number {
  return Number(text);
}

/** All keys that begin with `prefix`, which ends in "/". */
export function prefixRange(prefix: string, limit: number, options: { reverse?: boolean; after?: string } = {}): KeyRange {
  if (!prefix.endsWith("/")) throw new SwarmError("internal", `A prefix ends in "/": ${prefix}`);
  const before = `${prefix.slice(0, -1)}0`; // "0" is the byte after "/"
  if (options.after === undefined) return { from: prefix, before, limit, ...(options.reverse ? { reverse: true } : {}) };
  // continue behind a cursor: the last key already seen
  return options.reverse
    ? { from: prefix, before: options.after, limit, reverse: true }
    : { from: `${options.after}\0`, before, limit };
}

/** A key as its Keyv namespace and Keyv key. @throws SwarmError invalid_argument */
export function splitKey(key: string): { namespace: string; rest: string } {
  if (key.includes("\0")) throw new SwarmError("invalid_argument", "Not a key: it holds a NUL character");
  return splitBound(key);
}

/** A bound need not be a key: the one behind a key is that key and a NUL, which may pass the greatest length by one. */
function splitBound(key: string): { namespace: string; rest: string } {
  const slash = key.indexOf("/");
  const namespace = key.slice(0, slash);
  if (slash < 0 || !NAMESPACE.test(namespace) || tooLong(key) || !key.isWellFormed()) {
    throw new SwarmError(
      "invalid_argument",
      `Not a key: it must read <namespace>/<rest>, in well-formed Unicode, with at most ${KEY_BYTES_MAX} bytes`,
    );
  }
  return { namespace, rest: key.slice(slash + 1) };
}

function tooLong(key: string): boolean {
  const room = key.endsWith("\0") ? KEY_BYTES_MAX + 1 : KEY_BYTES_MAX;
  return key.length > room / 3 && Buffer.byteLength(key) > room; // a UTF-16 unit is at most three bytes of UTF-8
}

/**
 * A range as bounds within one namespace; `before: undefined` means to the namespace's end.
 * @throws SwarmError invalid_argument when the bounds span namespaces or the limit is out of bounds
 */
export function splitRange(range: KeyRange): { namespace: string; from: string; before: string | undefined } {
  if (!Number.isInteger(range.limit) || range.limit < 1 || range.limit > SCAN_LIMIT_MAX) {
    throw new SwarmError("invalid_argument", `A scan's limit is 1 to ${SCAN_LIMIT_MAX}.`);
  }
  const { namespace, rest: from } = splitBound(range.from);
  if (range.before === `${namespace}0`) return { namespace, from, before: undefined };
  const upper = splitBound(range.before);
  if (upper.namespace !== namespace) throw new SwarmError("invalid_argument", "A range lies within one namespace");
  return { namespace, from, before: upper.rest };
}
