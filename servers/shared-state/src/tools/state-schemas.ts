/** The fields that the tools of values share, and values as a model reads them. */
import type { Json } from "@mcp-swarm/core";
import { AGENT_ID_MAX, type Caller } from "@mcp-swarm/identity";
import { cut, fields } from "@mcp-swarm/server";
import * as z from "zod";
import { CONFLICT_MODES, type Policy } from "../conflict.ts";
import { LEADER_LOCK } from "../lock-record.ts";
import { APPEND_ITEMS_MAX, PATCH_OPS, PATCH_OPS_MAX, POINTER_MAX } from "../patching.ts";
import { SCOPES, STATE_KEY_MAX, STATE_TTL_MS_MAX } from "../state-record.ts";
import type { ListedEntry } from "../values.ts";

const { shared, text, whole, json } = fields;

/** More revisions than one space can see: a thousand a second for thirty years. */
const REV_MAX = 1_000_000_000_000;
/** Numbers that can be added; well within what stays exact. */
const INCREMENT_MAX = 1_000_000_000_000_000;
const LOCK_CHARS_MAX = 64 + LEADER_LOCK.length;
/** Characters of a value that a list shows. */
const LISTED_CHARS = 200;

export const key = shared(() => text(STATE_KEY_MAX));
export const scope = shared(() => z.enum(SCOPES).exactOptional().describe("Default global"));
export const scopeId = shared(() => text(AGENT_ID_MAX).exactOptional().describe("Default: your own"));
export const inScope = () => ({ scope: scope(), scopeId: scopeId() });
export const rev = shared(() => whole(0, REV_MAX));
export const optionalRev = shared(() => rev().exactOptional());
export const ifRev = shared(() => rev().exactOptional().describe("Its rev as you read it; 0: has no value"));
export const onConflict = shared(() => z.enum(CONFLICT_MODES));
export const ttlMs = shared(() => whole(1, STATE_TTL_MS_MAX).exactOptional());
/** A lock that the writer still holds. */
export const fenced = () => ({
  lock: text(LOCK_CHARS_MAX).exactOptional().describe("Write only while you hold it"),
  fencingToken: whole(1, REV_MAX).exactOptional(),
});
export const prefix = shared(() => z.string().max(STATE_KEY_MAX).exactOptional());
export const subscriptionId = shared(() => fields.id());

/** The ways to change a value, of which one is given. */
export const change = shared(() => ({
  jsonPatch: z
    .array(
      z.strictObject({
        op: z.enum(PATCH_OPS),
        path: z.string().max(POINTER_MAX),
        from: z.string().max(POINTER_MAX).exactOptional(),
        value: json().exactOptional(),
      }),
    )
    .min(1)
    .max(PATCH_OPS_MAX)
    .exactOptional()
    .describe("RFC 6902"),
  mergePatch: json().exactOptional().describe("RFC 7396: null removes a member"),
  increment: z.number().min(-INCREMENT_MAX).max(INCREMENT_MAX).exactOptional(),
  append: json().exactOptional().describe("Item for the end of a list"),
  maxItems: whole(1, APPEND_ITEMS_MAX).exactOptional().describe("With append: keep the last so many"),
}));

const author = () => ({ by: z.string(), verified: z.boolean(), at: z.number() });
export const place = () => ({ key: z.string(), scope: z.enum(SCOPES), scopeId: z.string().exactOptional() });

const entryShape = shared(() => ({
  ...place(),
  rev: z.number(),
  createdRev: z.number(),
  version: z.number(),
  size: z.number(),
  ...author(),
  expiresAt: z.number().exactOptional(),
}));
export const entry = shared(() => z.object(entryShape()));
/** A key with its value, or with the beginning of its JSON when it is too long to stand in a list. */
export const listedEntry = shared(() =>
  z.object({ ...entryShape(), value: json().exactOptional(), preview: z.string().exactOptional() }),
);
export const policy = shared(() => z.object({ pattern: z.string(), prefix: z.boolean(), onConflict: onConflict(), ...author() }));

export const subscription = shared(() =>
  z.object({
    id: z.string(),
    uri: z.string(),
    scope: z.enum(SCOPES),
    scopeId: z.string().exactOptional(),
    key: z.string().exactOptional(),
    prefix: z.string().exactOptional(),
    rev: z.number(),
    createdAt: z.number(),
    expiresAt: z.number(),
  }),
);

/** What a policy of operations calls a place. */
export function resourceOf(
  {
    scope = "global",
    scopeId,
    prefix = "",
    key = `${prefix}*`,
  }: { scope?: string | undefined; scopeId?: string | undefined; prefix?: string | undefined; key?: string | undefined },
  { agentId }: Pick<Caller, "agentId">,
): string {
  const whose = scopeId ?? (scope === "agent" ? agentId : undefined);
  return `state/${whose === undefined ? scope : `${scope}:${whose}`}/${key}`;
}

/** A value that stands beside its key: whole when it is short, else its beginning; a long one is only named. */
export function previewOf(value: Json | undefined, scale = 1): { value?: Json; preview?: string } {
  if (value === undefined) return {};
  const asText = JSON.stringify(value);
  const max = Math.ceil(LISTED_CHARS * scale);
  return asText.length <= max ? { value } : { preview: cut(asText, max).text };
}

export function listedView({ entry, value }: ListedEntry, scale = 1): z.input<ReturnType<typeof listedEntry>> {
  return { ...entry, ...previewOf(value, scale) };
}

export function policyView({ pattern, prefix, onConflict, by, verified, at }: Policy): z.input<ReturnType<typeof policy>> {
  return { pattern, prefix, onConflict, by, verified, at };
}
