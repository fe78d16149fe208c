import { type Clock, type Random, SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import type { AuditEvent } from "./entry.ts";
import { type Append, Lanes, type Transact } from "./lanes.ts";
import type { NoteSigner } from "./note.ts";
import { Sealer } from "./sealer.ts";

/** Events that are alike are written once in so long, and then counted. */
export const NOTE_WINDOW_MS = 60_000;
/** So many kinds of events are told apart in one window; of any further kind each event is written. */
export const NOTE_KINDS_MAX = 1_000;
/** Most events of one commit, and most that wait for one. */
const BATCH_MAX = 100;
const WAITING_MAX = 10_000;

export interface AuditLogOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  /** Stands in each entry. */
  readonly processId: string;
  /** Names the log in its checkpoints, for example `mcp-swarm/<id of the root key>/audit`. */
  readonly origin: string;
  /** Asked for each checkpoint; without it this process makes none. */
  readonly signer?: () => NoteSigner;
  /** A file outside the database that gets a copy of each checkpoint of this process. */
  readonly copyTo?: string;
  /** Is told of failures that are tried again: checkpoints, copies, counts. */
  readonly onError: (error: unknown) => void;
}

/** What checkpoints call the log of the swarm with this root key (`kidOf` of it). */
export function auditOrigin(rootKid: string): string {
  return `mcp-swarm/${rootKid}/audit`;
}

interface Waiting {
  readonly event: AuditEvent;
  resolve(): void;
  reject(error: unknown): void;
}

/** Events that are alike, within one window. */
interface Kind {
  readonly event: AuditEvent;
  /** How many came after the first. */
  repeats: number;
  /** Settles when the first is written. */
  readonly first: Promise<void>;
}

/** What this process writes down of who did what. Nothing that must be written down goes on when it cannot be. */
export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #lanes: Lanes;
  readonly #sealer: Sealer | undefined;
  readonly #waiting: Waiting[] = [];
  #draining: Promise<void> | undefined;
  #kinds = new Map<string, Kind>();
  /** Counts that could not be written. */
  #counts: AuditEvent[] = [];
  #window: Disposable | undefined;
  #ending: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: AuditLogOptions) {
    const { store, random, processId, signer } = options;
    this.#options = options;
    this.#sealer = signer && new Sealer({ ...options, signer });
    this.#lanes = new Lanes({ store, random, processId, onCommitted: (rows) => this.#sealer?.add(rows) });
  }

  /**
   * A transaction whose plan may append to the log: entries and all else that it writes are one commit. The plan may run
   * again, as any; what it appended in a run that did not commit is nowhere.
   * @param transact makes the transaction, for example `(plan) => store.transact(plan, options)`
   * @throws SwarmError unavailable when the log takes no entries; what `transact` throws
   */
  async transact<T>(transact: Transact<T>, plan: (tx: Transaction, append: Append) => T): Promise<T> {
    this.#mustTake();
    return await this.#lanes.transact(transact, plan);
  }

  /** Writes one event down; it is there when the promise resolves. Events at once share a commit. @throws SwarmError as `transact` */
  async write(event: AuditEvent): Promise<void> {
    this.#mustTake();
    if (this.#waiting.length >= WAITING_MAX) {
      throw new SwarmError("unavailable", "Too many events of this process wait to be written down.", {
        hint: "Try again a little later.",
      });
    }
    const written = new Promise<void>((resolve, reject) => this.#waiting.push({ event, resolve, reject }));
    this.#draining ??= this.#drain();
    await written;
  }

  /**
   * Writes one event down unless one like it (same agent, operation, resource, outcome and reason) was within the window: then it
   * is counted, and the count is written when the window ends. A flood is so written twice, and not a million times.
   * @throws SwarmError as `transact`
   */
  async note(event: AuditEvent): Promise<void> {
    this.#mustTake();
    const name = JSON.stringify([event.agentId, event.operation, event.resource, event.outcome, event.reason]);
    const known = this.#kinds.get(name);
    if (known) {
      known.repeats += 1;
      return await known.first;
    }
    if (this.#kinds.size >= NOTE_KINDS_MAX) return await this.write(event);
    const kinds = this.#kinds;
    const first = this.write(event).catch((error: unknown) => {
      kinds.delete(name); // nothing of it is written: the next one is the first
      throw error;
    });
    kinds.set(name, { event, repeats: 0, first });
    this.#window ??= this.#options.clock.timer(NOTE_WINDOW_MS, () => void this.#endWindow());
    await first;
  }

  /** Covers all that is written by a checkpoint. Never rejects. */
  async seal(): Promise<void> {
    await this.#sealer?.seal();
  }

  /** Writes what is counted and covers all by a last checkpoint. What is under way should have ended. Never rejects. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#endWindow();
    this.#closed = true;
    await this.#draining;
    await this.#sealer?.close(this.#lanes.close());
  }

  #mustTake(): void {
    if (this.#closed) throw new SwarmError("unavailable", "The audit log is closed.");
    if (this.#sealer?.hasRoom === false) {
      throw new SwarmError("unavailable", "The audit log takes no entries: no checkpoint could be made for too long.", {
        hint: "See the log of this server for the cause.",
      });
    }
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH_MAX);
      try {
        await this.#append(batch.map(({ event }) => event));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#draining = undefined;
  }

  async #append(events: readonly AuditEvent[]): Promise<void> {
    await this.#lanes.transact(
      (plan) => this.#options.store.transact(plan),
      (_, append) => {
        for (const event of events) append(event);
      },
    );
  }

  /** Writes how often each kind of event was repeated. Never rejects. */
  #endWindow(): Promise<void> {
    this.#ending = this.#ending.then(() => this.#writeCounts());
    return this.#ending;
  }

  async #writeCounts(): Promise<void> {
    this.#window?.[Symbol.dispose]();
    this.#window = undefined;
    const ended = [...this.#kinds.values()];
    this.#kinds = new Map();
    const written = await Promise.allSettled(ended.map(({ first }) => first));
    for (const [index, { event, repeats }] of ended.entries()) {
      if (repeats > 0 && written[index]?.status === "fulfilled") this.#counts.push({ ...event, count: repeats });
    }
    try {
      while (this.#counts.length > 0) {
        await this.#append(this.#counts.slice(0, BATCH_MAX));
        this.#counts = this.#counts.slice(BATCH_MAX);
      }
    } catch (error) {
      this.#options.onError(error);
      if (!this.#closed) this.#window ??= this.#options.clock.timer(NOTE_WINDOW_MS, () => void this.#endWindow());
    }
  }
}
