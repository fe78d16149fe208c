/**
 * The largest view of some sources that fits a budget. What is shown less of, or not at all, says how it is read; nothing that was
 * left out is silent.
 */
import { assert, type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import { type Once, Repeats } from "./context-repeats.ts";
import { jsonChars, shorten } from "./context-shortening.ts";
import type { Source, SourceKind, SourcePart, Unread } from "./context-source.ts";
import { type CountTokens, measure } from "./context-tokens.ts";

/** Characters of a part of weight 1: from what no part has to what is hardly worth showing, each step a tenth less. */
const ROOM_MOST = 250_000;
const ROOM_LEAST = 60;
const ROOM_STEP = 0.9;
/** Most ids of things that are not shown, tried in this order. */
const LISTED = [200, 60, 20, 5, 0] as const;
/** Times that the answer's own size is put into it until it is right. */
const SETTLE_MAX = 4;
/** Tokens by which two names of a limit may differ. */
const LIMIT_TOKENS = 4;

export type ContextItem = {
  readonly kind: SourceKind;
  readonly id: string;
  readonly content?: { readonly [part: string]: Json };
  /** What of the content is missing: each call reads one part on from where it stops. */
  readonly readOn?: string[];
  readonly [fact: string]: Json | undefined;
};

/** What was done to make the context fit, or could be without loss. */
export type Reduction = { readonly what: string; readonly why: string; readonly savedTokens: number; readonly readOn: string };

/** Things that are not shown, by id. */
export type Omitted = {
  readonly kind: SourceKind;
  readonly ids: string[];
  /** Beyond those. */
  readonly more?: number;
  readonly readOn: string;
};

export type ContextView = {
  readonly items: ContextItem[];
  readonly omitted?: Omitted[];
  /** Tokens of everything, unshortened; about, when `estimated`. */
  readonly originalTokens: number;
  readonly estimated?: true;
  /** Tokens of the answer, with all that goes around the items. */
  readonly tokens: number;
  readonly ratio: number;
  readonly reductions: Reduction[];
  /** What the context would not have fitted into. */
  readonly limitedBy?: "maxTokens" | "answerBytes";
};

export interface Fit {
  readonly sources: readonly Source[];
  readonly unread: readonly Unread[];
  readonly count: CountTokens;
  /** By `count`, of the whole answer. */
  readonly tokensMax: number;
  readonly bytesMax: number;
  /** What else will be in the answer. */
  readonly envelope: JsonObject;
}

type Part = SourcePart & Once & { readonly chars: number; readonly onceChars: number; readonly tokensPerChar: number };
type Prepared = { readonly source: Source; readonly parts: readonly Part[]; readonly tokens: number };
/** How much is shown: of the first `kept` sources each part in `room` characters, the ids of `listed` others. */
type Measure = { readonly kept: number; readonly room: number; readonly listed: number };
type Refused = "maxTokens" | "answerBytes";

/** @throws SwarmError limit_exceeded when not even the frame of an answer fits */
export function fitContext(fit: Fit): ContextView {
  const { prepared, tokens: originalTokens, estimated } = prepare(fit);
  const all = prepared.length;
  const made = (measure: Measure) => ({
    ...view(prepared, fit.unread, measure),
    originalTokens,
    ...(estimated ? { estimated } : {}),
  });
  const whole = settle(fit, made({ kept: all, room: Number.POSITIVE_INFINITY, listed: 0 }));
  if (typeof whole !== "string") return whole;

  let refused: Refused = whole;
  // the name of what limits is put in at the end, which may take a token more than the other name
  const tight: Fit = { ...fit, tokensMax: fit.tokensMax - LIMIT_TOKENS };
  const attempt = (measure: Measure): ContextView | undefined => {
    const tried = settle(tight, { ...made(measure), limitedBy: "answerBytes" });
    if (typeof tried !== "string") return tried;
    refused = tried;
    return undefined;
  };
  const limited = (fitting: ContextView): ContextView => {
    const { tokens: _, ratio: __, ...rest } = fitting;
    const told = settle(fit, { ...rest, limitedBy: refused });
    assert(typeof told !== "string", "room was left for what limits");
    return told;
  };

  const kept = greatest(all, (kept) => attempt({ kept, room: ROOM_LEAST, listed: LISTED[0] }));
  if (kept) {
    const steps = Math.ceil(Math.log(ROOM_LEAST / ROOM_MOST) / Math.log(ROOM_STEP));
    const room = greatest(steps, (step) =>
      attempt({ kept: kept.number, room: Math.round(ROOM_MOST * ROOM_STEP ** (steps - step)), listed: LISTED[0] }),
    );
    return limited(room?.made ?? kept.made);
  }
  for (const listed of LISTED) {
    const view = attempt({ kept: 0, room: 0, listed });
    if (view) return limited(view);
  }
  throw new SwarmError("limit_exceeded", "maxTokens is too small for a context.", {
    hint: "Allow more, or read what you need with get_task or get_state.",
  });
}

/** The greatest number from 0 to `most` for which something is made, if it is for all below too; else one for which it is. */
function greatest<T>(most: number, make: (number: number) => T | undefined): { number: number; made: T } | undefined {
  let found: { number: number; made: T } | undefined;
  for (let low = 0, high = most; low <= high; ) {
    const middle = Math.floor((low + high) / 2);
    const made = make(middle);
    if (made === undefined) high = middle - 1;
    else {
      found = { number: middle, made };
      low = middle + 1;
    }
  }
  return found;
}

function prepare({ sources, count }: Fit): { prepared: Prepared[]; tokens: number; estimated: boolean } {
  const repeats = new Repeats();
  const texts = sources.flatMap(({ kind, id, facts, parts }) => [
    JSON.stringify({ kind, id, ...facts }),
    ...parts.map(({ value }) => JSON.stringify(value)),
  ]);
  const { tokens, estimated } = measure(count, texts);
  let at = 0;
  const prepared = sources.map((source, index): Prepared => {
    let own = tokens[at++] ?? 0;
    const parts = source.parts.map((part): Part => {
      const partTokens = tokens[at] ?? 0;
      const chars = texts[at]?.length ?? 0;
      at += 1;
      own += partTokens;
      const once = repeats.once(part.value, `items[${index}].content.${part.name}`);
      return { ...part, ...once, chars, onceChars: jsonChars(once.value), tokensPerChar: partTokens / Math.max(1, chars) };
    });
    return { source, parts, tokens: own };
  });
  return { prepared, tokens: tokens.reduce((sum, one) => sum + one, 0), estimated };
}

/** How often something was done, and what it saved. */
class Savings {
  times = 0;
  tokens = 0;

  add(times: number, tokens: number): void {
    this.times += times;
    this.tokens += Math.max(0, tokens);
  }

  /** @param what with `#` for how often */
  told(what: string, why: string, readOn: string): Reduction[] {
    if (this.times === 0) return [];
    return [{ what: what.replace("#", String(this.times)), why, savedTokens: Math.round(this.tokens), readOn }];
  }
}

type View = Pick<ContextView, "items" | "omitted" | "reductions">;

function view(prepared: readonly Prepared[], unread: readonly Unread[], { kept, room, listed }: Measure): View {
  const repeated = new Savings();
  const sampled = new Savings();
  const cut = new Savings();
  const left = new Savings();
  const items = prepared.slice(0, kept).map(({ source, parts }): ContextItem => {
    const readOn: string[] = [];
    const content: { [name: string]: Json } = {};
    for (const part of parts) {
      const space = room * source.weight;
      if (part.onceChars > space && space < ROOM_LEAST) {
        left.add(1, part.chars * part.tokensPerChar);
        readOn.push(part.readOn(0));
        continue;
      }
      const { value, cuts, samples, head } = shorten(part.value, space);
      content[part.name] = value;
      if (part.repeats === 0 && cuts + samples === 0) continue;
      readOn.push(part.readOn(typeof part.value === "string" ? Math.min(head, part.wholeUpTo) : 0));
      repeated.add(part.repeats, (part.chars - part.onceChars) * part.tokensPerChar);
      if (cuts + samples > 0) {
        const saved = (part.onceChars - jsonChars(value)) * part.tokensPerChar;
        if (samples > 0) sampled.add(samples, saved);
        else cut.add(cuts, saved);
      }
    }
    return {
      kind: source.kind,
      id: source.id,
      ...source.facts,
      ...(Object.keys(content).length === 0 ? {} : { content }),
      ...(readOn.length === 0 ? {} : { readOn }),
    };
  });
  const dropped = prepared.slice(kept);
  const gone = new Savings();
  for (const { tokens } of dropped) gone.add(1, tokens);
  const omitted = listOf(dropped, listed);
  return {
    items,
    ...(omitted.length === 0 ? {} : { omitted }),
    reductions: [
      ...repeated.told("# repeated parts said once", "the same stands elsewhere in this context", "items[].readOn"),
      ...sampled.told("# lists sampled", "longer than their share", "items[].readOn"),
      ...cut.told("# texts cut to head and tail", "longer than their share", "items[].readOn"),
      ...left.told("# fields left out", "no room for a useful part", "items[].readOn"),
      ...gone.told("# items listed by id", "least important of what did not fit", "omitted[].readOn"),
      ...unread.map((one) => ({ ...one, savedTokens: 0 })),
    ],
  };
}

function listOf(dropped: readonly Prepared[], listed: number): Omitted[] {
  const groups = new Map<string, { kind: SourceKind; all: string[] }>();
  for (const { source } of dropped) {
    const group = groups.get(source.reading) ?? { kind: source.kind, all: [] };
    group.all.push(source.id);
    groups.set(source.reading, group);
  }
  let left = listed;
  return [...groups].map(([readOn, { kind, all }]) => {
    const ids = all.slice(0, left);
    left -= ids.length;
    return { kind, ids, ...(ids.length === all.length ? {} : { more: all.length - ids.length }), readOn };
  });
}

/** The view with its own size in it, or what it does not fit into. */
function settle(fit: Fit, view: Omit<ContextView, "tokens" | "ratio">): ContextView | Refused {
  const { items, omitted, reductions, ...rest } = view;
  let tokens = fit.tokensMax;
  for (let turn = 0; ; turn++) {
    // what was not reduced is as large as it was, the frame of the answer included
    const originalTokens = reductions.length === 0 ? tokens : Math.max(1, view.originalTokens);
    const ratio = Math.round((1_000 * tokens) / originalTokens) / 1_000;
    const made = { items, ...(omitted === undefined ? {} : { omitted }), ...rest, originalTokens, tokens, ratio, reductions };
    const text = JSON.stringify({ ...made, ...fit.envelope });
    if (Buffer.byteLength(text) > fit.bytesMax) return "answerBytes";
    const counted = fit.count(text);
    if (counted > fit.tokensMax) return "maxTokens";
    if (counted === tokens || turn === SETTLE_MAX) return made;
    tokens = counted;
  }
}
