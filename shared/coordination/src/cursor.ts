import { createHash } from "node:crypto";
import { SwarmError } from "@mcp-swarm/core";
import { KEY_BYTES_MAX } from "@mcp-swarm/store";

const TAG_LENGTH = 8;
const CURSOR = new RegExp(`^[A-Za-z0-9_-]{1,${Math.ceil(((TAG_LENGTH + KEY_BYTES_MAX) * 4) / 3) + 2}}$`);

/** Which list a cursor belongs to. */
export interface CursorScope {
  /** The list's name with all that chooses and orders its entries: a cursor of one filter is foreign to another. */
  readonly list: string;
  /** Every key of the list begins so; a cursor never leads outside. */
  readonly prefix: string;
}

function tag(scope: CursorScope, key: string): string {
  return createHash("sha256").update(`${scope.list}\0${key}`).digest("hex").slice(0, TAG_LENGTH);
}

/** A text that continues the list behind `lastKey`. */
export function encodeCursor(scope: CursorScope, lastKey: string): string {
  return Buffer.from(`${tag(scope, lastKey)}${lastKey}`, "utf8").toString("base64url");
}

/**
 * The last key seen, for `prefixRange(prefix, limit, {after})`. The tag finds mistakes; it is no secret, so what keeps a made-up
 * cursor from harm is that its key lies under the list's prefix.
 * @throws SwarmError invalid_argument when the cursor is not one of this list
 */
export function decodeCursor(scope: CursorScope, cursor: string): string {
  if (CURSOR.test(cursor)) {
    const text = Buffer.from(cursor, "base64url").toString("utf8");
    const key = text.slice(TAG_LENGTH);
    if (text.slice(0, TAG_LENGTH) === tag(scope, key) && key.startsWith(scope.prefix)) return key;
  }
  throw new SwarmError("invalid_argument", "This cursor does not belong to this list.", {
    hint: "Pass nextCursor of the page before with the same filters, or leave cursor out to begin again.",
  });
}
