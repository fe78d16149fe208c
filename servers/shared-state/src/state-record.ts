/** Values, their revisions and changes as they are kept, and what callers may give. No rules. */
import { ID_MAX, type Json, SwarmError } from "@mcp-swarm/core";
import { AGENT_ID_MAX } from "@mcp-swarm/identity";

export const SCOPES = ["global", "session", "agent", "workflow"] as const;
export type Scope = (typeof SCOPES)[number];

/** A scope and whose it is: all the keys that one counter of revisions is for. */
export type Space = { readonly scope: Scope; readonly scopeId?: string };

/** One key of one space. */
export type Place = { readonly space: Space; readonly key: string };

/** What callers say of a space: the scope is global unless they name another, its owner the caller where that makes sense. */
export type SpaceInput = { readonly scope?: Scope | undefined; readonly scopeId?: string | undefined };
export type PlaceInput = SpaceInput & { readonly key: string };

/** Longest key or prefix, in characters. */
export const STATE_KEY_MAX = 128;
/** Letters, digits and a few signs whose order in text is the order of their bytes. A key does not begin or end with "/". */
const KEY = /^[A-Za-z0-9._:@-](?:[A-Za-z0-9._:/@-]*[A-Za-z0-9._:@-])?$/;
const PREFIX = /^[A-Za-z0-9._:@-][A-Za-z0-9._:/@-]*$/;
const OWNER: Readonly<Record<Exclude<Scope, "global" | "agent">, RegExp>> = {
  session: /^[A-Za-z0-9][A-Za-z0-9._@-]*$/,
  workflow: /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
};

/** Earlier revisions of a key that are kept besides the current one. */
export const HISTORY_MAX = 20;
/** Revisions of a space whose changes can still be read; a reader that is further behind lists the space anew. */
export const LOG_REVISIONS_MAX = 10_000;
/** Largest value kept in its key's own record, in bytes of JSON; a longer one has a row of its own, so that lists stay light. */
export const INLINE_BYTES_MAX = 4_096;
export const STATE_TTL_MS_MAX = 366 * 24 * 3_600_000;
/** Keys that one transaction checks and writes. */
export const TRANSACT_KEYS_MAX = 100;

/** Who wrote. */
export type Author = { readonly by: string; readonly verified: boolean };

/** What happened to a key at a revision. */
export type StateOp = "set" | "delete" | "expire";

/** One revision of one key. */
export type Revision = Author & {
  readonly op: StateOp;
  /** The space's revision that this write made. */
  readonly rev: number;
  /** The revision at which the key came into being, and how many writes it has had since; of a deleted key 0. */
  readonly createdRev: number;
  readonly version: number;
  readonly at: number;
  /** Bytes of the value's JSON; 0 when there is none. */
  readonly size: number;
  /** When it is over by itself, ms by the store's clock. */
  readonly expiresAt?: number;
  /** Of a value of at most INLINE_BYTES_MAX; a longer one has a row of its own. */
  readonly value?: Json;
};

/** The newest revision of a key, with the way to the earlier ones. */
export type Head = Revision & {
  readonly key: string;
  /** The row of its long value, which whoever reads this reads next. */
  readonly refs?: readonly string[];
  /** Revisions of this key that are kept in the history, the oldest first. */
  readonly past: readonly number[];
  /** The newest revision that fell out of the history; absent when none did. */
  readonly droppedRev?: number;
  /** Of a deleted key: when its history goes too. */
  readonly purgeAt?: number;
};

/** A row of a space's log of changes: what one revision changed. */
export type LoggedRevision = Author & {
  readonly at: number;
  readonly changes: readonly { readonly key: string; readonly op: StateOp; readonly prevRev?: number }[];
};

/** A key with its value, as callers get it. */
export type StateEntry = Author &
  Space & {
    readonly key: string;
    readonly rev: number;
    readonly createdRev: number;
    readonly version: number;
    readonly at: number;
    readonly size: number;
    readonly expiresAt?: number;
  };

/** A key as callers get it. The value stands beside it, since it may be long. */
export function entryOf(
  { space, key }: Place,
  { rev, createdRev, version, by, verified, at, size, expiresAt }: Revision,
): StateEntry {
  return { key, ...space, rev, createdRev, version, size, by, verified, at, ...(expiresAt === undefined ? {} : { expiresAt }) };
}

export function isLive(head: Revision, now: number): boolean {
  return head.op === "set" && !isExpired(head, now);
}

export function isExpired({ op, expiresAt }: Revision, now: number): boolean {
  return op === "set" && expiresAt !== undefined && expiresAt <= now;
}

/** Whether its value has a row of its own. */
export function isLong({ op, size }: Revision): boolean {
  return op === "set" && size > INLINE_BYTES_MAX;
}

/** @throws SwarmError invalid_argument */
export function checkKey(key: string, field = "key"): string {
  if (key.length <= STATE_KEY_MAX && KEY.test(key)) return key;
  throw new SwarmError("invalid_argument", `Field ${field}: not a key.`, { hint: KEY_HINT });
}

/** @throws SwarmError invalid_argument */
export function checkPrefix(prefix: string): string {
  if (prefix === "" || (prefix.length <= STATE_KEY_MAX && PREFIX.test(prefix))) return prefix;
  throw new SwarmError("invalid_argument", "Field prefix: no key begins so.", { hint: KEY_HINT });
}

const KEY_HINT = `Use 1 to ${STATE_KEY_MAX} letters, digits and . _ : / @ - , with no "/" at its beginning or end.`;

/** @throws SwarmError invalid_argument when it cannot be the id of a session or a workflow */
export function checkOwner(scope: "session" | "workflow", scopeId: string): string {
  if (scopeId.length <= (scope === "session" ? AGENT_ID_MAX : ID_MAX) && OWNER[scope].test(scopeId)) return scopeId;
  throw new SwarmError("invalid_argument", `Field scopeId: not the id of a ${scope}.`, {
    hint: "Use up to 64 letters, digits and . _ - , beginning with a letter or digit.",
  });
}

/** A place in words for errors: keys and ids are checked to be plain. */
export function placeName({ space, key }: Place): string {
  return `Key ${key} of ${spaceName(space)}`;
}

/** A space in words and in addresses: `global`, `agent:build-7`. */
export function spaceName({ scope, scopeId }: Space): string {
  return scopeId === undefined ? scope : `${scope}:${scopeId}`;
}

/** The address of a key, or of all keys that begin with a prefix, as a resource. */
export function stateUri(space: Space, { key, prefix = "" }: { key?: string; prefix?: string }): string {
  return `state://${spaceName(space).replaceAll("/", "%2F")}/${key ?? `${prefix}*`}`;
}

/** A space by its name in an address. What it names is checked like any input. */
export function spaceInputOf(name: string): SpaceInput {
  const colon = name.indexOf(":");
  const scope = colon < 0 ? name : name.slice(0, colon);
  const known = SCOPES.find((one) => one === scope);
  // an owner that goes without saying is the reader's: one address would name other values for each, and policies none of them
  const isWhole = known === "global" ? colon < 0 : colon > 0;
  if (known !== undefined && isWhole) return { scope: known, scopeId: colon < 0 ? undefined : name.slice(colon + 1) };
  throw new SwarmError("invalid_argument", "The address does not name a scope whole.", {
    hint: "Use state://global/<key>, or session:<id>, agent:<id>, workflow:<id> in the place of global.",
  });
}
