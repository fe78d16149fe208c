/** The fields that the tools of file reservations share. */
import { GLOBS_MAX, RESERVATION_MS_MAX, type Reservation } from "@mcp-swarm/coordination";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { RESERVE_MS_MIN } from "../reservations.ts";

const { shared, text, whole } = fields;

/** Longest path or glob as it is given: absolute ones are longer than what is kept of them. */
const GIVEN_CHARS_MAX = 1_024;
/** Globs of one reservation that an answer names. */
const GLOBS_SHOWN = 16;

export const MODES = ["exclusive", "shared"] as const;

export const path = shared(() => text(GIVEN_CHARS_MAX));
export const globs = shared(() => z.array(path()).min(1).max(GLOBS_MAX));
export const reserveMs = shared(() => whole(RESERVE_MS_MIN, RESERVATION_MS_MAX).exactOptional());
export const reservationId = shared(() => fields.id().exactOptional());

export const reservation = shared(() =>
  z.object({
    id: z.string(),
    holder: z.string(),
    globs: z.array(z.string()),
    moreGlobs: z.number().exactOptional(),
    mode: z.enum(MODES),
    reason: z.string().exactOptional(),
    taskId: z.string().exactOptional(),
    reservedAt: z.number(),
    leaseExpiresAt: z.number(),
  }),
);

export function reservationView({
  fencingToken: _,
  expiresAt,
  globs,
  ...rest
}: Reservation): z.input<ReturnType<typeof reservation>> {
  const more = globs.length - GLOBS_SHOWN;
  return { ...rest, globs: globs.slice(0, GLOBS_SHOWN), ...(more > 0 ? { moreGlobs: more } : {}), leaseExpiresAt: expiresAt };
}
