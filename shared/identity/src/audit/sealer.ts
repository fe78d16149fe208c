/** Covers what this process has written down by signed checkpoints. All processes of a swarm make one sequence of them. */
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import {
  CHECKPOINT_PREFIX,
  checkpointKey,
  checkpointRowOf,
  checkpointText,
  checkpointValue,
  type Head,
  noteHash,
  parseCheckpoint,
} from "./checkpoint.ts";
import { Copies } from "./copies.ts";
import type { AuditRow } from "./entry.ts";
import { type NoteSigner, parseNote, signNote } from "./note.ts";
import { Tree } from "./tree.ts";

/** A checkpoint is made for so many new entries, or when one has waited for so long. */
export const CHECKPOINT_ROWS = 100;
export const CHECKPOINT_MS = 60_000;
/** When a checkpoint that failed is tried again. */
const RETRY_MS = 5_000;
/** Most entries that one checkpoint covers. */
const BATCH_ROWS_MAX = 1_000;
/** So many entries may wait for a checkpoint; with more the log takes no others. */
export const UNCOVERED_MAX = 10_000;
/** Answers of commits that were lost one after the other before the oldest is taken for one that never came. */
const DOUBTS_MAX = 16;

export interface SealerOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** First line of each checkpoint: names the log. */
  readonly origin: string;
  /** Asked for each checkpoint: keys change. */
  readonly signer: () => NoteSigner;
  readonly copyTo?: string;
  readonly onError: (error: unknown) => void;
}

/** New entries that one checkpoint covers. It is tried until it is known that it was written: an entry is covered once. */
interface Batch {
  readonly heads: readonly Head[];
  readonly leaves: readonly Buffer[];
  /** Keys under which it may stand, because an answer was lost. */
  readonly doubts: Set<string>;
}

export class Sealer {
  readonly #options: SealerOptions;
  readonly #copies: Copies | undefined;
  /** Chain → hashes of its new entries, the last of which is `last`. */
  readonly #chains = new Map<string, { hashes: string[]; last: number }>();
  #uncovered = 0;
  #batch: Batch | undefined;
  #sealing: Promise<void> | undefined;
  #timer: Disposable | undefined;
  #failed = false;
  #closed = false;

  constructor(options: SealerOptions) {
    this.#options = options;
    this.#copies = options.copyTo === undefined ? undefined : new Copies(options.copyTo, options.onError);
  }

  /** Whether entries may be added. */
  get hasRoom(): boolean {
    return this.#uncovered < UNCOVERED_MAX;
  }

  /** Takes note of committed entries. */
  add(rows: readonly AuditRow[]): void {
    for (const { chain, seq, hash } of rows) {
      const known = this.#chains.get(chain);
      if (known) {
        known.hashes.push(hash);
        known.last = seq;
      } else this.#chains.set(chain, { hashes: [hash], last: seq });
    }
    this.#uncovered += rows.length;
    if (this.#uncovered >= CHECKPOINT_ROWS && !this.#failed) void this.seal();
    else this.#arm(CHECKPOINT_MS);
  }

  /** Covers all that was added before. Never rejects: what failed is told, and tried again. */
  seal(): Promise<void> {
    this.#sealing ??= this.#seal().finally(() => {
      this.#sealing = undefined;
      if (this.#uncovered > 0) this.#arm(this.#failed ? RETRY_MS : CHECKPOINT_MS);
    });
    return this.#sealing;
  }

