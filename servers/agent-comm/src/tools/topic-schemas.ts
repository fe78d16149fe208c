/** The fields that tools on topics share. */
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import type { Subscription } from "../topic-layer.ts";

const TOPIC_CHARS_MAX = 64;

/** A topic, or the beginning of names with `*`. */
export const topicPattern = fields.shared(() =>
  z
    .string()
    .max(TOPIC_CHARS_MAX)
    .regex(/^([A-Za-z0-9][A-Za-z0-9._:/-]*)?\*?$/)
    .min(1),
);

export const subscriptionView = fields.shared(() =>
  z.object({
    id: z.string(),
    topics: z.array(z.string()),
    types: z.array(z.string()).exactOptional(),
    from: z.string().exactOptional(),
    senderCapability: z.string().exactOptional(),
    createdAt: z.number(),
    received: z.number(),
    missed: z.number(),
    behind: z.number().exactOptional(),
  }),
);

export function shown(subscription: Subscription & { behind?: number }): z.input<ReturnType<typeof subscriptionView>> {
  const { id, topics, types, from, senderCapability, createdAt, received, missed, behind } = subscription;
  return {
    ...{ id, topics: [...topics], createdAt, received, missed },
    ...(types === undefined ? {} : { types: [...types] }),
    ...(from === undefined ? {} : { from }),
    ...(senderCapability === undefined ? {} : { senderCapability }),
    ...(behind === undefined ? {} : { behind }),
  };
}
