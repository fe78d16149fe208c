/** Sessions as a model reads them. */
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { SESSION_ENDS, type SessionRecord } from "../session-layer.ts";

export const session = fields.shared(() =>
  z.object({
    id: z.string(),
    environment: z.string(),
    keeps: z.enum(["files", "state"]),
    status: z.enum(["open", "over"]),
    /** Why it is over. */
    because: z.enum(SESSION_ENDS).exactOptional(),
    startedAt: z.number(),
    expiresAt: z.number(),
    endedAt: z.number().exactOptional(),
    /** Who holds it, since its first task. */
    worker: z.string().exactOptional(),
  }),
);

/** `now`: by the store's clock; one whose time is up is over, whether or not somebody has written it down. */
export function sessionView(record: SessionRecord, now: number): z.input<ReturnType<typeof session>> {
  const over = record.over ?? (record.expiresAt <= now ? { at: record.expiresAt, because: "expired" as const } : undefined);
  return {
    id: record.id,
    environment: record.environment,
    keeps: record.keeps,
    status: over ? "over" : "open",
    ...(over ? { because: over.because, endedAt: over.at } : {}),
    startedAt: record.createdAt,
    expiresAt: record.expiresAt,
    ...(record.worker ? { worker: record.worker.workerId } : {}),
  };
}
