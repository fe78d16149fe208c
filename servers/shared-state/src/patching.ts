/**
 * Changes of a value in place: JSON Patch (RFC 6902), merge patch (RFC 7396), counting, appending. They run inside plans, so
 * they are pure, leave what they are given as it is, and are bounded in time: a patch may neither blow a value up (each
 * `copy` can double it) nor reach what is not the value's own (`/toString`, `/__proto__`).
 */
import { isDeepStrictEqual } from "node:util";
import { JSON_DEPTH_MAX, type Json, type JsonObject, mergePatch, SwarmError, VALUE_BYTES_MAX } from "@mcp-swarm/core";
import jsonPatch from "fast-json-patch";

/** Operations of one JSON Patch. */
export const PATCH_OPS_MAX = 100;
/** Bytes that the operations of one patch may copy, compare and measure in all: it runs while others wait for the store. */
export const PATCH_WORK_BYTES_MAX = 16 * VALUE_BYTES_MAX;
/** Longest JSON pointer, in characters. */
export const POINTER_MAX = 512;
/** Items that an appended list may be told to keep. */
export const APPEND_ITEMS_MAX = 10_000;

export const PATCH_OPS = ["add", "remove", "replace", "move", "copy", "test"] as const;

export interface PatchOperation {
  readonly op: (typeof PATCH_OPS)[number];
  readonly path: string;
  readonly from?: string | undefined;
  readonly value?: Json | undefined;
}

/** One way to change a value; exactly one of these is given. */
export interface Change {
  readonly jsonPatch?: readonly PatchOperation[] | undefined;
  readonly mergePatch?: Json | undefined;
  /** Added to a number, or to 0 when there is no value. */
  readonly increment?: number | undefined;
  /** Put at the end of a list, or of a new one when there is no value. */
  readonly append?: Json | undefined;
  /** With `append`: only the last so many items stay. */
  readonly maxItems?: number | undefined;
}

const WAYS = ["jsonPatch", "mergePatch", "increment", "append"] as const;

/** @throws SwarmError invalid_argument unless it says exactly one way */
export function checkChange(change: Change, field: (name: string) => string = (name) => name): void {
  const given = WAYS.filter((way) => change[way] !== undefined);
  if (given.length !== 1) {
    throw new SwarmError("invalid_argument", `Give exactly one of ${WAYS.map(field).join(", ")}; ${given.length} were given.`, {
      hint: "One call makes one kind of change; transact_state makes several at once.",
    });
  }
  if (change.maxItems !== undefined && change.append === undefined) {
    throw new SwarmError("invalid_argument", `Field ${field("maxItems")} goes with append only.`);
  }
  for (const [index, operation] of (change.jsonPatch ?? []).entries())
    checkOperation(operation, `${field("jsonPatch")}[${index}]`);
}

/**
 * The value that a change makes of `current`, which is undefined when there is none.
 * @throws SwarmError failed_precondition when it does not fit what is there, limit_exceeded when the result is too large
 */
export function applyChange(current: Json | undefined, change: Change): Json {
  const { jsonPatch: operations, increment, append, maxItems } = change;
  if (increment !== undefined) return incremented(current, increment);
  if (append !== undefined) {
    if (current !== undefined && !Array.isArray(current)) throw unfit("The value is not a list: nothing can be appended to it.");
    const items = [...((current as readonly Json[] | undefined) ?? []), append];
    return maxItems === undefined ? items : items.slice(-maxItems);
  }
  if (operations) {
    if (current === undefined) throw unfit("The key has no value that a JSON Patch could change.", "Create it with set_state.");
    return patched(current, operations);
  }
  return mergePatch(current, change.mergePatch ?? null);
}

