import { type Json, SwarmError } from "@mcp-swarm/core";
import { SCAN_LIMIT_MAX, type TextQuery } from "./contract.ts";
import { ordered, segment, splitKey } from "./keys.ts";

/*
 * Full-text search over the rows of one namespace. What a word is, is decided here and nowhere else: rows hold words that are
 * folded already, one space apart, and the engines compare them as they are. So all engines find the same, whatever languages
 * and versions of Unicode they know.
 */

/** The namespace whose rows are found by their words. Its keys are `text/<ordered time>…`: search goes from new to old. */
export const TEXT_NAMESPACE = "text";

/** Longest text of a row in UTF-16 units, once folded; the rest is not searched. */
export const TEXT_LENGTH_MAX = 16_384;
/** Longest word in code points; a longer one is found by its beginning. */
const WORD_LENGTH_MAX = 64;
/** Most words of one search, and most scopes of a row or a search. */
export const QUERY_WORDS_MAX = 32;
export const SCOPES_MAX = 64;
/** Shortest last word that stands for all words that begin with it: a shorter one would stand for a good part of all. */
const PREFIX_LENGTH_MIN = 2;
/** Times in keys are below this (the year 2109), which leaves SQLite room to number rows of the same ms. */
export const TIME_LIMIT = 2 ** 42;

/**
 * Letters of scripts that put no space between words are a word each, with their marks, so that neighbours are a phrase; of all
 * others runs of letters, marks and digits. Made when it is first used: it takes near a millisecond, which no start should wait for.
 */
let word: RegExp | undefined;
function wordPattern(): RegExp {
  if (!word) {
    const unspaced = ["Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar"].map((script) => `\\p{sc=${script}}`);
    const alone = `[[${unspaced.join("")}]&&\\p{L}]`;
    word = new RegExp(`${alone}\\p{M}*|[[\\p{L}\\p{M}\\p{N}]--${alone}]+`, "gv");
  }
  return word;
}
const TIME = /^[0-9]{16}/;

/**
 * The words of a text as they are compared: without case, without the accents of Latin, Greek and Cyrillic, in compatibility
 * form (full-width and styled letters are plain ones). Everything but letters, marks and digits parts words.
 */
export function foldWords(text: string): string[] {
  const plain = text
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]+/g, "")
    .normalize("NFKC")
    .toUpperCase() // both ways, as one letter may have two small forms
    .toLowerCase()
    .replaceAll("ς", "σ");
  return (plain.match(wordPattern()) ?? []).map((word) => (word.length > WORD_LENGTH_MAX ? cutWord(word) : word));
}

function cutWord(word: string): string {
  return [...word.slice(0, WORD_LENGTH_MAX * 2)].slice(0, WORD_LENGTH_MAX).join("");
}

/** The fields of a `text` row that make it searchable; others may stand beside them. Scopes say who may find it. */
export function searchable(text: string, scopes: readonly string[]): { text: string; scopes: string[] } {
  if (scopes.length > SCOPES_MAX) throw new SwarmError("internal", `A searchable text has at most ${SCOPES_MAX} scopes.`);
  let words = "";
  // folding makes a text longer at times, so it is bounded before and after
  for (const word of foldWords(text.slice(0, TEXT_LENGTH_MAX))) {
    if (words.length + word.length >= TEXT_LENGTH_MAX) break;
    words += words === "" ? word : ` ${word}`;
  }
  return { text: words, scopes: scopes.map(scopeToken) };
}

/** No word holds "=", so no text can pass for a scope. */
function scopeToken(scope: string): string {
  return `=${segment(scope)}`;
}

/** What an engine's index knows a row by; undefined for rows that are none of `searchable`'s. */
export function tokensOf(rest: string, value: Json): { time: number; tokens: string } | undefined {
  const time = timeOf(rest);
  if (time === undefined || value === null || typeof value !== "object") return undefined;
  const { text, scopes } = value as { text?: Json; scopes?: Json };
  if (typeof text !== "string" || !Array.isArray(scopes)) return undefined;
  return { time, tokens: [text, ...scopes.filter((scope) => typeof scope === "string")].join(" ") };
}

