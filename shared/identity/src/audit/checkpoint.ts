/**
 * What a checkpoint says, in the form of https://c2sp.org/tlog-checkpoint.
 *
 * ```
 * mcp-swarm/<id of the root key>/audit      the log
 * 12345                                     so many entries are covered by this checkpoint and those before it
 * <base64>                                  root of the RFC 6962 tree over their hashes
 * after <base64url>                         hash of the checkpoint before this one; the first has no such line
 * head <chain> <seq> <hash>                 new entries of a chain are covered up to this one
 * end <chain> <seq> <hash>                  the same, and nothing comes after it: its process ended in good order
 *
 * — <agent> <base64>                        signature of the agent whose process wrote the chains
 * ```
 * Leaves of the tree are the hashes of entries: checkpoint by checkpoint, chain by chain in the order of the lines, by their number.
 */
import { hash } from "node:crypto";
import type { Json } from "@mcp-swarm/core";
import { type Entry, fromOrdered, ordered } from "@mcp-swarm/store";
import type { AuditRow } from "./entry.ts";
import { type Note, parseNote } from "./note.ts";
import { Tree } from "./tree.ts";

export const CHECKPOINT_PREFIX = "audit-checkpoint/";

export interface Head extends Pick<AuditRow, "chain" | "seq" | "hash"> {
  /** Nothing comes after it. */
  readonly ended: boolean;
}

export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  /** Base64. */
  readonly root: string;
  /** `noteHash` of the one before. */
  readonly after: string | undefined;
  /** In order of their chains, one each. */
  readonly heads: readonly Head[];
}

export function checkpointText({ origin, size, root, after, heads }: Checkpoint): string {
  const lines = [origin, String(size), root];
  if (after !== undefined) lines.push(`after ${after}`);
  for (const { chain, seq, hash, ended } of heads) lines.push(`${ended ? "end" : "head"} ${chain} ${seq} ${hash}`);
  return `${lines.join("\n")}\n`;
}

const AFTER = /^after ([A-Za-z0-9_-]{43})$/;
const HEAD = /^(head|end) ([a-z0-9-]{1,32}) ([1-9][0-9]{0,15}) ([A-Za-z0-9_-]{43})$/;

/** Undefined when the text is none that `checkpointText` makes. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  const [origin, size, root, ...lines] = text.split("\n");
  if (!origin || !size || !root) return undefined;
  const after = AFTER.exec(lines[0] ?? "")?.[1];
  if (after !== undefined) lines.shift();
  const heads: Head[] = [];
  for (const line of lines) {
    const [, word, chain, seq, hash] = HEAD.exec(line) ?? [];
    if (chain && seq && hash) heads.push({ chain, seq: Number(seq), hash, ended: word === "end" });
  }
  const checkpoint = { origin, size: Number(size), root, after, heads };
  const sorted = heads.every(({ chain }, index) => index === 0 || chain > (heads[index - 1]?.chain ?? ""));
  return sorted && Number.isSafeInteger(checkpoint.size) && checkpointText(checkpoint) === text ? checkpoint : undefined;
}

/** What the checkpoint after a note calls it. */
export function noteHash(note: string): string {
  return hash("sha256", note, "base64url");
}

/** A checkpoint as the store keeps it. */
export interface CheckpointRow {
  /** From 1, without gaps. */
  readonly number: number;
  readonly source: string;
  readonly note: Note;
  readonly checkpoint: Checkpoint;
  /** The tree up to here, to go on from. It is not signed; its root is. */
  readonly tree: Tree;
}

export function checkpointKey(number: number): string {
  return `${CHECKPOINT_PREFIX}${ordered(number)}`;
}

export function checkpointValue(note: string, tree: Tree): Json {
  return { note, tree: tree.roots.map((root) => root.toString("base64")) };
}

const KEY = /^audit-checkpoint\/([0-9]{16})$/;

/** Undefined when the entry holds anything that `checkpointValue` does not make, or a tree that is not the one which was signed. */
export function checkpointRowOf({ key, value, expiresAt }: Entry): CheckpointRow | undefined {
  const number = KEY.exec(key)?.[1];
  if (!number || expiresAt !== undefined || typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { note: source, tree: roots, ...others } = value as { [name: string]: Json };
  if (typeof source !== "string" || !Array.isArray(roots) || Object.keys(others).length > 0) return undefined;
  const note = parseNote(source);
  const checkpoint = note && parseCheckpoint(note.text);
  if (!checkpoint) return undefined;
  const digits = checkpoint.size.toString(2).replaceAll("0", "").length;
  if (roots.length !== digits || !roots.every((root) => typeof root === "string" && isHash(root))) return undefined;
  const tree = new Tree(
    checkpoint.size,
    roots.map((root) => Buffer.from(String(root), "base64")),
  );
  return tree.root().toString("base64") === checkpoint.root
    ? { number: fromOrdered(number), source, note, checkpoint, tree }
    : undefined;
}

function isHash(base64: string): boolean {
  const bytes = Buffer.from(base64, "base64");
  return bytes.length === 32 && bytes.toString("base64") === base64;
}
