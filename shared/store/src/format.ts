import { type Json, SwarmError } from "@mcp-swarm/core";
import { decodeValue } from "./row.ts";

/** The record that says which versions of the layout of rows may read and write the store. */
export const FORMAT_KEY = "meta/format";

/**
 * @param text the record's text
 * @param known the newest layout that this program knows
 * @throws SwarmError failed_precondition when this program is too old for the store
 */
export function refuseNewerFormat(text: string, role: "reader" | "writer", known: number): void {
  const format: Json = decodeValue(text);
  const least = format !== null && typeof format === "object" && role in format ? Reflect.get(format, role) : undefined;
  if (typeof least !== "number") throw new SwarmError("internal", "The store's format record cannot be read.");
  if (least <= known) return;
  throw new SwarmError("failed_precondition", `The store has data format ${least}; this program knows up to ${known}.`, {
    hint: "Update MCP Swarm to the newest version in every host that uses this store.",
  });
}
