/**
 * What is written down of who did what.
 *
 * | key | value | why |
 * |---|---|---|
 * | `audit/<ordered at>.<chain>.<ordered seq>` | what the entry says, `prev`, `hash` | keys are in order of time: the newest are one scan away, and one pass over all meets each chain in its own order |
 * | `audit-checkpoint/<ordered n>` | {note, tree} | what was written down up to here, signed (checkpoints.ts) |
 *
 * A chain belongs to one lane of one process (lanes.ts), so that no entry waits for another's. Each entry holds the hash of the one
 * before it in its chain, and its own. The key is part of what is hashed: an entry that is moved is as one that is edited.
 */
import { hash } from "node:crypto";
import type { Json } from "@mcp-swarm/core";
import { type Entry, fromOrdered, ordered } from "@mcp-swarm/store";

export const AUDIT_PREFIX = "audit/";

/** Longest texts of an entry, in UTF-16 units; what is longer is cut. */
const TEXT_MAX = 64;
const RESOURCE_MAX = 256;
const DETAILS_MAX = 256;
/** Most policies that one entry names. */
const POLICY_IDS_MAX = 16;

/**
 * `permit`, `deny`: what the policies decided of an operation. `refused`: it was permitted, and failed for another reason.
 * `authenticated`: a credential proved a name. `administered`: members, keys, roles or policies were changed.
 */
export const OUTCOMES = ["permit", "deny", "authenticated", "refused", "administered"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Something to be written down. It holds no arguments, payloads or secrets: who makes it sees to that. */
export interface AuditEvent {
  readonly agentId: string;
  /** Whether a credential proved the name. */
  readonly verified: boolean;
  readonly operation: string;
  readonly resource: string;
  readonly outcome: Outcome;
  /** A word, for example `permitted` or `no_policy`. */
  readonly reason: string;
  /** The policies that decided. */
  readonly policyIds?: readonly string[];
  readonly tool?: string;
  /** This entry stands for so many further events like an earlier one. */
  readonly count?: number;
  readonly details?: string;
}

/** Where an entry stands. */
export interface Place {
  readonly chain: string;
  /** From 1, without gaps. */
  readonly seq: number;
  /** Ms since the epoch by the store's clock; never falls within a chain. */
  readonly at: number;
}

export interface AuditEntry extends AuditEvent, Place {
  /** The server process that wrote it. */
  readonly processId: string;
}

/** An entry as it is kept. Hashes are base64url of 32 bytes. */
export interface AuditRow extends AuditEntry {
  /** Of the entry before it in its chain; the first has none. */
  readonly prev?: string;
  readonly hash: string;
}

/** The event within its bounds, in well-formed text. */
function bounded(event: AuditEvent): AuditEvent {
  const { policyIds, count } = event;
  return {
    agentId: cut(event.agentId, TEXT_MAX),
    verified: event.verified,
    operation: cut(event.operation, TEXT_MAX),
    resource: cut(event.resource, RESOURCE_MAX),
    outcome: event.outcome,
    reason: cut(event.reason, TEXT_MAX),
    ...(policyIds && policyIds.length > 0
      ? { policyIds: policyIds.slice(0, POLICY_IDS_MAX).map((id) => cut(id, TEXT_MAX)) }
      : {}),
    ...(event.tool === undefined ? {} : { tool: cut(event.tool, TEXT_MAX) }),
    ...(count === undefined ? {} : { count }),
    ...(event.details === undefined ? {} : { details: cut(event.details, DETAILS_MAX) }),
  };
}

function cut(text: string, max: number): string {
  return (text.length > max ? text.slice(0, max) : text).toWellFormed();
}

export function auditKey({ at, chain, seq }: Place): string {
  return `${AUDIT_PREFIX}${ordered(at)}.${chain}.${ordered(seq)}`;
}

const KEY = /^audit\/([0-9]{16})\.([a-z0-9-]{1,32})\.([0-9]{16})$/;

export function placeOf(key: string): Place | undefined {
  const [, at, chain, seq] = KEY.exec(key) ?? [];
  return at && chain && seq ? { chain, seq: fromOrdered(seq), at: fromOrdered(at) } : undefined;
}

/** The row of an event. @param prev the hash of the row before it in its chain */
export function rowAt(place: Place, processId: string, event: AuditEvent, prev: string | undefined): AuditRow {
  const row = { ...bounded(event), processId: cut(processId, TEXT_MAX), ...place, ...(prev === undefined ? {} : { prev }) };
  return { ...row, hash: hashOf(row) };
}

/** What is kept under the row's key. */
export function rowValue({ chain: _, seq: __, at: ___, ...value }: AuditRow): Json {
  return { ...value };
}

/** SHA-256 over the members in one order, each with its length before it (netstrings), so that no two rows read the same. */
export function hashOf(row: Omit<AuditRow, "hash">): string {
  const policyIds = row.policyIds ?? [];
  const members = [
    "mcp-swarm-audit-1",
    row.prev,
    row.chain,
    String(row.seq),
    String(row.at),
    row.agentId,
    row.verified ? "verified" : "unverified",
    row.processId,
    row.operation,
    row.resource,
    row.outcome,
    row.reason,
    row.tool,
    row.count === undefined ? undefined : String(row.count),
    row.details,
    String(policyIds.length),
    ...policyIds,
  ];
  let text = "";
  for (const member of members) text += member === undefined ? "-" : `${Buffer.byteLength(member)}:${member},`;
  return hash("sha256", text, "base64url");
}

const isText = (value: unknown): boolean => typeof value === "string" && value.isWellFormed();
const MEMBERS: Readonly<Record<string, (value: unknown) => boolean>> = {
  agentId: isText,
  verified: (value) => typeof value === "boolean",
  processId: isText,
  operation: isText,
  resource: isText,
  outcome: (value) => OUTCOMES.some((outcome) => outcome === value),
  reason: isText,
  policyIds: (value) => Array.isArray(value) && value.length > 0 && value.every(isText),
  tool: isText,
  count: (value) => Number.isSafeInteger(value) && Number(value) > 0,
  details: isText,
  prev: isText,
  hash: isText,
};
const REQUIRED = ["agentId", "verified", "processId", "operation", "resource", "outcome", "reason", "hash"];

/** The row that an entry of the store holds, whatever its hash; undefined when it holds anything that `rowValue` does not make. */
export function rowOf({ key, value, expiresAt }: Entry): AuditRow | undefined {
  const place = placeOf(key);
  if (!place || expiresAt !== undefined || typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const members = Object.entries(value);
  if (!members.every(([name, member]) => Object.hasOwn(MEMBERS, name) && MEMBERS[name]?.(member))) return undefined;
  if (!REQUIRED.every((name) => Object.hasOwn(value, name))) return undefined;
  return { ...(value as unknown as AuditRow), ...place };
}

/** The entry without what only joins it to its chain. */
export function entryOf({ prev: _, hash: __, ...entry }: AuditRow): AuditEntry {
  return entry;
}
