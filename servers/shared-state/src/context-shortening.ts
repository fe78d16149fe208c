/** Values made shorter: texts keep their head and tail, lists a sample, objects their keys. */
import type { Json } from "@mcp-swarm/core";
import { isMark, MARK_CHARS_MAX, mark } from "./context-repeats.ts";

/** The part of a cut text that its head gets. */
const HEAD_SHARE = 0.7;
/** How far back from where the room ends the head looks for the end of a line or sentence. */
const EDGE_SHARE = 0.3;
/** A text with less room than this is not worth its marks. */
const TEXT_CHARS_MIN = 40;
/** Room for an item of a list, and most items shown of one. */
const ITEM_CHARS_MIN = 60;
const SAMPLE_MAX = 12;
/** Most keys shown of an object that is shortened. */
const KEYS_MAX = 40;
/** Most different states that a list's items are counted by. */
const STATES_MAX = 8;
const STATE_CHARS_MAX = 32;
/** Names of fields that say how it is with an item of a list. */
const STATE_FIELDS = ["status", "state", "result", "outcome", "ok", "passed", "success", "level", "severity", "type", "kind"];

/** What was done to a value. */
export type Shortened = {
  readonly value: Json;
  readonly cuts: number;
  readonly samples: number;
  /** Of a text: how many of its characters come first as they were. */
  readonly head: number;
};

/** Lengths as JSON, which the same lists are asked for again and again. */
const lengths = new WeakMap<object, number>();

/** Characters of a value as JSON. */
export function jsonChars(value: Json): number {
  if (typeof value !== "object" || value === null) return JSON.stringify(value).length;
  const known = lengths.get(value);
  if (known !== undefined) return known;
  let chars = 1;
  if (Array.isArray(value)) for (const item of value) chars += jsonChars(item) + 1;
  else for (const [key, item] of Object.entries(value)) chars += JSON.stringify(key).length + jsonChars(item as Json) + 2;
  chars = Math.max(2, chars);
  lengths.set(value, chars);
  return chars;
}

/** A value in about `room` characters of JSON: exactly as it was when it fits, else with marks where something is missing. */
export function shorten(value: Json, room: number): Shortened {
  let cuts = 0;
  let samples = 0;
  let head = 0;
  const visit = (one: Json, space: number): Json => {
    if (jsonChars(one) <= space || isMark(one)) return one;
    if (typeof one === "string") {
      const cut = cutText(one, space);
      cuts += 1;
      if (one === value) head = cut.head;
      return cut.text;
    }
    if (typeof one !== "object" || one === null) return one;
    if (Array.isArray(one)) {
      samples += 1;
      return sample(one, space, visit);
    }
    const entries = Object.entries(one as { [key: string]: Json });
    const names = namesThatFit(entries, space);
    if (names.count < entries.length) cuts += 1;
    if (names.count === 0) return mark(`object of ${entries.length} keys`);
    const shown = entries.slice(0, names.count);
    const shares = share(
      shown.map(([, item]) => jsonChars(item)),
      Math.max(0, space - names.chars),
    );
    const kept = shown.map(([key, item], at): [string, Json] => [key, visit(item, shares[at] ?? 0)]);
    if (shown.length < entries.length) kept.push(["...", mark(`${entries.length - shown.length} more keys`)]);
    return Object.fromEntries(kept);
  };
  const shown = visit(value, room);
  return { value: shown, cuts, samples, head: typeof value === "string" && shown === value ? value.length : head };
}

/** How many keys of an object are shown so that half of the space is left for what they lead to. */
function namesThatFit(entries: readonly [string, Json][], space: number): { count: number; chars: number } {
  let chars = 0;
  let count = 0;
  for (const [key] of entries.slice(0, KEYS_MAX)) {
    const more = JSON.stringify(key).length + 2;
    if (chars + more > space / 2) break;
    chars += more;
    count += 1;
  }
  return { count, chars };
}

/** Divides `room` so that what is small is whole and the others get equal parts. */
export function share(sizes: readonly number[], room: number): number[] {
  let left = room;
  const parts = new Array<number>(sizes.length).fill(0);
  const ascending = sizes.map((size, at) => ({ size, at })).sort((a, b) => a.size - b.size || a.at - b.at);
  for (const [done, { size, at }] of ascending.entries()) {
    const part = Math.min(size, Math.floor(left / (ascending.length - done)));
    parts[at] = part;
    left -= part;
  }
  return parts;
}

