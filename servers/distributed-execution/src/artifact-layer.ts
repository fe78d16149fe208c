/**
 * Files as rows. An artifact belongs to the executions that refer to it, as input or as output, and goes with the last of them.
 *
 * | key | value | why |
 * |---|---|---|
 * | `artifact/<id>` | Artifact | what it is |
 * | `artifact-chunk/<id>/<n>` | base64 | its bytes, `CHUNK_BYTES` each |
 * | `artifact-ref/<id>/<execution>` | {id} | executions that it is an input or output of |
 * | `artifact-pending/<due>/<id>` | {id} | written ahead of the commit that refers to it; removed then if that never came |
 */
import { createHash } from "node:crypto";
import { extname } from "node:path/posix";
import { DueIndex } from "@mcp-swarm/coordination";
import { SwarmError } from "@mcp-swarm/core";
import { ordered, prefixRange, segment, type Transaction } from "@mcp-swarm/store";

/** Bytes of one row. */
export const CHUNK_BYTES = 512 * 1024;
/** Largest artifact, in bytes. */
export const ARTIFACT_BYTES_MAX = 64 * 1024 * 1024;
export const CHUNKS_MAX = ARTIFACT_BYTES_MAX / CHUNK_BYTES;
/** How long rows that were written ahead wait for the commit that refers to them, in ms. */
export const PENDING_MS = 3_600_000;

export type Artifact = {
  readonly id: string;
  /** Whose execution it was made for. */
  readonly agentId: string;
  /** Of the first execution that had it. */
  readonly executionId: string;
  /** Its path in the sandbox. */
  readonly name: string;
  readonly mimeType: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly chunks: number;
  readonly createdAt: number;
};

/** All of it but what the commit knows; made outside a plan. */
export type NewArtifact = Omit<Artifact, "agentId" | "executionId" | "createdAt"> & { readonly parts: readonly string[] };

export const artifactKey = (id: string): string => `artifact/${segment(id)}`;
export const chunkKey = (id: string, at: number): string => `artifact-chunk/${segment(id)}/${ordered(at)}`;
const refsPrefix = (id: string): string => `artifact-ref/${segment(id)}/`;
const refKey = (id: string, executionId: string): string => `${refsPrefix(id)}${segment(executionId)}`;
export const pendingArtifacts = new DueIndex("artifact-pending/");

/** Of files that say themselves what they are: by their first bytes, before the name is asked. */
const BY_EXTENSION: Readonly<Record<string, string>> = {
  ".css": "text/css",
  ".csv": "text/csv",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".md": "text/markdown",
  ".mjs": "text/javascript",
  ".py": "text/x-python",
  ".sh": "text/x-shellscript",
  ".svg": "image/svg+xml",
  ".tsv": "text/tab-separated-values",
  ".ts": "text/x-typescript",
  ".txt": "text/plain",
  ".xml": "application/xml",
  ".yaml": "application/yaml",
  ".yml": "application/yaml",
};

/** By content, then, for text, by name. What looks like neither is `application/octet-stream`. */
export async function mimeTypeOf(bytes: Uint8Array, name: string): Promise<string> {
  if (!isText(bytes)) {
    const { fileTypeFromBuffer } = await import("file-type");
    return (await fileTypeFromBuffer(bytes))?.mime ?? "application/octet-stream";
  }
  return BY_EXTENSION[extname(name).toLowerCase()] ?? "text/plain";
}

function isText(bytes: Uint8Array): boolean {
  if (bytes.includes(0)) return false;
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false; // that is the answer: it is no UTF-8
  }
}

/** @throws SwarmError limit_exceeded */
export async function newArtifact(id: string, name: string, bytes: Uint8Array): Promise<NewArtifact> {
  if (bytes.length > ARTIFACT_BYTES_MAX) {
    throw new SwarmError("limit_exceeded", `A file has at most ${ARTIFACT_BYTES_MAX} bytes.`);
  }
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    parts.push(Buffer.from(bytes.buffer, bytes.byteOffset + at, Math.min(CHUNK_BYTES, bytes.length - at)).toString("base64"));
  }
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { id, name, mimeType: await mimeTypeOf(bytes, name), bytes: bytes.length, sha256, chunks: parts.length, parts };
}

/** Rows `from` … of the bytes; the record is written by `addArtifact`. */
export function putChunks(tx: Transaction, { id, parts }: NewArtifact, from = 0, before = parts.length): void {
  for (let at = from; at < before; at++) tx.put(chunkKey(id, at), parts[at] ?? "");
}

/** @param ahead whether its bytes were written ahead, under `pendingArtifacts` at that time */
export function addArtifact(
  tx: Transaction,
  artifact: NewArtifact,
  { agentId, executionId, ahead }: { agentId: string; executionId: string; ahead?: number | undefined },
): void {
  const { parts: _, ...rest } = artifact;
  // what was written ahead too long ago may be forgotten by now
  const isThere = ahead !== undefined && tx.get(pendingArtifacts.key(ahead, artifact.id)) !== undefined;
  if (isThere) pendingArtifacts.remove(tx, ahead, artifact.id);
  else putChunks(tx, artifact);
  const record: Artifact = { ...rest, agentId, executionId, createdAt: tx.now };
  tx.put(artifactKey(artifact.id), record);
  refer(tx, artifact.id, executionId);
}

export function findArtifact(tx: Pick<Transaction, "get">, id: string): Artifact | undefined {
  return tx.get(artifactKey(id))?.value as Artifact | undefined;
}

/** It stays at least as long as this execution. */
export function refer(tx: Transaction, id: string, executionId: string): void {
  tx.put(refKey(id, executionId), { id: executionId });
}

/** The execution is forgotten; with the last one the artifact goes too. */
export function unrefer(tx: Transaction, id: string, executionId: string): void {
  tx.delete(refKey(id, executionId));
  if (tx.scan(prefixRange(refsPrefix(id), 1)).length > 0) return;
  const artifact = findArtifact(tx, id);
  if (!artifact) return;
  for (let at = 0; at < artifact.chunks; at++) tx.delete(chunkKey(id, at));
  tx.delete(artifactKey(id));
}

export function noSuchArtifact(id: string): SwarmError {
  return new SwarmError("not_found", `There is no artifact ${id}.`, {
    hint: "get_result of the task that made it lists its files with their ids; they are forgotten together with the task.",
  });
}
