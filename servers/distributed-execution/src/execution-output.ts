/** Output as rows: parts in the order in which they came, each under the place in characters at which it begins. */
import { SwarmError } from "@mcp-swarm/core";
import { fromOrdered, ordered, prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import { type OutputPart, prefixes, type StoredText, textKey } from "./execution-layer.ts";
import { type ExecutionRecord, OUTPUT_KEPT_CHARS, type OutputText } from "./execution-record.ts";

/** Longest text of one row, in UTF-16 units: as JSON it is at most six times as many bytes. */
export const PART_CHARS = 128 * 1024;
/** Rows that are read at once. */
const PARTS_AT_ONCE = 4;
/** Most characters that one reading answers. */
export const OUTPUT_READ_CHARS_MAX = 16_000;

export type StreamName = "stdout" | "stderr";

/** Where a reader is: in the output of one attempt, behind so many characters. */
export type OutputPosition = { readonly attempt: number; readonly chars: number };

export function encodePosition({ attempt, chars }: OutputPosition): string {
  return `${attempt}.${chars}`;
}

/** @throws SwarmError invalid_argument */
export function decodePosition(text: string): OutputPosition {
  const match = /^(\d{1,6})\.(\d{1,12})$/.exec(text);
  if (match) return { attempt: Number(match[1]), chars: Number(match[2]) };
  throw new SwarmError("invalid_argument", "This is no position in an output.", {
    hint: 'Pass "next" of the answer before, or leave "after" out to begin at the start.',
  });
}

/** Cuts a text into pieces of at most `max` units, never within a character. */
export function pieces(text: string, max: number): string[] {
  const result: string[] = [];
  for (let at = 0; at < text.length; ) {
    const piece = cutAt(text.slice(at, at + max), max);
    result.push(piece);
    at += piece.length;
  }
  return result;
}

/** The first `max` units of a text, or one less when the last would be half a character. */
function cutAt(text: string, max: number): string {
  const cut = text.slice(0, max);
  const last = cut.charCodeAt(cut.length - 1);
  return last >= 0xd800 && last <= 0xdbff && cut.length > 1 ? cut.slice(0, -1) : cut;
}

/** A stream as the record keeps it. */
export function outputText(text: string): OutputText {
  if (text.length <= 2 * OUTPUT_KEPT_CHARS) return { head: text, chars: text.length };
  const head = cutAt(text, OUTPUT_KEPT_CHARS);
  let from = text.length - OUTPUT_KEPT_CHARS;
  const first = text.charCodeAt(from);
  if (first >= 0xdc00 && first <= 0xdfff) from += 1;
  return { head, tail: text.slice(from), chars: text.length };
}

/** Writes parts from a place on; answers where the next begins. Each is at most PART_CHARS long. */
export function putParts(tx: Transaction, id: string, at: OutputPosition, parts: readonly OutputPart[]): number {
  let { chars } = at;
  for (const part of parts) {
    tx.put(`${prefixes.outputOf(id, at.attempt)}${ordered(chars)}`, part);
    chars += part.text.length;
  }
  return chars;
}

export type ReadOutput = {
  readonly parts: readonly OutputPart[];
  readonly next: OutputPosition;
  /** More than was asked for is there. */
  readonly more: boolean;
};

/** What an execution wrote behind a place; of an earlier attempt nothing is left to go on with, so it begins anew. */
export async function readOutput(
  store: Store,
  record: ExecutionRecord,
  after: OutputPosition | undefined,
  charsMax: number,
): Promise<ReadOutput> {
  const from = after?.attempt === record.attempt ? after.chars : 0;
  const { attempt, result } = record;
  if (result && !result.outputKept) {
    const { stdout, stderr } = result;
    const kept: OutputPart[] = [
      { stream: "stdout", text: stdout.head },
      { stream: "stderr", text: stderr.head },
    ];
    return taken(placed(kept, 0), { attempt, chars: from }, charsMax);
  }
  const prefix = prefixes.outputOf(record.id, attempt);
  const found: { at: number; part: OutputPart }[] = [];
  const begin = `${prefix}${ordered(from)}`;
  // the part that the place lies in begins at it or before
  const [before] = await store.scan({ ...prefixRange(prefix, 1), before: `${begin}\0`, reverse: true });
  let key = before?.key ?? begin;
  if (before) found.push({ at: placeOf(before.key, prefix), part: before.value as OutputPart });
  for (let chars = reach(found, from); chars <= charsMax; chars = reach(found, from)) {
    const rows = await store.scan({ ...prefixRange(prefix, PARTS_AT_ONCE), from: `${key}\0` });
    for (const row of rows) found.push({ at: placeOf(row.key, prefix), part: row.value as OutputPart });
    if (rows.length < PARTS_AT_ONCE) break;
    key = rows.at(-1)?.key ?? key;
  }
  return taken(found, { attempt, chars: from }, charsMax);
}

function placeOf(key: string, prefix: string): number {
  return fromOrdered(key.slice(prefix.length));
}

function reach(found: readonly { at: number; part: OutputPart }[], from: number): number {
  const last = found.at(-1);
  return last ? last.at + last.part.text.length - from : 0;
}

function placed(parts: readonly OutputPart[], from: number): { at: number; part: OutputPart }[] {
  let at = from;
  return parts.map((part) => {
    const one = { at, part };
    at += part.text.length;
    return one;
  });
}

function taken(found: readonly { at: number; part: OutputPart }[], from: OutputPosition, charsMax: number): ReadOutput {
  const parts: OutputPart[] = [];
  let { chars } = from;
  for (const { at, part } of found) {
    const room = charsMax - (chars - from.chars);
    const text = part.text.slice(Math.max(0, chars - at));
    if (text === "") continue;
    if (room <= 0) break;
    const cut = cutAt(text, room);
    parts.push({ stream: part.stream, text: cut });
    chars += cut.length;
    if (cut.length < text.length) break;
  }
  return { parts, next: { attempt: from.attempt, chars }, more: chars < from.chars + reach(found, from.chars) };
}

/** A text in place when it is short, else its rows. @param textId names them */
export function storedText(
  text: string,
  textId: string,
  inlineMax: number,
): { stored: StoredText; rows: { key: string; value: string }[] } {
  if (text.length <= inlineMax) return { stored: text, rows: [] };
  const parts = pieces(text, PART_CHARS);
  return {
    stored: { textId, parts: parts.length },
    rows: parts.map((value, at) => ({ key: textKey(textId, at), value })),
  };
}

export async function readText(store: Store, text: StoredText): Promise<string> {
  if (typeof text === "string") return text;
  const rows = await store.getMany(Array.from({ length: text.parts }, (_, at) => textKey(text.textId, at)));
  return rows
    .map((row) => {
      if (row) return String(row.value);
      throw new SwarmError("internal", `Rows of the text ${text.textId} are missing.`);
    })
    .join("");
}
