import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { globs, MODES, reservation, reservationId, reservationView, reserveMs } from "./file-schemas.ts";
import { subagent } from "./lock-schemas.ts";

export const reserveFiles = defineTool({
  name: "reserve_files",
  title: "Reserve files",
  description:
    "Reserves files before you edit them, in all worktrees of the repository; free again when you release them or end.",
  toolset: "files",
  operation: "files:reserve",
  resource: () => "files/*",
  effects: WRITES,
  input: () => ({
    globs: globs(),
    mode: z.enum(MODES).exactOptional(),
    ttlMs: reserveMs().describe("Longest; default 3600000"),
    reason: fields.text(500).exactOptional(),
    reservationId: reservationId().describe("One of yours, to replace"),
    waitMs: fields.waitMs(),
    agentId: subagent(),
  }),
  output: () => ({ reservation: reservation().extend({ endsAt: z.number() }) }),
  untrusted: ["reservation.globs", "reservation.reason"],
  async handle({ reservations }, { waitMs = 0, ...input }, { call, signal, progress }) {
    const { reservation, endsAt } = await reservations.reserve(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`Files still reserved after ${Math.round(waitedMs / 1_000)} s`),
    });
    return { reservation: { ...reservationView(reservation), endsAt } };
  },
});
