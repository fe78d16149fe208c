import { createHash } from "node:crypto";
import {
  type CreateMessageRequestParamsBase,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
} from "@modelcontextprotocol/server";
import * as z from "zod";
import { type Sample, SamplePending, type SampleRequest } from "./tool.ts";

/** Most prompts that one call puts to the host's model; further ones are not answered. */
export const SAMPLES_MAX = 8;
/** Longest prompt, with what the model is told of its role, in characters. */
export const PROMPT_CHARS_MAX = 100_000;
/** Most of an answer that is used, in characters. */
export const SAMPLE_CHARS_MAX = 8_000;
/** How long a host may take for one answer where the call waits for it. */
const SAMPLE_MS_MAX = 60_000;

/** Sampling where a server puts requests to its host: up to protocol revision 2025-11-25. */
export function askingSample(
  ask: (params: CreateMessageRequestParamsBase, options: { timeout: number; signal: AbortSignal }) => Promise<unknown>,
  signal: AbortSignal,
): Sample {
  let asked = 0;
  return async (request) => {
    asked += 1;
    if (asked > SAMPLES_MAX || !fits(request)) return undefined;
    try {
      return textOf(await ask(paramsOf(request), { timeout: SAMPLE_MS_MAX, signal }));
    } catch {
      signal.throwIfAborted();
      return undefined; // refused, too late, or failed: the caller does without
    }
  };
}

/** What a host answered so far, by the hash of the prompt; null where it did not. */
const answers = z.record(z.string().regex(/^[0-9a-f]{16}$/), z.string().max(SAMPLE_CHARS_MAX).nullable());
const state = z.strictObject({ answers, asked: z.array(z.string()).max(SAMPLES_MAX) });

/** One more try of a call, with the answers that the host gave so far. */
export interface SamplingRound {
  readonly sample: Sample;
  /** What the host must be asked before the call can be answered, if anything. */
  needed(): InputRequiredResult | undefined;
}

/**
 * Sampling in the 2026-07-28 protocol, hidden from the handler: it runs until it needs an answer, and from the beginning when the
 * answer is there. So it is for tools that only read. What was asked and answered travels with the host in `requestState`, which
 * needs no seal: every answer in it is the host's own to make.
 */
export function samplingRound(requestState: unknown, responses: unknown): SamplingRound {
  const before = read(requestState);
  const known = new Map(Object.entries(before.answers));
  for (const key of before.asked) {
    const response = inputResponse(responses as Parameters<typeof inputResponse>[0], key);
    known.set(key, response.kind === "sampling" ? (textOf(response.result) ?? null) : null);
  }
  const needed = new Map<string, SampleRequest>();
  return {
    sample(request) {
      const key = keyOf(request);
      const answer = known.get(key);
      if (answer !== undefined) return Promise.resolve(answer ?? undefined);
      if (!needed.has(key) && known.size + needed.size >= SAMPLES_MAX) return Promise.resolve(undefined);
      if (!fits(request)) return Promise.resolve(undefined);
      needed.set(key, request);
      const pending = Promise.reject(new SamplePending("The host's model must be asked first."));
      pending.catch(() => {}); // a handler that asks for two things at once awaits only one of them
      return pending;
    },
    needed() {
      if (needed.size === 0) return undefined;
      return inputRequired({
        inputRequests: Object.fromEntries([...needed].map(([key, of]) => [key, inputRequired.createMessage(paramsOf(of))])),
        requestState: JSON.stringify({ answers: Object.fromEntries(known), asked: [...needed.keys()] }),
      });
    },
  };
}

function read(requestState: unknown): z.infer<typeof state> {
  const parsed = typeof requestState === "string" ? state.safeParse(json(requestState)) : undefined;
  if (parsed?.success && Object.keys(parsed.data.answers).length <= SAMPLES_MAX) return parsed.data;
  return { answers: {}, asked: [] }; // none yet, or none of ours: the host is asked anew
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function keyOf({ system = "", prompt, maxTokens }: SampleRequest): string {
  return createHash("sha256").update(`${maxTokens}\0${system}\0${prompt}`).digest("hex").slice(0, 16);
}

function fits({ system = "", prompt }: SampleRequest): boolean {
  return system.length + prompt.length <= PROMPT_CHARS_MAX;
}

function paramsOf({ system, prompt, maxTokens }: SampleRequest): CreateMessageRequestParamsBase {
  return {
    messages: [{ role: "user", content: { type: "text", text: prompt } }],
    maxTokens,
    ...(system === undefined ? {} : { systemPrompt: system }),
  };
}

/** The text of what a model answered; undefined when it is something else. */
function textOf(result: unknown): string | undefined {
  const { content } = (result ?? {}) as { content?: unknown };
  const parts = Array.isArray(content) ? content : [content];
  const texts = parts.flatMap((part: { type?: unknown; text?: unknown } | null | undefined) =>
    part?.type === "text" && typeof part.text === "string" ? [part.text] : [],
  );
  const text = texts.join("\n").replaceAll("\0", "").toWellFormed().slice(0, SAMPLE_CHARS_MAX).toWellFormed();
  return text === "" ? undefined : text;
}
