/** Parts of a context that are there more than once: the first stays, the others say where it is. Nothing is lost by it. */
import type { Json } from "@mcp-swarm/core";

/** Shorter values and passages stay: what stands in their place is not shorter. */
const REPEATED_CHARS_MIN = 100;
/** Texts shorter than this are not looked through for passages. */
const SEARCHED_CHARS_MIN = 200;
/** Most passages of one text that are replaced. */
const PASSAGES_MAX = 100;

/** Marks in a text what is left out of it. Another agent's text may look the same, so nobody should act on one. */
export const mark = (what: string): string => `[... ${what} ...]`;
/** No mark is longer. */
export const MARK_CHARS_MAX = 160;

/** Whether a value says where another stands, or that it is missing: it is short already, and says nothing when it is cut. */
export function isMark(value: Json): boolean {
  if (typeof value === "string") return value.length <= MARK_CHARS_MAX && value.startsWith("[... ") && value.endsWith(" ...]");
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const [[name, where] = [], ...others] = Object.entries(value);
  return name === "sameAs" && others.length === 0 && typeof where === "string" && where.length <= MARK_CHARS_MAX;
}

/** A value with its repeated parts replaced. */
export type Once = {
  readonly value: Json;
  readonly repeats: number;
  /** Of a text: up to where it is as it was. */
  readonly wholeUpTo: number;
};

/** Where a sentence or line stands for the first time. */
type Place = { readonly where: string; readonly sentence: number };

/** Remembers what it was shown; each value is compared with all before it, and with what came before in itself. */
export class Repeats {
  /** Equal values have one number: of a composite, the text is made of the numbers of what it holds. */
  readonly #numbers = new Map<string, number>();
  readonly #first = new Map<number, string>();
  readonly #sentences = new Map<string, Place>();

  /** @param where what leads to the value in the answer, for example `items[0].content.output` */
  once(value: Json, where: string): Once {
    let repeats = 0;
    let wholeUpTo = typeof value === "string" ? value.length : 0;
    const visit = (one: Json, at: string): Json => {
      const { number, chars, children } = this.#number(one);
      if (chars < REPEATED_CHARS_MIN) return one; // nor is anything in it longer
      const first = this.#first.get(number);
      if (first !== undefined) {
        repeats += 1;
        if (one === value) wholeUpTo = 0;
        return typeof one === "string" ? mark(`same as ${short(first)}`) : { sameAs: short(first) };
      }
      this.#first.set(number, at);
      if (typeof one === "string" && one.length >= SEARCHED_CHARS_MIN) {
        const text = this.#passages(one, at);
        repeats += text.repeats;
        if (one === value) wholeUpTo = text.wholeUpTo;
        return text.value;
      }
      if (!children) return one;
      if (Array.isArray(one)) return one.map((item, index) => visit(item, `${at}[${index}]`));
      const entries = Object.entries(one as { [key: string]: Json }).map(([key, item]) => [key, visit(item, `${at}.${key}`)]);
      return Object.fromEntries(entries);
    };
    const shown = visit(value, where);
    return { value: shown, repeats, wholeUpTo };
  }

  readonly #known = new WeakMap<object, { number: number; chars: number }>();

  /** Equal values get equal numbers, in one walk over all they hold. */
  #number(value: Json): { number: number; chars: number; children: boolean } {
    if (typeof value !== "object" || value === null) {
      const text = JSON.stringify(value);
      return { number: this.#numberOf(text), chars: text.length, children: false };
    }
    const known = this.#known.get(value);
    if (known) return { ...known, children: true };
    let chars = 2;
    let text: string;
    if (Array.isArray(value)) {
      const numbers = value.map((item: Json) => {
        const of = this.#number(item);
        chars += of.chars + 1;
        return of.number;
      });
      text = `[${numbers.join()}]`;
    } else {
      const parts: string[] = [];
      for (const [key, item] of Object.entries(value as { [key: string]: Json })) {
        const of = this.#number(item);
        chars += key.length + of.chars + 4;
        parts.push(`${JSON.stringify(key)}:${of.number}`);
      }
      text = `{${parts.join()}}`;
    }
    const of = { number: this.#numberOf(text), chars };
    this.#known.set(value, of);
    return { ...of, children: true };
  }

  #numberOf(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.#numbers.size);
    return this.#numbers.size - 1;
  }

  /** Replaces each run of sentences or lines that stood in the same order before. */
  #passages(text: string, where: string): { value: string; repeats: number; wholeUpTo: number } {
    const sentences = sentencesOf(text);
    const shown: string[] = [];
    let repeats = 0;
    let wholeUpTo = text.length;
    let offset = 0;
    for (let at = 0; at < sentences.length; ) {
      const sentence = sentences[at] ?? "";
      const first = this.#sentences.get(sentence);
      let length = sentence.length;
      let end = at + 1;
      if (first) {
        while (end < sentences.length) {
          const next = sentences[end] ?? "";
          const place = this.#sentences.get(next);
          if (place?.where !== first.where || place.sentence !== first.sentence + end - at) break;
          length += next.length;
          end += 1;
        }
        if (length >= REPEATED_CHARS_MIN && repeats < PASSAGES_MAX) {
          if (repeats === 0) wholeUpTo = offset;
          repeats += 1;
          shown.push(mark(`${length} characters as in ${short(first.where)}`), passageEnd(text, offset + length));
          at = end;
          offset += length;
          continue;
        }
      } else this.#sentences.set(sentence, { where, sentence: at });
      shown.push(sentence);
      offset += sentence.length;
      at += 1;
    }
    return { value: shown.join(""), repeats, wholeUpTo };
  }
}

/** A passage takes its line's end along; what follows begins a line of its own all the same. */
function passageEnd(text: string, end: number): string {
  return end < text.length && text[end - 1] === "\n" ? "\n" : end < text.length ? " " : "";
}

/** A text as its sentences and lines, with all that is between them. */
function sentencesOf(text: string): string[] {
  return text.match(/[^\n.!?]{0,2000}(?:[\n.!?][\n.!? ]{0,20})?/gu)?.filter((sentence) => sentence !== "") ?? [];
}

const WHERE_CHARS_MAX = 100;

/** The beginning of a path: the keys in it are chosen by agents and may be long. */
function short(where: string): string {
  return where.length <= WHERE_CHARS_MAX ? where : `${where.slice(0, WHERE_CHARS_MAX)}…`.toWellFormed();
}
