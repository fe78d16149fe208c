import { type JsonObject, newId, SwarmError, systemRandom } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";
import type { CallToolResult, ContentBlock } from "@modelcontextprotocol/server";
import type { Log } from "./log.ts";

/**
 * Largest answer in bytes of JSON. The promise is 20,000 tokens, and the tokenizers in use never make more tokens than there
 * are bytes (random rare scripts come close: 0.98 a byte, random base64 0.7, English JSON 0.25), so this holds for any text.
 */
export const ANSWER_BYTES_MAX = 20_000;

/** Left for what the server adds to every answer. */
const ENVELOPE_BYTES = 1_000;

/** A domain's answer as the protocol carries it: structured, the same as compact text, and then what was attached to it. */
export function answer(structured: JsonObject, attached: readonly ContentBlock[]): CallToolResult {
  const text = JSON.stringify(structured);
  if (Buffer.byteLength(text) > ANSWER_BYTES_MAX) {
    throw new SwarmError("limit_exceeded", "The answer would be longer than a model can read.", {
      hint: "Ask for fewer items with limit, or for one item by its id.",
    });
  }
  return { content: [{ type: "text", text }, ...attached], structuredContent: structured };
}

/** What the model reads when a call failed: the code, what happened and what to do next. An unforeseen error shows its id alone. */
export function refusal(error: unknown, tool: string, log: Log): CallToolResult {
  const known = foreseen(error, { tool }, log);
  const lines = [
    `${known.code}: ${known.message}`,
    known.hint,
    known.retryable ? "The same call may succeed if you repeat it." : undefined,
  ];
  const detail = { code: known.code, message: known.message, hint: known.hint, retryable: known.retryable };
  return {
    content: [{ type: "text", text: lines.filter((line) => line !== undefined).join("\n") }],
    isError: true,
    _meta: { "mcp-swarm/error": detail },
  };
}

/** The error itself when it was thrown on purpose; else one that says only an id, under which the log has the cause. */
export function foreseen(error: unknown, where: { tool: string } | { resource: string }, log: Log): SwarmError {
  if (!(error instanceof SwarmError) || error.code === "internal") return unforeseen(error, where, log);
  if (error.cause !== undefined) log.warn({ ...where, code: error.code, err: error.cause }, error.message);
  return error;
}

function unforeseen(error: unknown, where: { tool: string } | { resource: string }, log: Log): SwarmError {
  const id = newId("error", systemRandom);
  const what = "tool" in where ? "A tool" : "A resource";
  log.error({ ...where, errorId: id, err: error }, `${what} failed in a way nobody foresaw`);
  return new SwarmError("internal", `Something failed inside the server (${id}).`, {
    hint: "Nothing is known to have changed. The server's log on stderr has the cause under this id.",
  });
}

/** What a domain answered, with who asked, and which of the paths that others' text may stand at hold any. */
export function attributed(output: JsonObject, untrusted: readonly string[], { agentId, verified }: Caller): JsonObject {
  const marked = untrusted.filter((path) => holds(output, path.split(".")));
  return { ...output, caller: { agentId, verified }, ...(marked.length > 0 ? { untrusted: marked } : {}) };
}

/** Whether there is anything at a path such as `tasks[].title`. */
function holds(value: unknown, [step, ...rest]: readonly string[]): boolean {
  if (step === undefined) return value !== undefined;
  if (typeof value !== "object" || value === null) return false;
  if (!step.endsWith("[]")) return holds((value as JsonObject)[step], rest);
  const items = (value as JsonObject)[step.slice(0, -2)];
  return Array.isArray(items) && items.some((item) => holds(item, rest));
}

/**
 * As many items as fit into `bytes` of JSON, at least one.
 * A list that is cut so goes on at the cursor of the last item that was kept.
 */
export function fit<T>(items: readonly T[], bytes: number = ANSWER_BYTES_MAX - ENVELOPE_BYTES): T[] {
  const kept: T[] = [];
  let used = 0;
  for (const item of items) {
    used += Buffer.byteLength(JSON.stringify(item)) + 1;
    if (used > bytes && kept.length > 0) break;
    kept.push(item);
  }
  return kept;
}

/** A long text cut to `max` characters at a character boundary, with how much is missing. */
export function cut(text: string, max: number): { text: string; cutChars?: number } {
  if (text.length <= max) return { text };
  const end = text.charCodeAt(max - 1) >= 0xd800 && text.charCodeAt(max - 1) <= 0xdbff ? max - 1 : max;
  return { text: text.slice(0, end), cutChars: text.length - end };
}

/** Scales at which `shrinkToFit` builds, the first one generous. */
const SCALES = [4, 2, 1, 0.5, 0.25, 0.1];
/** The answer that `build` makes at the largest scale at which it fits; its cut fields say how to read the rest. */
export function shrinkToFit<T>(build: (scale: number) => T): T {
  let made = build(SCALES[0] ?? 1);
  for (const scale of SCALES.slice(1)) {
    if (Buffer.byteLength(JSON.stringify(made)) <= ANSWER_BYTES_MAX - ENVELOPE_BYTES) return made;
    made = build(scale);
  }
  return made;
}
