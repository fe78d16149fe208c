import { createHash, randomBytes } from "node:crypto";
import {
  type CreateMessageRequestParamsBase,
  createRequestStateCodec,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { type Sample, SamplePending, type SampleRequest } from "./tool.ts";

/** Most prompts that one call puts to the host's model; further ones are not answered. */
const SAMPLES_MAX = 8;
/** Longest prompt, with what the model is told of its role, in characters. */
const PROMPT_CHARS_MAX = 100_000;
/** Most of an answer that is used, in characters. */
const SAMPLE_CHARS_MAX = 8_000;
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

/** What a host was asked and has answered so far, by the hash of the prompt; null where it did not answer. */
interface SamplingState {
  /** Which call it belongs to. */
  call: string;
  answers: Record<string, string | null>;
  asked: string[];
}

/** How long a host may take for its answers before the call begins anew. */
const ROUND_SECONDS_MAX = 600;

/** Seals what travels with the host between two tries; a server that was started anew takes none of the old ones. */
const codec = createRequestStateCodec<SamplingState>({ key: randomBytes(32), ttlSeconds: ROUND_SECONDS_MAX });

/** One more try of a call, with the answers that the host gave so far. */
export interface SamplingRound {
  readonly sample: Sample;
  /** What the host must be asked before the call can be answered, if anything. */
  needed(): Promise<InputRequiredResult | undefined>;
}

/**
 * Sampling in the 2026-07-28 protocol, hidden from the handler: it runs until it needs an answer, and from the beginning when the
 * answer is there. So it is for tools that only read. `call`: all that makes this call another than others; what was asked and
 * answered for it travels with the host, sealed.
 * @throws ProtocolError for a `requestState` that is not of this call, or too old
 */
export async function samplingRound(
  call: { tool: string; args: unknown; agentId: string },
  context: ServerContext,
): Promise<SamplingRound> {
  const callHash = hash([call.tool, call.agentId, JSON.stringify(call.args)]);
  const before = await opened(context, callHash);
  const known = new Map(Object.entries(before?.answers ?? {}));
  for (const key of before?.asked ?? []) {
    const response = inputResponse(context.mcpReq.inputResponses, key);
    known.set(key, response.kind === "sampling" ? (textOf(response.result) ?? null) : null);
  }
  const needed = new Map<string, SampleRequest>();
  return {
    sample(request) {
      const key = hash([request.system ?? "", request.prompt, `${request.maxTokens}`]);
      const answer = known.get(key);
      if (answer !== undefined) return Promise.resolve(answer ?? undefined);
      if (!needed.has(key) && known.size + needed.size >= SAMPLES_MAX) return Promise.resolve(undefined);
      if (!fits(request)) return Promise.resolve(undefined);
      needed.set(key, request);
      return Promise.reject(new SamplePending("The host's model must be asked first."));
    },
    async needed() {
      if (needed.size === 0) return undefined;
      return inputRequired({
        inputRequests: Object.fromEntries([...needed].map(([key, of]) => [key, inputRequired.createMessage(paramsOf(of))])),
        requestState: await codec.mint({ call: callHash, answers: Object.fromEntries(known), asked: [...needed.keys()] }),
      });
    },
  };
}

/** What `needed` sealed for this call; undefined at its first try. */
async function opened(context: ServerContext, call: string): Promise<SamplingState | undefined> {
  const sealed = context.mcpReq.requestState<unknown>();
  if (sealed === undefined) return undefined;
  const state = typeof sealed === "string" ? await codec.verify(sealed, context).catch(() => undefined) : undefined;
  if (state?.call === call) return state;
  throw new ProtocolError(
    ProtocolErrorCode.InvalidParams,
    "The requestState is not of this call, or too old. Make the call anew, without it.",
  );
}

function hash(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
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
