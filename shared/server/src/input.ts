import { JSON_DEPTH_MAX, type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import type { z } from "zod";

/** Most values (members, items, scalars) one input may hold. */
const VALUES_MAX = 100_000;
/** Most problems named in one error. */
const PROBLEMS_MAX = 5;
/** Longest field path repeated in an error. */
const PATH_MAX = 120;

/** Keys that would reach an object's prototype if anything ever copied them carelessly. */
const PROTOTYPE_KEYS = new Set(["__proto__", "constructor", "prototype"]);

/** What no field may hold anywhere, whatever its schema: said with the path of the field. */
function vet(value: unknown, path: string, depth: number, budget: { left: number }): void {
  if (--budget.left < 0) throw invalid(path, `holds more than ${VALUES_MAX} values`);
  if (typeof value === "string") {
    if (value.includes("\0")) throw invalid(path, "contains a NUL character");
    if (!value.isWellFormed()) throw invalid(path, "contains half of a surrogate pair, which is no character");
    return;
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value) || Math.abs(value) > Number.MAX_SAFE_INTEGER)
      throw invalid(path, "is a number too large to keep exactly");
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (depth >= JSON_DEPTH_MAX) throw invalid(path, `is nested deeper than ${JSON_DEPTH_MAX} levels`);
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) vet(item, `${path}[${index}]`, depth + 1, budget);
    return;
  }
  for (const key of Object.keys(value)) {
    if (PROTOTYPE_KEYS.has(key)) throw invalid(path, `has a member named "${key}", which is not allowed`);
    vet(key, `${path} member name`, depth + 1, budget);
    vet((value as Record<string, unknown>)[key], path === "" ? key : `${path}.${key}`, depth + 1, budget);
  }
}

function invalid(path: string, problem: string): SwarmError {
  const field = path === "" ? "The input" : `Field "${printable(path)}"`;
  return new SwarmError("invalid_argument", `${field} ${problem}.`);
}

function printable(path: string): string {
  const clean = path.replace(/[^\x20-\x7e]/g, "?");
  return clean.length > PATH_MAX ? `${clean.slice(0, PATH_MAX)}…` : clean;
}

/**
 * Arguments as the tool's schema types them.
 * @throws SwarmError invalid_argument naming each field that is wrong
 */
export function parseInput(schema: z.ZodObject, raw: unknown, params?: z.core.ParseContext<z.core.$ZodIssue>): JsonObject {
  vet(raw, "", 0, { left: VALUES_MAX });
  const parsed = schema.safeParse(raw ?? {}, params);
  if (parsed.success) return parsed.data as { [key: string]: Json };
  const problems = parsed.error.issues.slice(0, PROBLEMS_MAX).map((issue) => {
    if (issue.code === "unrecognized_keys")
      return `unknown field ${issue.keys
        .slice(0, PROBLEMS_MAX)
        .map((key) => `"${printable(key)}"`)
        .join(", ")}`;
    const path = printable(issue.path.join("."));
    return `${path === "" ? "the input" : `"${path}"`}: ${issue.message}`;
  });
  const known = Object.keys(schema.shape).join(", ");
  throw new SwarmError("invalid_argument", `The input is not valid: ${problems.join("; ")}.`, {
    hint: `Fields of this tool: ${known}.`,
  });
}
