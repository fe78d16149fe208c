import { SwarmError } from "@mcp-swarm/core";
import { expand } from "brace-expansion";

/*
 * Paths and globs of one repository. A path is relative to the repository's root, with "/" between its segments, so the same
 * file has the same path in every worktree and on every system. Case is kept.
 *
 * In a glob `*` stands for any part of a name, `?` for one character, `[a-z]` and `[!a-z]` for one of a set, `**` as a whole
 * segment for any number of folders (none included), and braces for alternatives. Names that begin with a dot are names
 * like others. Two rules take the side of care. A glob that ends in "/", or in a name without wildcard and extension, is a folder
 * with everything in it (`src`, `.github`; so `LICENSE` is one too, which does no harm). And a name with brackets matches
 * itself, too (`app/[id]/page.tsx`).
 *
 * Matching and overlap are one algorithm over the parsed glob, in time proportional to the product of the lengths. A regular
 * expression made from a glob with four stars can take seconds on one path, and the globs come from callers.
 */

/** Longest path or glob, in characters, and its most segments. */
export const PATH_LENGTH_MAX = 256;
export const PATH_DEPTH_MAX = 32;
/** Most globs of one call, after braces are written out. */
export const GLOBS_MAX = 64;

/** What no path may hold: control characters and halves of surrogate pairs. */
const UNFIT = /[\u0000-\u001f\u007f]|\p{Surrogate}/u;
const ABSOLUTE = /^(?:\/|[A-Za-z]:\/)/;
const EXTENDED = /[@!+?*]\(/;
const WILDCARD = /[*?[]/;
/** A last segment that may well name a folder: no wildcard, and no dot but a first one. */
const FOLDER = /^\.?[^.*?[]*$/;

/** Where the checkout that a caller works in lies; absolute paths inside it are made relative. */
export interface PathOptions {
  readonly root?: string;
  /**
   * In place of `root`, for who knows more than the text tells (other checkouts, links): where a path as it was given lies below
   * the root, undefined when outside. It may be absolute or not, and end in segments with wildcards, which stay as they are.
   */
  readonly place?: (path: string) => string | undefined;
}

/** Longest path before it is placed: what systems allow. */
const GIVEN_LENGTH_MAX = 4_096;

function refused(message: string, hint: string): SwarmError {
  return new SwarmError("invalid_argument", message, { hint });
}

function withSlashes(text: string): string {
  return text.replaceAll("\\", "/").normalize("NFC");
}

function checkText(text: string, { root = "", place }: PathOptions): void {
  const longest = place ? GIVEN_LENGTH_MAX : PATH_LENGTH_MAX + root.length;
  if (text.length > 0 && text.length <= longest && !UNFIT.test(text)) return;
  throw refused(
    "Not a usable path.",
    `Use 1 to ${PATH_LENGTH_MAX} characters without control characters, relative to the repository's root.`,
  );
}

function belowRoot(path: string, options: PathOptions): string {
  if (options.place) {
    const placed = options.place(path);
    if (placed === undefined) throw refused("A path lies outside the repository.", "Name only files inside the repository.");
    return placed;
  }
  if (!ABSOLUTE.test(path)) return path;
  const root = options.root === undefined ? undefined : withSlashes(options.root).replace(/\/+$/, "");
  if (root === undefined || (path !== root && !path.startsWith(`${root}/`))) {
    throw refused("An absolute path lies outside the repository.", "Give paths relative to the repository's root.");
  }
  return path.slice(root.length);
}

/** Relative to the root, without `.`, `..` and empty segments; "" is the root itself. */
function relative(text: string, options: PathOptions, wildcards: boolean): string {
  checkText(text, options);
  const path = belowRoot(withSlashes(text), options);
  const segments: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") {
      segments.push(part);
      continue;
    }
    const left = segments.pop();
    if (left === undefined) throw refused("A path leads out of the repository.", "Name only files inside the repository.");
    if (wildcards && WILDCARD.test(left)) {
      throw refused('".." behind a wildcard has no certain meaning.', "Write the glob without it.");
    }
  }
  const result = segments.join("/");
  if (segments.length > PATH_DEPTH_MAX || result.length > PATH_LENGTH_MAX) {
    throw refused("A path is too long.", `Use at most ${PATH_LENGTH_MAX} characters and ${PATH_DEPTH_MAX} segments.`);
  }
  return result;
}

/**
 * A file's path in the one form in which it is compared and kept.
 * @throws SwarmError invalid_argument when it leads outside the repository or names its root
 */
export function normalizePath(text: string, options: PathOptions = {}): string {
  const path = relative(text, options, false);
  if (path === "") throw refused("A path names the repository's root.", "Name a file or folder inside the repository.");
  return path;
}

/**
 * Globs in the one form in which they are compared and kept: relative, braces written out, each once, in the order given.
 * @throws SwarmError invalid_argument (negations, extended globs, what leads outside), limit_exceeded over `GLOBS_MAX`
 */
export function normalizeGlobs(texts: readonly string[], options: PathOptions = {}): string[] {
  const globs = new Set<string>();
  for (const text of texts) {
    if (text.startsWith("!")) throw refused("A glob cannot be negated.", "Name what is meant, with several globs if need be.");
    if (EXTENDED.test(text)) throw refused("Extended globs are not understood.", "Use braces for alternatives: {a,b}.");
    checkText(text, options);
    for (const one of expand(withSlashes(text), { max: GLOBS_MAX + 1 })) {
      const named = relative(one, options, true);
      const glob = named === "" ? "**" : one.endsWith("/") ? `${named}/**` : named;
      parseGlob(glob);
      globs.add(glob);
      if (globs.size > GLOBS_MAX) {
        throw new SwarmError("limit_exceeded", `There are more than ${GLOBS_MAX} globs, braces written out.`, {
          hint: "Name a folder or use a wildcard instead.",
        });
      }
    }
  }
  return [...globs];
}

/** Inclusive ranges of code points, in order. */
type CharSet = readonly (readonly [number, number])[];
type Token = CharSet | "star";
/** A segment's readings: as a pattern, and with its brackets as plain characters where it has any. */
type Segment = "globstar" | readonly (readonly Token[])[];

const CODE_POINT_MAX = 0x10ffff;
const ANY: CharSet = [[0, CODE_POINT_MAX]];

/** A glob ready to be compared. */
export type ParsedGlob = readonly Segment[];

/**
 * One glob as `normalizeGlobs` answers it.
 * @throws SwarmError invalid_argument for a character class that means nothing
 */
export function parseGlob(glob: string): ParsedGlob {
  const parts = glob.split("/");
  const segments = parts.map(parseSegment);
  return FOLDER.test(parts.at(-1) ?? "") ? [...segments, "globstar"] : segments;
}

/** A path as a glob that matches it alone. */
function parsePath(path: string): ParsedGlob {
  return path.split("/").map((part) => [parseTokens(part, { plain: true })]);
}

function parseSegment(part: string): Segment {
  if (/^\*{2,}$/.test(part)) return "globstar";
  const pattern = parseTokens(part, { brackets: true });
  return part.includes("[") ? [pattern, parseTokens(part, { brackets: false })] : [pattern];
}

function parseTokens(part: string, how: { plain: true } | { brackets: boolean }): Token[] {
  const chars = [...part];
  const tokens: Token[] = [];
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at] as string;
    if ("plain" in how) tokens.push(only(char));
    else if (char === "*") {
      if (tokens.at(-1) !== "star") tokens.push("star");
    } else if (char === "?") tokens.push(ANY);
    else {
      const end = char === "[" && how.brackets ? classEnd(chars, at) : undefined;
      tokens.push(end === undefined ? only(char) : parseClass(chars.slice(at + 1, end)));
      at = end ?? at;
    }
  }
  return tokens;
}

