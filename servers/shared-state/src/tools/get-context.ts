import { ANSWER_BYTES_MAX, fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { CONTEXT_KEYS_MAX, CONTEXT_TOKENS_MAX, CONTEXT_TOKENS_MIN } from "../context.ts";
import { SCOPES, STATE_KEY_MAX } from "../state-record.ts";
import { defineTool } from "./define.ts";

const UNTRUSTED = ["items[].content", "summary"];

export const getContext = defineTool({
  name: "get_context",
  title: "Read what you must know",
  description:
    "Gathers a task with what it depends on, a workflow, values or a conversation within maxTokens. What was shortened names under readOn the calls that read the rest.",
  toolset: "context",
  operation: "context:read",
  // several things at once may be about anything; each is also judged as the tool that reads it alone would be
  resource: ({ taskId, workflowId, correlationId, keys }) => {
    const named = [
      ...(taskId === undefined ? [] : [`task/${taskId}`]),
      ...(workflowId === undefined ? [] : [`workflow/${workflowId}`]),
    ];
    return named.length === 1 && correlationId === undefined && keys === undefined ? (named[0] ?? "*") : "*";
  },
  effects: READS,
  input: () => ({
    taskId: fields.id().exactOptional(),
    workflowId: fields.id().exactOptional(),
    correlationId: fields.text(64).exactOptional().describe("A conversation of yours"),
    keys: z
      .array(
        z.strictObject({
          key: fields.text(STATE_KEY_MAX),
          scope: z.enum(SCOPES).exactOptional(),
          scopeId: fields.text(64).exactOptional(),
        }),
      )
      .max(CONTEXT_KEYS_MAX)
      .exactOptional(),
    maxTokens: fields.whole(CONTEXT_TOKENS_MIN, CONTEXT_TOKENS_MAX).exactOptional().describe("Default 4000"),
    summarize: z.boolean().exactOptional().describe("Ask your host's model for a summary of what does not fit"),
  }),
  output: () => ({
    items: z.array(
      z.looseObject({
        kind: z.string(),
        id: z.string(),
        content: fields.jsonObject().exactOptional(),
        readOn: z.array(z.string()).exactOptional(),
      }),
    ),
    omitted: z
      .array(z.object({ kind: z.string(), ids: z.array(z.string()), more: z.number().exactOptional(), readOn: z.string() }))
      .exactOptional(),
    originalTokens: z.number(),
    estimated: z.literal(true).exactOptional(),
    tokens: z.number(),
    ratio: z.number(),
    reductions: z.array(z.object({ what: z.string(), why: z.string(), savedTokens: z.number(), readOn: z.string() })),
    limitedBy: z.enum(["maxTokens", "answerBytes"]).exactOptional(),
    summarized: z.boolean().exactOptional(),
    summary: z.string().exactOptional(),
  }),
  untrusted: UNTRUSTED,
  async handle({ contexts }, input, { call, caller, sample }) {
    const envelope = { caller: { agentId: caller.agentId, verified: caller.verified }, untrusted: UNTRUSTED };
    return await contexts.get(call, input, { envelope, bytesMax: ANSWER_BYTES_MAX, summarize: sample });
  },
});
