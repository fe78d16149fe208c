/** The fields that the tools on messages share: what callers give, and what they get. */
import { AHEAD_MS_MAX, DELIVERY_STATES, PRIORITY_MAX } from "@mcp-swarm/coordination/messages";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { ACKNOWLEDGED_MAX } from "../inbox.ts";

const { label, shared, whole, json } = fields;

/** Most messages of one page of a list that shows what became of each: with cut payloads they fit one answer. */
export const TROUBLED_MAX = 15;
export const TROUBLED_DEFAULT = 10;
export const troubledLimit = shared(() => whole(1, TROUBLED_MAX).exactOptional());
export const messageIds = shared(() => z.array(messageId()).min(1).max(ACKNOWLEDGED_MAX));
export const messageId = shared(() => fields.id());
/** For whom a write is; tools that only read have it without the words, which the instructions say too. */
export const speaker = shared(() => fields.agentId().exactOptional().describe("Your subagent"));
export const reader = shared(() => fields.agentId().exactOptional());
export const target = shared(() => fields.agentId().describe("An agent id, of list_agents"));
/** A label may hold ":" and "/", as ids of other systems do. */
export const correlationId = shared(() => label().exactOptional());
export const priority = shared(() => whole(0, PRIORITY_MAX).exactOptional().describe("9 first; default 5"));
/** Works in a secured swarm. */
export const encrypt = shared(() => z.boolean().exactOptional());
export const aheadMs = shared(() => whole(1, AHEAD_MS_MAX).exactOptional());

/** What a long payload lost, and how to read the rest. */
const cutPayload = shared(() => z.object({ missingChars: z.number(), readOn: z.string() }));
const audience = shared(() => z.object({ kind: z.string(), name: z.string().exactOptional() }));

/**
 * A message as its reader gets it; `payload` is the beginning of its JSON as text when there is a `cut`. An encrypted one that could not
 * be opened has none: `unopened` says why, and how to read it.
 */
export const messageView = shared(() =>
  z.object({
    id: z.string(),
    from: z.string(),
    verified: z.boolean(),
    sentAt: z.number(),
    messageType: z.string(),
    payload: json(),
    priority: z.number(),
    correlationId: z.string(),
    replyTo: z.string().exactOptional(),
    hops: z.number(),
    encrypted: z.literal(true).exactOptional(),
    unopened: z.string().exactOptional(),
    audience: audience().exactOptional(),
    deliveries: z.number().exactOptional(),
    expiresAt: z.number().exactOptional(),
    ackDueAt: z.number().exactOptional(),
    overdue: z.literal(true).exactOptional(),
    cut: cutPayload().exactOptional(),
  }),
);

/** What its sender learns of a message. */
export const sent = shared(() =>
  z.object({
    id: z.string(),
    from: z.string(),
    to: z.string(),
    sentAt: z.number(),
    correlationId: z.string(),
    hops: z.number(),
    expiresAt: z.number().exactOptional(),
    ackDueAt: z.number().exactOptional(),
    status: z.enum(DELIVERY_STATES),
  }),
);

/** A message in a list of what is wrong with it: whose it is, and what became of it. */
export const troubled = shared(() =>
  messageView().extend({ to: z.string(), status: z.enum(DELIVERY_STATES), reason: z.string().exactOptional() }),
);

/** What became of each message that was named. */
export const settled = shared(() =>
  z.array(z.object({ id: z.string(), status: z.enum([...DELIVERY_STATES, "unknown"]), changed: z.boolean() })),
);
