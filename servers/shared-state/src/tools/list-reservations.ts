import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { path, reservation, reservationView } from "./file-schemas.ts";

export const listReservations = defineTool({
  name: "list_reservations",
  title: "List file reservations",
  description: "Shows who reserved which files, for what reason or task, and until when.",
  toolset: "files",
  operation: "files:read",
  resource: () => "files/*",
  effects: READS,
  input: () => ({
    holder: fields.agentId().exactOptional(),
    pathPrefix: path().exactOptional().describe("A folder or file they reach into"),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ reservations: z.array(reservation()), nextCursor: fields.nextCursor() }),
  untrusted: ["reservations[].globs", "reservations[].reason"],
  async handle({ reservations }, { limit = PAGE_DEFAULT, ...input }, { call }) {
    const page = await reservations.list(call, { ...input, limit });
    const kept = fit(page.reservations.map(reservationView));
    if (kept.length === page.reservations.length) return { ...page, reservations: kept };
    const shorter = await reservations.list(call, { ...input, limit: kept.length });
    return { ...shorter, reservations: fit(shorter.reservations.map(reservationView)) };
  },
});