function only(char: string): CharSet {
  const code = char.codePointAt(0) as number;
  return [[code, code]];
}

/** Where the class that opens at `open` closes; a "]" that comes first is one of its members. */
function classEnd(chars: readonly string[], open: number): number | undefined {
  const first = chars[open + 1] === "!" || chars[open + 1] === "^" ? open + 2 : open + 1;
  const end = chars.indexOf("]", first + 1);
  return end < 0 ? undefined : end;
}

function parseClass(members: readonly string[]): CharSet {
  const negated = members[0] === "!" || members[0] === "^";
  const ranges: [number, number][] = [];
  const list = (negated ? members.slice(1) : members).map((char) => char.codePointAt(0) as number);
  for (let at = 0; at < list.length; at++) {
    const low = list[at] as number;
    const high = list[at + 1] === 0x2d ? list[at + 2] : undefined;
    if (high === undefined) ranges.push([low, low]);
    else {
      if (low > high) throw refused("A character range of a glob runs backwards.", "Write the lower character first: [a-z].");
      ranges.push([low, high]);
      at += 2;
    }
  }
  if (list[0] === 0x5b && list[1] === 0x3a) throw refused("Named character classes are not understood.", "Use ranges: [a-z].");
  ranges.sort((a, b) => a[0] - b[0]);
  return negated ? complement(ranges) : ranges;
}