  /** Covers all that was added, and says which chains end. Never rejects. */
  async close(ended: readonly Pick<AuditRow, "chain" | "seq" | "hash">[]): Promise<void> {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    await this.#sealing;
    try {
      while (this.#batch || this.#uncovered > BATCH_ROWS_MAX) await this.#write(this.#next());
      await this.#write(this.#next(ended));
    } catch (error) {
      this.#options.onError(error);
    }
  }

  async #seal(): Promise<void> {
    try {
      do await this.#write(this.#next());
      while (this.#uncovered >= CHECKPOINT_ROWS && !this.#closed);
      this.#failed = false;
    } catch (error) {
      this.#failed = true;
      this.#options.onError(error);
    }
  }

  #arm(delayMs: number): void {
    if (this.#closed) return;
    this.#timer ??= this.#options.clock.timer(delayMs, () => {
      this.#timer = undefined;
      void this.seal();
    });
  }

  /** What the next checkpoint covers. @param ended chains that get no more, all of whose entries fit this batch */
  #next(ended: readonly Pick<AuditRow, "chain" | "seq" | "hash">[] = []): Batch {
    if (this.#batch) return this.#batch;
    const heads = new Map<string, Head & { hashes: readonly string[] }>();
    let room = BATCH_ROWS_MAX;
    for (const [chain, { hashes, last }] of this.#chains) {
      if (room === 0) break;
      const taken = hashes.slice(0, room);
      room -= taken.length;
      const seq = last - hashes.length + taken.length;
      heads.set(chain, { chain, seq, hash: taken.at(-1) ?? "", ended: false, hashes: taken });
    }
    for (const { chain, seq, hash } of ended) {
      heads.set(chain, { chain, seq, hash, ended: true, hashes: heads.get(chain)?.hashes ?? [] });
    }
    const sorted = [...heads.values()].sort((a, b) => (a.chain < b.chain ? -1 : 1));
    this.#batch = {
      heads: sorted.map(({ hashes: _, ...head }) => head),
      leaves: sorted.flatMap(({ hashes }) => hashes.map((hash) => Buffer.from(hash, "base64url"))),
      doubts: new Set(),
    };
    return this.#batch;
  }

  async #write(batch: Batch): Promise<void> {
    if (batch.heads.length === 0) {
      this.#batch = undefined;
      return;
    }
    const signer = this.#options.signer();
    const newest = prefixRange(CHECKPOINT_PREFIX, 1, { reverse: true });
    const doubts = [...batch.doubts];
    let tried: string | undefined;
    try {
      const note = await this.#options.store.transact(
        (tx) => {
          tried = undefined;
          const there = doubts.map((key) => noteOf(tx, key)).find((note) => note !== undefined && this.#isOf(note, batch));
          if (there !== undefined) return there;
          const made = this.#after(tx.scan(newest)[0], batch, signer);
          tx.put(made.key, made.value);
          tried = made.key;
          return made.note;
        },
        { prefetch: { ranges: [newest], keys: doubts } },
      );
      this.#covered(batch);
      await this.#copies?.add(note);
    } catch (error) {
      if (tried !== undefined) batch.doubts.add(tried);
      const [oldest] = batch.doubts;
      if (oldest !== undefined && batch.doubts.size > DOUBTS_MAX) batch.doubts.delete(oldest);
      throw error;
    }
  }

  /** The batch as the checkpoint that follows the newest one. */
  #after(newest: Parameters<typeof checkpointRowOf>[0] | undefined, batch: Batch, signer: NoteSigner) {
    const before = newest && checkpointRowOf(newest);
    if (newest && !before) {
      throw new SwarmError("internal", "The last checkpoint of the audit log is damaged.", {
        hint: "Verify the audit log (verify_audit_log): it names the first bad row.",
      });
    }
    const tree = new Tree(before?.tree.size, before?.tree.roots);
    for (const leaf of batch.leaves) tree.append(leaf);
    const text = checkpointText({
      origin: this.#options.origin,
      size: tree.size,
      root: tree.root().toString("base64"),
      after: before && noteHash(before.source),
      heads: batch.heads,
    });
    const note = signNote(text, signer);
    return { key: checkpointKey((before?.number ?? 0) + 1), value: checkpointValue(note, tree), note };
  }

  #isOf(note: string, { heads }: Batch): boolean {
    const there = parseCheckpoint(parseNote(note)?.text ?? "");
    return JSON.stringify(there?.heads) === JSON.stringify(heads);
  }

  #covered({ heads }: Batch): void {
    for (const { chain, seq } of heads) {
      const known = this.#chains.get(chain);
      if (!known) continue;
      const left = known.last - seq;
      this.#uncovered -= known.hashes.length - left;
      known.hashes = left > 0 ? known.hashes.slice(-left) : [];
      if (left === 0) this.#chains.delete(chain);
    }
    this.#batch = undefined;
  }
}

function noteOf(tx: Transaction, key: string): string | undefined {
  const value = tx.get(key)?.value as { note?: unknown } | undefined;
  return typeof value?.note === "string" ? value.note : undefined;
}