function timeOf(rest: string): number | undefined {
  const time = TIME.test(rest) ? Number(rest.slice(0, 16)) : TIME_LIMIT;
  return time < TIME_LIMIT ? time : undefined;
}

/** A search as the engines carry it out. */
export interface ParsedQuery {
  /** Each must be there. */
  words: string[];
  /** The last word, if it stands for all that begin with it; it is not among `words` then. */
  prefix: string | undefined;
  /** At least one must be there. */
  scopes: string[];
  /** Only rows before this key of the namespace. */
  before: string;
  /** The time in `before`, or the one after all. */
  beforeTime: number;
  limit: number;
}

/** @throws SwarmError invalid_argument when the text holds no word or too many, or a bound is wrong */
export function parseQuery({ text, scopes, limit, before }: TextQuery): ParsedQuery {
  if (!Number.isInteger(limit) || limit < 1 || limit > SCAN_LIMIT_MAX) {
    throw new SwarmError("invalid_argument", `A search's limit is 1 to ${SCAN_LIMIT_MAX}.`);
  }
  if (scopes.length > SCOPES_MAX) throw new SwarmError("invalid_argument", `A search has at most ${SCOPES_MAX} scopes.`);
  const words = foldWords(text);
  if (words.length === 0 || words.length > QUERY_WORDS_MAX) {
    throw new SwarmError("invalid_argument", `The text to search for has ${words.length === 0 ? "no word" : "too many words"}.`, {
      hint: `Search for 1 to ${QUERY_WORDS_MAX} words of letters and digits.`,
    });
  }
  const last = words.at(-1) ?? "";
  const isPrefix = last.length >= PREFIX_LENGTH_MIN && !text.trimEnd().endsWith('"');
  const bound = before === undefined ? undefined : splitKey(before);
  if (bound && (bound.namespace !== TEXT_NAMESPACE || timeOf(bound.rest) === undefined)) {
    throw new SwarmError("invalid_argument", "A search goes on before a key that a search gave.");
  }
  const beforeTime = bound ? (timeOf(bound.rest) ?? 0) : TIME_LIMIT - 1;
  return {
    words: [...new Set(isPrefix ? words.slice(0, -1) : words)],
    prefix: isPrefix ? last : undefined,
    scopes: scopes.map(scopeToken),
    before: bound?.rest ?? ordered(TIME_LIMIT),
    beforeTime,
    limit,
  };
}

/** Whether a row's tokens answer a search: what the indexes of the engines compute faster. */
export function matches(tokens: string, { words, prefix, scopes }: ParsedQuery): boolean {
  const held = new Set(tokens.split(" "));
  return (
    scopes.some((scope) => held.has(scope)) &&
    words.every((word) => held.has(word)) &&
    (prefix === undefined || [...held].some((word) => word.startsWith(prefix)))
  );
}

/**
 * The phrases of a search: words that stand in quotes, or that no white space parts (`foo_bar.ts`, a word of Chinese), belong
 * together in this order. A search of the store finds the words anywhere; who wants phrases keeps the entries that hold them.
 */
export function phrasesOf(text: string): string[] {
  const parts = text.match(/"[^"]*"|[^\s"]+/g) ?? [];
  const last = parts.at(-1);
  return parts.flatMap((part) => {
    const words = foldWords(part);
    if (words.length < 2) return [];
    const open = part === last && !part.endsWith('"') && (words.at(-1) ?? "").length >= PREFIX_LENGTH_MIN;
    return [` ${words.join(" ")}${open ? "" : " "}`];
  });
}

/** Whether the text of a `searchable` row holds all phrases. */
export function holdsPhrases(text: string, phrases: readonly string[]): boolean {
  const padded = ` ${text} `;
  return phrases.every((phrase) => padded.includes(phrase));
}
