import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { reader } from "./message-schemas.ts";
import { shown, subscriptionView } from "./topic-schemas.ts";

export const listSubscriptions = defineTool({
  name: "list_subscriptions",
  title: "List your subscriptions",
  description:
    "Lists your subscriptions: what each brought, how many messages it has yet to look at, and how many were gone before.",
  toolset: "topics",
  operation: "topic:read",
  resource: () => "subscription/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor(), agentId: reader() }),
  output: () => ({ subscriptions: z.array(subscriptionView()), total: z.number(), nextCursor: fields.nextCursor() }),
  async handle({ subscriptions }, input, { call }) {
    const page = await subscriptions.list(call, input);
    const kept = fit(page.subscriptions.map(shown));
    if (kept.length === page.subscriptions.length) return { ...page, subscriptions: kept };
    const shorter = await subscriptions.list(call, { ...input, limit: kept.length }); // its cursor is where the next one begins
    return { ...shorter, subscriptions: fit(shorter.subscriptions.map(shown)) };
  },
});