function incremented(current: Json | undefined, by: number): number {
  if (current !== undefined && typeof current !== "number") throw unfit("The value is not a number: it cannot be incremented.");
  const sum = (current ?? 0) + by;
  if (!Number.isFinite(sum) || Math.abs(sum) > Number.MAX_SAFE_INTEGER) {
    throw new SwarmError("limit_exceeded", "The number would be too large to keep exactly.", {
      hint: `Numbers go to ${Number.MAX_SAFE_INTEGER} either way.`,
    });
  }
  return sum;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether two values are the same JSON; the order of members does not count. */
export function sameJson(a: Json, b: Json): boolean {
  return isDeepStrictEqual(JSON.parse(JSON.stringify(a)), JSON.parse(JSON.stringify(b)));
}

// ── JSON Patch ──

/** What would reach an object's prototype, or look as if it did. */
const PROTOTYPE_NAMES = new Set(["__proto__", "constructor", "prototype"]);
/** What a member's name takes besides its characters, which are counted twice, since JSON escapes some. */
const QUOTES_AND_COMMAS = 4;
const INDEX = /^(?:0|[1-9][0-9]*)$/;

/** The steps of a JSON pointer (RFC 6901). @throws SwarmError invalid_argument */
export function pointerSteps(pointer: string, field: string): string[] {
  if (pointer === "") return [];
  if (!pointer.startsWith("/") || /~(?![01])/.test(pointer)) {
    throw new SwarmError("invalid_argument", `Field ${field} is not a JSON pointer.`, {
      hint: 'Use /member/0/member, with ~1 for a "/" and ~0 for a "~" within a name; the empty text means the whole value.',
    });
  }
  return pointer
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** What stands at the end of the steps, undefined when there is nothing. Sees own members only. */
export function valueAt(value: Json, steps: readonly string[]): Json | undefined {
  let at: Json | undefined = value;
  for (const step of steps) {
    if (Array.isArray(at)) at = INDEX.test(step) ? (at as readonly Json[])[Number(step)] : undefined;
    else if (isObject(at)) at = Object.hasOwn(at, step) ? at[step] : undefined;
    else return undefined;
  }
  return at;
}

/**
 * A value, or what a JSON pointer names in it, as the text that it is read in: a string as it is, anything else as JSON.
 * @throws SwarmError invalid_argument when there is nothing at the path
 */
export function textAt(value: Json, path = ""): { value: Json; text: string } {
  const there = valueAt(value, pointerSteps(path, "path"));
  if (there === undefined) {
    throw new SwarmError("invalid_argument", "Field path: the value has nothing there.", {
      hint: "Read the whole value first: leave path out.",
    });
  }
  return { value: there, text: typeof there === "string" ? there : JSON.stringify(there) };
}

function checkOperation({ op, path, from, value }: PatchOperation, field: string): void {
  checkPointer(path, `${field}.path`);
  if (op === "remove" && path === "") {
    throw new SwarmError("invalid_argument", `Field ${field} removes the whole value.`, { hint: "Use delete_state." });
  }
  const moves = op === "move" || op === "copy";
  if (moves) checkPointer(from ?? missing(`${field}.from`), `${field}.from`);
  else if (op !== "remove" && value === undefined) missing(`${field}.value`);
  if (op === "move" && path.startsWith(`${from}/`)) {
    throw new SwarmError("invalid_argument", `Field ${field} moves a value into itself.`);
  }
}

function checkPointer(pointer: string, field: string): void {
  if (!pointerSteps(pointer, field).some((step) => PROTOTYPE_NAMES.has(step))) return;
  throw new SwarmError("invalid_argument", `Field ${field} names a member that is not allowed.`, {
    hint: `No member may be called ${[...PROTOTYPE_NAMES].join(", ")}.`,
  });
}

function missing(field: string): never {
  throw new SwarmError("invalid_argument", `Field ${field} is missing.`);
}

/**
 * The operations one after the other: the library does what each says, once it is known that it can be done. At no step the
 * value is larger than a value may be.
 */
function patched(current: Json, operations: readonly PatchOperation[]): Json {
  let document: Json = structuredClone(current);
  let sizeAtMost = jsonBytes(document);
  let work = sizeAtMost;
  for (const [index, operation] of operations.entries()) {
    const value = operation.op === "copy" ? valueAt(document, steps(operation.from)) : operation.value;
    const size = value === undefined ? 0 : jsonBytes(value);
    work += size;
    if (work > PATCH_WORK_BYTES_MAX) throw tooMuchWork();
    const problem = problemOf(document, operation);
    if (problem)
      throw unfit(
        `JSON Patch operation ${index} (${operation.op}) failed: ${problem}.`,
        "Nothing was changed. Read the value again.",
      );
    if (operation.op === "test") continue;
    document = jsonPatch.applyOperation(document, cloned(operation), false, true).newDocument as Json;
    sizeAtMost += size + 2 * operation.path.length + QUOTES_AND_COMMAS;
    if (sizeAtMost <= VALUE_BYTES_MAX) continue;
    sizeAtMost = jsonBytes(document);
    work += sizeAtMost;
    throwIfTooLarge(sizeAtMost);
  }
  return document;
}

const steps = (pointer: string | undefined) => pointerSteps(pointer ?? "", "path");

function tooMuchWork(): SwarmError {
  return new SwarmError("limit_exceeded", "This JSON Patch copies or compares too much at once.", {
    hint: "Send fewer operations on large parts, or write the new value with set_state and ifRev.",
  });
}

function cloned({ op, path, from, value }: PatchOperation): Parameters<typeof jsonPatch.applyOperation<Json>>[1] {
  if (op === "remove") return { op, path };
  if (op === "move" || op === "copy") return { op, path, from: from ?? "" };
  return { op, path, value: structuredClone(value ?? null) };
}

/** Why an operation cannot be applied; undefined when it can. */
function problemOf(document: Json, { op, path, from, value }: PatchOperation): string | undefined {
  const to = steps(path);
  if ((op === "move" || op === "copy") && valueAt(document, steps(from)) === undefined) return "there is nothing at from";
  if (op === "remove" || op === "replace" || op === "test") {
    const there = valueAt(document, to);
    if (there === undefined) return "there is nothing at path";
    return op === "test" && !sameJson(there, value ?? null) ? "the value at path is another" : undefined;
  }
  const name = to.at(-1);
  if (name === undefined) return undefined; // the whole value
  const parent = valueAt(document, to.slice(0, -1));
  if (!Array.isArray(parent)) return isObject(parent) ? undefined : "there is no object or list to put it in";
  if (name === "-") return undefined;
  // what is moved within a list is out of it before it goes in again
  const leaves = op === "move" && from !== undefined && sameParent(from, path) ? 1 : 0;
  return INDEX.test(name) && Number(name) <= parent.length - leaves ? undefined : "the list has no such index";
}

function sameParent(a: string, b: string): boolean {
  return a.slice(0, a.lastIndexOf("/")) === b.slice(0, b.lastIndexOf("/"));
}

// ── bounds ──

/** Bytes of its JSON. */
export function jsonBytes(value: Json): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/**
 * Bytes of a value's JSON, once it is known that it may be kept.
 * @throws SwarmError limit_exceeded
 */
export function checkedSize(value: Json): number {
  if (isDeeperThan(value, JSON_DEPTH_MAX)) {
    throw new SwarmError("limit_exceeded", `A value may nest at most ${JSON_DEPTH_MAX} levels deep.`, {
      hint: "Keep parts of it under keys of their own.",
    });
  }
  const size = jsonBytes(value);
  throwIfTooLarge(size);
  return size;
}

function throwIfTooLarge(size: number): void {
  if (size <= VALUE_BYTES_MAX) return;
  throw new SwarmError("limit_exceeded", `A value may have at most ${VALUE_BYTES_MAX} bytes of JSON.`, {
    hint: "Keep parts of it under keys of their own, or in a file that the value names.",
  });
}

function isDeeperThan(value: Json, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (levels === 0) return true;
  return Object.values(value).some((member) => member !== undefined && isDeeperThan(member as Json, levels - 1));
}

function unfit(message: string, hint = "Read the value with get_state and decide anew."): SwarmError {
  return new SwarmError("failed_precondition", message, { hint });
}
