/**
 * How many tokens a text is for a model. Hosts' models have tokenizers of their own and do not say which: this counts with
 * cl100k_base and keeps a margin. Decision record 0018 has the figures.
 */

/** Of the tokens a caller allows, the part that is used: other tokenizers make more of the same text. */
const MARGIN = 0.8;
/**
 * The tokenizer's time grows with the square of a run of like characters, so no piece that it sees is longer than this. Where
 * a text is split without need, a token or so is counted too many.
 */
const PIECE_CHARS_MAX = 256;
/** Characters of which the tokens are counted at once; of longer texts a share of each is, and the rest is taken to be alike. */
const COUNTED_CHARS_MAX = 400_000;
/** The least that is counted of each of several texts. */
const SAMPLE_CHARS_MIN = 512;

export type CountTokens = (text: string) => number;

let loading: Promise<CountTokens> | undefined;

/** Loads the tokenizer when it is first needed: 1 MB of code and 40 MiB of memory that a server without contexts never has. */
export function loadTokenizer(): Promise<CountTokens> {
  loading ??= load();
  return loading;
}

async function load(): Promise<CountTokens> {
  const { countTokens } = await import("gpt-tokenizer/encoding/cl100k_base");
  const asText = { disallowedSpecial: new Set<string>() }; // what looks like a special token is text here
  return (text) => pieces(text).reduce((sum, piece) => sum + countTokens(piece, asText), 0);
}

/** A text in pieces of bounded length, split behind white space where there is some. */
export function pieces(text: string): string[] {
  const found: string[] = [];
  for (let from = 0; from < text.length; ) {
    let to = Math.min(text.length, from + PIECE_CHARS_MAX);
    if (to < text.length) {
      const gap = text.slice(from, to).search(/[\s,][^\s,]*$/);
      if (gap > PIECE_CHARS_MAX / 2) to = from + gap;
      else if (!text.slice(from, to).isWellFormed() && text.slice(from, to - 1).isWellFormed()) to -= 1;
    }
    found.push(text.slice(from, to));
    from = to;
  }
  return found;
}

/** What an answer may have by our count, so that it is within what the caller allows by the count of its own model. */
export function tokensToUse(maxTokens: number): number {
  return Math.floor(maxTokens * MARGIN);
}

/** The tokens of each text; `estimated` when they are too long in all to count every character. */
export function measure(count: CountTokens, texts: readonly string[]): { tokens: number[]; estimated: boolean } {
  const chars = texts.reduce((sum, text) => sum + text.length, 0);
  if (chars <= COUNTED_CHARS_MAX) return { tokens: texts.map(count), estimated: false };
  const share = COUNTED_CHARS_MAX / chars;
  const tokens = texts.map((text) => {
    const sample = text.slice(0, Math.max(SAMPLE_CHARS_MIN, Math.floor(text.length * share)));
    return Math.round((count(sample) * text.length) / Math.max(1, sample.length));
  });
  return { tokens, estimated: true };
}
