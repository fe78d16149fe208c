import { type Clock, SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";

export interface HeldLease {
  readonly id: string;
  /** The fencing token of this holding; a later holder of the same id has a greater one. */
  readonly token: number;
  /** The lease is never renewed past this, ms by the engine's clock. */
  readonly deadlineAt?: number;
}

export type LostBecause =
  /** Another holds it, or nobody: the lease ran out. */
  | "taken"
  /** Its own hard deadline came. */
  | "deadline"
  /** It was not renewed for as long as it lasts, by this process's own clock: the store did not answer, or this process stood still. */
  | "lapsed";

/** What the keeper asks of a domain about one kind of lease. Both run inside a transaction and are pure, as plans are. */
export interface LeaseKind {
  readonly name: string;
  /**
   * Of what must stop when its lease may be over, whether or not the store can be asked: such a lease counts as lost (`lapsed`) when it
   * was not renewed for as long as it lasts. Others go on trying; their fencing tokens keep late writes from harm.
   */
  readonly lapses?: boolean;
  /** Moves the lease's end to `expiresAt` if `lease` still is the holding; false when it is not. */
  renew(tx: Transaction, lease: HeldLease, expiresAt: number): boolean;
  /** Gives it back if `lease` still is the holding. */
  release(tx: Transaction, lease: HeldLease): void;
  /** Told after the commit that found the lease lost, or when it lapsed. */
  onLost?(lease: HeldLease, because: LostBecause): void;
}

/** Leases of one kind that this process holds. */
export interface Holdings {
  /** From now on renewed; replaces an older holding of the same id. @throws SwarmError limit_exceeded */
  hold(lease: HeldLease): void;
  /** No longer renewed (given back, finished). Of another token than the one given, nothing happens. */
  drop(id: string, token?: number): void;
  get(id: string): HeldLease | undefined;
  list(): HeldLease[];
}

export interface LeaseKeeperOptions {
  store: Store;
  clock: Clock;
  leaseMs: number;
  /** Told of a renewal that failed; it is tried again before the lease ends. */
  onError: (error: unknown, kind: string) => void;
}

/** Most leases of one kind in one process, and most that one transaction renews. */
export const HELD_LEASES_MAX = 1_000;
const RENEW_BATCH_MAX = 100;
const RENEWALS_PER_LEASE = 3;
const RETRIES_PER_RENEWAL = 4;

interface Shelf {
  kind: LeaseKind;
  held: Map<string, HeldLease>;
  /** Of a kind that lapses: until when each lasts at least, by this process's clock. */
  until: WeakMap<HeldLease, number>;
}

/**
 * Renews what this process holds, for as long as the process lives: one timer, one transaction per kind and batch, at a third
 * of the lease. A process that was paused past its leases finds them lost at its next renewal; until then its fencing tokens
 * keep it from harm.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #shelves = new Map<string, Shelf>();
  #timer: Disposable | undefined;
  #lapseTimer: Disposable | undefined;
  #round: Promise<void> | undefined;
  #stopped = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /** Each kind once. */
  keep(kind: LeaseKind): Holdings {
    const shelf: Shelf = { kind, held: new Map(), until: new WeakMap() };
    if (this.#shelves.has(kind.name)) throw new SwarmError("internal", `A kind of lease is kept twice: ${kind.name}`);
    this.#shelves.set(kind.name, shelf);
    const { held } = shelf;
    return {
      hold: (lease) => {
        if (this.#stopped) throw new SwarmError("unavailable", "This server is shutting down.");
        if (!held.has(lease.id) && held.size >= HELD_LEASES_MAX) {
          throw new SwarmError("limit_exceeded", `One process holds at most ${HELD_LEASES_MAX} leases of a kind.`, {
            hint: "Finish or give back some of what you hold first.",
          });
        }
        held.set(lease.id, lease);
        shelf.until.set(lease, this.#options.clock.now() + this.#options.leaseMs);
        this.#arm(this.#options.leaseMs / RENEWALS_PER_LEASE);
        if (kind.lapses) this.#armLapse(this.#options.leaseMs);
      },
      drop: (id, token) => {
        if (token !== undefined && held.get(id)?.token !== token) return;
        held.delete(id);
        if (this.#empty()) this.#disarm();
      },
      get: (id) => held.get(id),
      list: () => [...held.values()],
    };
  }

  /**
   * Gives back all that is held and stops; for the clean end of the process. What cannot be given back is told to `onError`
   * and ends with its lease.
   */
  async releaseAll(): Promise<void> {
    this.#stopped = true;
    this.#disarm();
    await this.#round;
    for (const { kind, held } of this.#shelves.values()) {
      for (const batch of batches([...held.values()])) {
        try {
          await this.#options.store.transact((tx) => {
            for (const lease of batch) kind.release(tx, lease);
          });
        } catch (error) {
          this.#options.onError(error, kind.name);
        }
      }
      held.clear();
    }
  }

  #empty(): boolean {
    for (const { held } of this.#shelves.values()) if (held.size > 0) return false;
    return true;
  }

  #arm(delayMs: number): void {
    if (this.#stopped || this.#timer || this.#round) return;
    this.#timer = this.#options.clock.timer(delayMs, () => {
      this.#timer = undefined;
      this.#round = this.#renewAll().then((nextMs) => {
        this.#round = undefined;
        if (!this.#empty()) this.#arm(nextMs);
      });
    });
  }

  #disarm(): void {
    for (const timer of [this.#timer, this.#lapseTimer]) timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#lapseTimer = undefined;
  }

  #armLapse(delayMs: number): void {
    if (this.#stopped || this.#lapseTimer) return;
    this.#lapseTimer = this.#options.clock.timer(delayMs, () => {
      this.#lapseTimer = undefined;
      const nextMs = this.#dropLapsed();
      if (nextMs !== undefined) this.#armLapse(nextMs);
    });
  }

  /** Answers in how many ms the next of those that lapse would, if it were not renewed. */
  #dropLapsed(): number | undefined {
    const now = this.#options.clock.now();
    let next: number | undefined;
    for (const { kind, held, until } of this.#shelves.values()) {
      if (!kind.lapses) continue;
      for (const lease of held.values()) {
        const leftMs = (until.get(lease) ?? now) - now;
        if (leftMs > 0) {
          next = Math.min(leftMs, next ?? leftMs);
          continue;
        }
        held.delete(lease.id);
        kind.onLost?.(lease, "lapsed");
      }
    }
    return next;
  }

  /** Answers in how many ms to renew again. */
  async #renewAll(): Promise<number> {
    let failed = false;
    for (const shelf of this.#shelves.values()) {
      for (const batch of batches([...shelf.held.values()])) {
        if (this.#stopped) return 0;
        if (!(await this.#renewBatch(shelf, batch))) failed = true;
      }
    }
    const between = this.#options.leaseMs / RENEWALS_PER_LEASE;
    return failed ? between / RETRIES_PER_RENEWAL : between;
  }

  /** Whether all went through. One lease that cannot be renewed must not cost the others of its batch theirs. */
  async #renewBatch(shelf: Shelf, batch: readonly HeldLease[]): Promise<boolean> {
    const begunAt = this.#options.clock.now();
    try {
      type Lost = { lease: HeldLease; because: LostBecause };
      const lost = await this.#options.store.transact((tx) =>
        batch.flatMap((lease): Lost[] => {
          if (lease.deadlineAt !== undefined && lease.deadlineAt <= tx.now) return [{ lease, because: "deadline" }];
          const expiresAt = Math.min(tx.now + this.#options.leaseMs, lease.deadlineAt ?? Number.POSITIVE_INFINITY);
          return shelf.kind.renew(tx, lease, expiresAt) ? [] : [{ lease, because: "taken" }];
        }),
      );
      // from before it was asked for: the store's own end of it lies later
      for (const lease of batch) shelf.until.set(lease, begunAt + this.#options.leaseMs);
      for (const { lease, because } of lost) {
        if (shelf.held.get(lease.id) !== lease) continue; // dropped or held anew meanwhile
        shelf.held.delete(lease.id);
        shelf.kind.onLost?.(lease, because);
      }
      return true;
    } catch (error) {
      if (batch.length > 1 && !(error instanceof SwarmError && error.retryable)) {
        let all = true;
        for (const lease of batch) if (!(await this.#renewBatch(shelf, [lease]))) all = false;
        return all;
      }
      this.#options.onError(error, shelf.kind.name);
      return false;
    }
  }
}

function batches(leases: readonly HeldLease[]): HeldLease[][] {
  const result: HeldLease[][] = [];
  for (let at = 0; at < leases.length; at += RENEW_BATCH_MAX) result.push(leases.slice(at, at + RENEW_BATCH_MAX));
  return result;
}
