/** Files that came out of executions, or went into them, as callers read them. */
import { SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { type Artifact, artifactKey, CHUNK_BYTES, chunkKey, noSuchArtifact } from "./artifact-layer.ts";

/** Rows that are read at once. */
const CHUNKS_AT_ONCE = 4;
/** What one reading of a part of a file answers at most, in bytes. */
export const READ_BYTES_MAX = 1024 * 1024;

export type ArtifactRange = { readonly artifact: Artifact; readonly offset: number; readonly bytes: Uint8Array };

export class Artifacts {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** @throws SwarmError not_found */
  async get(artifactId: string): Promise<Artifact> {
    const artifact = await this.find(artifactId);
    if (artifact) return artifact;
    throw noSuchArtifact(artifactId);
  }

  async find(artifactId: string): Promise<Artifact | undefined> {
    return (await this.#store.get(artifactKey(artifactId)))?.value as Artifact | undefined;
  }

  /**
   * Bytes `offset` to `offset + limit` of it, as far as there are any.
   * @param limit 1 to READ_BYTES_MAX
   * @throws SwarmError not_found, invalid_argument
   */
  async read(artifactId: string, { offset = 0, limit = READ_BYTES_MAX } = {}): Promise<ArtifactRange> {
    if (!Number.isInteger(offset) || offset < 0 || !Number.isInteger(limit) || limit < 1 || limit > READ_BYTES_MAX) {
      throw new SwarmError("invalid_argument", "offset or limit is out of bounds.", {
        hint: `Use a limit of 1 to ${READ_BYTES_MAX}.`,
      });
    }
    const artifact = await this.get(artifactId);
    const end = Math.min(artifact.bytes, offset + limit);
    if (offset >= end) return { artifact, offset, bytes: new Uint8Array() };
    const first = Math.floor(offset / CHUNK_BYTES);
    const bytes = await this.#chunks(artifact, first, Math.ceil(end / CHUNK_BYTES));
    return { artifact, offset, bytes: bytes.subarray(offset - first * CHUNK_BYTES, end - first * CHUNK_BYTES) };
  }

  /**
   * The whole file.
   * @throws SwarmError not_found, limit_exceeded when it is larger than `bytesMax`
   */
  async whole(artifactId: string, bytesMax: number): Promise<{ artifact: Artifact; bytes: Uint8Array }> {
    const artifact = await this.get(artifactId);
    if (artifact.bytes > bytesMax) {
      throw new SwarmError(
        "limit_exceeded",
        `Artifact ${artifactId} has ${artifact.bytes} bytes; at most ${bytesMax} are read at once.`,
        {
          hint: "Read it in parts, with offset and limit.",
        },
      );
    }
    return { artifact, bytes: await this.#chunks(artifact, 0, artifact.chunks) };
  }

  async #chunks({ id }: Artifact, from: number, before: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let at = from; at < before; at += CHUNKS_AT_ONCE) {
      const keys = Array.from({ length: Math.min(CHUNKS_AT_ONCE, before - at) }, (_, n) => chunkKey(id, at + n));
      for (const entry of await this.#store.getMany(keys)) {
        if (!entry) throw noSuchArtifact(id); // it was forgotten meanwhile
        parts.push(Buffer.from(String(entry.value), "base64"));
      }
    }
    return Buffer.concat(parts);
  }
}
