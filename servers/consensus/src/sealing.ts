/**
 * Sealed ballots: a commitment first, the choice after the close. Whoever sees the commitment learns nothing of the choice, because of the
 * nonce; and whoever made it can open it to that choice alone.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Json } from "@mcp-swarm/core";
import { canonicalJson } from "./canonical.ts";

/** Bytes of a nonce, which is written in hex. */
export const NONCE_BYTES = 32;

/** What a commitment is made of, besides its nonce. */
export interface Sealed {
  readonly voteId: string;
  readonly voter: string;
  /** What the ballot says: its canonical JSON is committed to. */
  readonly choice: Json;
}

/**
 * SHA-256 in hex over voteId, voter, choice (canonical JSON) and nonce, each behind its length in bytes as four bytes, the greatest
 * first, so that no two different ballots are the same bytes.
 */
export function commitmentOf({ voteId, voter, choice }: Sealed, nonce: string): string {
  const hash = createHash("sha256");
  for (const part of [Buffer.from(voteId), Buffer.from(voter), Buffer.from(canonicalJson(choice)), Buffer.from(nonce, "hex")]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    hash.update(length).update(part);
  }
  return hash.digest("hex");
}

export type Nonces = () => string;
/** From the operating system, whatever chance a test injects elsewhere. */
export const freshNonce: Nonces = () => randomBytes(NONCE_BYTES).toString("hex");

/** Choices sealed here that are kept until they are revealed; the oldest go first. Their agents have the nonces too. */
const KEPT_MAX = 1_000;

/** What this process sealed, in its memory alone: no row, log or answer to another has it before the close. */
export class Safe<Choice> {
  readonly #kept = new Map<string, { choice: Choice; nonce: string }>();

  keep(commitment: string, opening: { choice: Choice; nonce: string }): void {
    this.#kept.set(commitment, opening);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_MAX && oldest !== undefined) this.#kept.delete(oldest);
  }

  find(commitment: string): { choice: Choice; nonce: string } | undefined {
    return this.#kept.get(commitment);
  }

  forget(commitment: string): void {
    this.#kept.delete(commitment);
  }
}