function complement(ranges: readonly (readonly [number, number])[]): CharSet {
  const rest: [number, number][] = [];
  let from = 0;
  for (const [low, high] of ranges) {
    if (low > from) rest.push([from, low - 1]);
    from = Math.max(from, high + 1);
  }
  if (from <= CODE_POINT_MAX) rest.push([from, CODE_POINT_MAX]);
  return rest;
}

function setsMeet(a: CharSet, b: CharSet): boolean {
  return a.some(([lowA, highA]) => b.some(([lowB, highB]) => lowA <= highB && lowB <= highA));
}

/**
 * Whether some sequence is matched by both patterns, given what stands for any run and when two single parts meet. Walks the
 * pairs of places that both can have come to, from the start, so that plain text that differs ends it at once.
 */
function patternsMeet<P>(
  a: readonly P[],
  b: readonly P[],
  isRun: (part: P) => boolean,
  partsMeet: (a: P, b: P) => boolean,
): boolean {
  // here[j]: place j in b goes with place i in a; `low` is the first such j
  let here = new Uint8Array(b.length + 2);
  let next = new Uint8Array(b.length + 2);
  here[0] = 1;
  let low = 0;
  for (let i = 0; i < a.length; i++) {
    const partA = a[i] as P;
    const runA = isRun(partA);
    let nextLow = b.length + 1;
    for (let j = low; j <= b.length; j++) {
      if (here[j] === 0) continue;
      const partB = b[j];
      let to = -1; // where b stands once a has moved on
      if (runA || (partB !== undefined && isRun(partB))) {
        if (partB !== undefined) here[j + 1] = 1; // a run takes b's part in, or b's run stood for nothing
        to = j;
      } else if (partB !== undefined && partsMeet(partA, partB)) to = j + 1;
      if (to < 0) continue;
      next[to] = 1;
      if (to < nextLow) nextLow = to;
    }
    if (nextLow > b.length) return false;
    here.fill(0);
    [here, next] = [next, here];
    low = nextLow;
  }
  // a is used up: what is left of b must be able to stand for nothing
  for (let j = low; j <= b.length; j++) {
    if (here[j] === 0) continue;
    const partB = b[j];
    if (partB === undefined) return true;
    if (isRun(partB)) here[j + 1] = 1;
  }
  return false;
}

const isStar = (token: Token) => token === "star";
const tokensMeet = (a: Token, b: Token) => a !== "star" && b !== "star" && setsMeet(a, b);
const isGlobstar = (segment: Segment) => segment === "globstar";
const segmentsMeet = (a: Segment, b: Segment) =>
  a !== "globstar" && b !== "globstar" && a.some((x) => b.some((y) => patternsMeet(x, y, isStar, tokensMeet)));

/** Whether a path exists that both match. Decided, not guessed, but for the two rules of care above. */
export function parsedOverlap(a: ParsedGlob, b: ParsedGlob): boolean {
  return patternsMeet(a, b, isGlobstar, segmentsMeet);
}

/** `parsedOverlap` of globs as written. @throws SwarmError as `normalizeGlobs` */
export function globsOverlap(a: string, b: string): boolean {
  const others = normalizeGlobs([b]).map(parseGlob);
  return normalizeGlobs([a]).some((glob) => others.some((other) => parsedOverlap(parseGlob(glob), other)));
}

/** Whether the glob matches the path, both normalised. */
export function globMatches(glob: ParsedGlob, path: string): boolean {
  return parsedOverlap(glob, parsePath(path));
}

/** The folders above everything that a normalised glob matches: its leading segments without wildcards. */
export function literalBase(glob: string): string[] {
  const parts = glob.split("/");
  const wild = parts.findIndex((part) => WILDCARD.test(part));
  return wild < 0 ? parts : parts.slice(0, wild);
}
