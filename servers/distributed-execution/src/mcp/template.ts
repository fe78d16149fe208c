/**
 * Arguments written once by an operator and filled in for each task: JSON in which a text may hold placeholders. Nothing is evaluated,
 * and what is put in is never looked at again, so that a task's text cannot become a placeholder, a field or a tool.
 *
 * - `"{{parameters.limit}}"` alone in a text becomes the value itself, of whatever type; within a longer text it becomes text.
 * - `a.b ?? c ?? "text"`: the first that is there; the last may be a JSON literal.
 * - `?? omit`: when none is there, the field (or the element of an array) is left out.
 * - `| lines`: a text becomes the list of its lines that are not empty; a list stays what it is.
 * - `| identifier`: a name becomes a quoted SQL identifier.
 */
import { JSON_DEPTH_MAX, type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";

/** Longest placeholder, in characters. */
export const PLACEHOLDER_CHARS_MAX = 200;
/** Largest result of one template, as JSON in characters. */
export const FILLED_CHARS_MAX = 512 * 1024;
/** Most lines that `| lines` makes. */
export const LINES_MAX = 32;

const PLACEHOLDER = /\{\{([^{}]*)\}\}/g;
const WHOLE = /^\s*\{\{([^{}]*)\}\}\s*$/;
const PATH = /^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/;
const FILTERS = ["lines", "identifier"] as const;
type Filter = (typeof FILTERS)[number];
/** PostgreSQL cuts longer names. */
const IDENTIFIER_CHARS_MAX = 63;

/** Where values come from, by the first name of a path. */
export type Scope = Readonly<Record<string, Json | undefined>>;

type Alternative = { readonly path: readonly string[] } | { readonly literal: Json } | "omit";
/** What stands between the braces, read. */
export interface Expression {
  readonly alternatives: readonly Alternative[];
  readonly filter?: Filter;
}

/** The field that holds it goes. */
const OMIT = Symbol("omit");

/** @throws SwarmError invalid_argument: the operator wrote something that is no placeholder */
export function parseExpression(text: string): Expression {
  if (text.length > PLACEHOLDER_CHARS_MAX) throw wrong(text);
  const [whole = "", filtered, ...more] = outsideTexts(text, "|");
  const filter = FILTERS.find((name) => name === filtered?.trim());
  if (more.length > 0 || (filtered !== undefined && filter === undefined)) throw wrong(text);
  const alternatives = outsideTexts(whole, "??").map((part) => alternativeOf(part.trim(), text));
  return { alternatives, ...(filter === undefined ? {} : { filter }) };
}

function alternativeOf(part: string, text: string): Alternative {
  if (part === "omit") return "omit";
  const literal = literalOf(part);
  if (literal !== undefined) return { literal };
  if (!PATH.test(part)) throw wrong(text);
  return { path: part.split(".") };
}

function literalOf(part: string): Json | undefined {
  if (!/^["[0-9tfn-]/.test(part)) return undefined;
  try {
    return JSON.parse(part) as Json;
  } catch {
    return undefined; // a path that begins like one, such as `task`
  }
}

/** Splits at `separator` where it is not within a JSON text. */
function outsideTexts(text: string, separator: string): string[] {
  const parts: string[] = [];
  let begin = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\" && quoted) at++;
    else if (text[at] === '"') quoted = !quoted;
    else if (!quoted && text.startsWith(separator, at)) {
      parts.push(text.slice(begin, at));
      begin = at + separator.length;
      at = begin - 1;
    }
  }
  return [...parts, text.slice(begin)];
}

function wrong(text: string): SwarmError {
  return new SwarmError(
    "invalid_argument",
    `This is not a placeholder: {{${text.replace(/[^\x20-\x7e]/g, "?").slice(0, 80)}}}.`,
    {
      hint: "Write a path such as {{parameters.query}}, with alternatives behind ??, the last of which may be JSON or omit, for example {{parameters.limit ?? 10}}.",
    },
  );
}

/** Every placeholder of a template, read. @throws SwarmError invalid_argument */
export function placeholders(template: Json): Expression[] {
  return textsOf(template).flatMap((text) => [...text.matchAll(PLACEHOLDER)].map(([, inner = ""]) => parseExpression(inner)));
}

function textsOf(template: Json, depth = 0): string[] {
  if (depth > JSON_DEPTH_MAX) {
    throw new SwarmError("invalid_argument", `A template is nested deeper than ${JSON_DEPTH_MAX}.`, { hint: "Make it flatter." });
  }
  if (typeof template === "string") return [template];
  if (typeof template !== "object" || template === null) return [];
  return Object.values(template).flatMap((value) => (value === undefined ? [] : textsOf(value as Json, depth + 1)));
}

/**
 * What a template needs and `scope` does not hold: a path each, the first alternative of the placeholder. Paths below `later` are taken
 * to be there: what they name is not known yet.
 */
export function missing(template: Json, scope: Scope, later: readonly string[]): string[] {
  return placeholders(template)
    .filter(
      ({ alternatives }) =>
        !alternatives.some(
          (one) =>
            one === "omit" || "literal" in one || later.includes(one.path[0] ?? "") || lookUp(one.path, scope) !== undefined,
        ),
    )
    .flatMap(({ alternatives: [first] }) =>
      first !== undefined && first !== "omit" && "path" in first ? [first.path.join(".")] : [],
    );
}

/** @throws SwarmError invalid_argument: something that the template needs is missing (named), or the result is too large */
export function fill(template: Json, scope: Scope): Json {
  const filled = fillIn(template, scope);
  const value = filled === OMIT ? null : filled;
  if (JSON.stringify(value).length > FILLED_CHARS_MAX) {
    throw new SwarmError(
      "invalid_argument",
      `What a template was filled with is longer than ${FILLED_CHARS_MAX} characters of JSON.`,
      {
        hint: "Shorten the description or the parameters of the task.",
      },
    );
  }
  return value;
}

function fillIn(template: Json, scope: Scope): Json | typeof OMIT {
  if (typeof template === "string") return fillText(template, scope);
  if (typeof template !== "object" || template === null) return template;
  if (isList(template)) return template.map((item) => fillIn(item, scope)).filter((item) => item !== OMIT);
  const filled = Object.entries(template)
    .map(([key, value]) => [key, value === undefined ? OMIT : fillIn(value, scope)] as const)
    .filter((entry): entry is readonly [string, Json] => entry[1] !== OMIT);
  return Object.fromEntries(filled);
}

function fillText(text: string, scope: Scope): Json | typeof OMIT {
  const whole = WHOLE.exec(text);
  if (whole) return valueFor(parseExpression(whole[1] ?? ""), scope);
  let omitted = false;
  const filled = text.replace(PLACEHOLDER, (_, inner: string) => {
    const value = valueFor(parseExpression(inner), scope);
    if (value === OMIT) omitted = true;
    return value === OMIT ? "" : typeof value === "string" ? value : JSON.stringify(value);
  });
  return omitted ? OMIT : filled;
}

function valueFor({ alternatives, filter }: Expression, scope: Scope): Json | typeof OMIT {
  for (const one of alternatives) {
    if (one === "omit") return OMIT;
    const value = "literal" in one ? one.literal : lookUp(one.path, scope);
    if (value === undefined) continue;
    return filter === "lines" ? linesOf(value) : filter === "identifier" ? identifierOf(value) : value;
  }
  const [first] = alternatives;
  const path = first !== undefined && first !== "omit" && "path" in first ? first.path.join(".") : "a value";
  throw missingValue([path]);
}

export function missingValue(paths: readonly string[]): SwarmError {
  return new SwarmError("invalid_argument", `Missing: ${[...new Set(paths)].join(", ")}.`, {
    hint: "Give each of them with the task; parameters are an object of its own.",
  });
}

function linesOf(value: Json): Json {
  if (typeof value !== "string") return value;
  return value
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(0, LINES_MAX);
}

function identifierOf(value: Json): string {
  if (typeof value === "string" && value !== "" && value.length <= IDENTIFIER_CHARS_MAX)
    return `"${value.replaceAll('"', '""')}"`;
  throw new SwarmError("invalid_argument", `A name in SQL has 1 to ${IDENTIFIER_CHARS_MAX} characters.`, {
    hint: "Give the name of a schema or table as a text, without quotes.",
  });
}

/** Own members only: no path reaches what every object inherits. */
function lookUp(path: readonly string[], scope: Scope): Json | undefined {
  let at: Json | undefined = scope as JsonObject;
  for (const step of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as JsonObject)[step];
  }
  return at;
}

export function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}