/** The first, the last and evenly spaced items between, with how many there are, and how many in each state. */
function sample(list: readonly Json[], room: number, visit: (item: Json, room: number) => Json): Json {
  const counts = countStates(list);
  const space = room - 24 - (counts === undefined ? 0 : jsonChars(counts));
  const wanted = Math.min(list.length, SAMPLE_MAX, Math.max(0, Math.floor(space / ITEM_CHARS_MIN)));
  const places = new Set<number>();
  for (let at = 0; at < wanted; at++) places.add(wanted === 1 ? 0 : Math.round((at * (list.length - 1)) / (wanted - 1)));
  const chosen = [...places];
  const shares = share(
    chosen.map((at) => jsonChars(list[at] ?? null)),
    space - 8 * chosen.length,
  );
  const items = Object.fromEntries(chosen.map((at, index) => [String(at), visit(list[at] ?? null, shares[index] ?? 0)]));
  return { listOf: list.length, ...(counts ?? {}), ...(chosen.length === 0 ? {} : { items }) };
}

/** How many items are in each state, when all are objects with such a field of few values. */
function countStates(list: readonly Json[]): { [name: string]: { [state: string]: number } } | undefined {
  const field = STATE_FIELDS.find((name) => list.every((item) => isState(fieldOf(item, name))));
  if (field === undefined) return undefined;
  const counts = new Map<string, number>();
  for (const item of list) {
    const state = String(fieldOf(item, field));
    counts.set(state, (counts.get(state) ?? 0) + 1);
    if (counts.size > STATES_MAX) return undefined;
  }
  return { [`by ${field}`]: Object.fromEntries(counts) };
}

function fieldOf(item: Json, name: string): Json | undefined {
  if (typeof item !== "object" || item === null || Array.isArray(item) || !Object.hasOwn(item, name)) return undefined;
  return (item as { [key: string]: Json })[name];
}

function isState(value: Json | undefined): boolean {
  return typeof value === "boolean" || (typeof value === "string" && value.length <= STATE_CHARS_MAX);
}

/** Head and tail of a text, each ending at the edge of a line or sentence where one is near, in about `room` characters of JSON. */
export function cutText(text: string, room: number): { text: string; head: number } {
  // what JSON makes longer (quotes, line ends) takes of the room as well
  const perChar = JSON.stringify(text.slice(0, 2_000)).length / Math.max(1, Math.min(text.length, 2_000));
  const space = Math.floor((room - 40) / Math.max(1, perChar));
  if (space < TEXT_CHARS_MIN) return { text: mark(`${text.length} characters`), head: 0 };
  const headRoom = Math.floor(space * HEAD_SHARE);
  const head = headEnd(text, headRoom);
  const tail = tailStart(text, Math.max(head, text.length - (space - headRoom)));
  if (tail <= head) return { text, head: text.length };
  return { text: `${text.slice(0, head)}${mark(`${tail - head} characters`)}${text.slice(tail)}`, head };
}

/** Where a head of at most `most` characters ends: behind a line, else a sentence, else a word, and within no mark or pair. */
function headEnd(text: string, most: number): number {
  const least = Math.floor(most * (1 - EDGE_SHARE));
  const candidates = ["\n", ". ", "; ", " "].map((edge) => text.lastIndexOf(edge, most - edge.length) + edge.length);
  let end = candidates.find((at) => at > least && at <= most) ?? most;
  const opened = text.lastIndexOf("[... ", end - 1);
  if (opened >= 0 && opened > end - MARK_CHARS_MAX && text.indexOf(" ...]", opened) + 5 > end) end = opened;
  return isHalf(text, end) ? end - 1 : end;
}

function tailStart(text: string, from: number): number {
  const most = from + Math.floor((text.length - from) * EDGE_SHARE);
  const candidates = ["\n", ". ", "; ", " "].map((edge) => text.indexOf(edge, from) + edge.length);
  let start = candidates.find((at) => at > from && at <= most) ?? from;
  const closed = text.indexOf(" ...]", start);
  if (closed >= 0 && closed < start + MARK_CHARS_MAX && text.lastIndexOf("[... ", closed) < start) start = closed + 5;
  return isHalf(text, start) ? start + 1 : start;
}

/** Whether a place lies between the halves of a surrogate pair. */
function isHalf(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return at > 0 && at < text.length && code >= 0xdc00 && code <= 0xdfff;
}
