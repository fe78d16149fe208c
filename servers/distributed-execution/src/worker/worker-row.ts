/**
 * What a worker says of itself, for those who ask where their code can run.
 *
 * | key | value | why |
 * |---|---|---|
 * | `exec-worker/<workerId>` | WorkerRow (expires) | which workers there are; renewed while the worker lives, gone a lease after it died |
 */
import type { Clock } from "@mcp-swarm/core";
import { prefixRange, type Store, segment } from "@mcp-swarm/store";
import type { Offer } from "../environment.ts";
import type { DriverName, Probe } from "../sandbox/driver.ts";

export const WORKERS_PREFIX = "exec-worker/";
/** Most workers that are listed. */
export const WORKERS_MAX = 200;
/** Longest name of a worker or its machine, in characters. */
export const WORKER_NAME_MAX = 64;

export type WorkerRow = {
  readonly id: string;
  /** What its operator calls it; the machine's name when it has none. */
  readonly name: string;
  /** `server`: the pool of a server process; `worker`: a process that does nothing else. */
  readonly kind: "server" | "worker";
  readonly host: string;
  readonly platform: string;
  readonly arch: string;
  readonly labels: readonly string[];
  readonly slots: number;
  /** As of `seenAt`. */
  readonly running: number;
  readonly startedAt: number;
  readonly seenAt: number;
  readonly offers: readonly Offer[];
  /** What each driver that was tried showed: which limits it enforces, what it isolates, or why it is not there. */
  readonly drivers: Readonly<Partial<Record<DriverName, Probe>>>;
};

/** What a worker knows of itself; the rest is the store's clock. */
export type WorkerDescription = Omit<WorkerRow, "startedAt" | "seenAt">;

/** Workers that live now, in no order that means anything. */
export async function liveWorkers(store: Pick<Store, "scan">): Promise<WorkerRow[]> {
  return (await store.scan(prefixRange(WORKERS_PREFIX, WORKERS_MAX))).map(({ value }) => value as unknown as WorkerRow);
}

const RENEWALS_PER_LEASE = 3;
const RETRIES_PER_RENEWAL = 4;

export interface WorkerPresenceOptions {
  readonly store: Pick<Store, "transact">;
  readonly clock: Clock;
  readonly leaseMs: number;
  readonly describe: () => WorkerDescription;
  /** Told of a renewal that failed; it is tried again. */
  readonly onError: (error: unknown) => void;
}

/** Keeps a worker's row while it lives. */
export class WorkerPresence {
  readonly #options: WorkerPresenceOptions;
  #timer: Disposable | undefined;
  #writing: Promise<void> = Promise.resolve();
  #startedAt: number | undefined;
  #ended = false;

  constructor(options: WorkerPresenceOptions) {
    this.#options = options;
  }

  /** Writes the row now, with what the worker says of itself now, and keeps it from then on. Never rejects. */
  announce(): Promise<void> {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  /** Removes the row. Never rejects: what could not be removed ends by itself. */
  async leave(): Promise<void> {
    this.#ended = true;
    this.#timer?.[Symbol.dispose]();
    await this.#writing;
    if (this.#startedAt === undefined) return;
    const { store, describe, onError } = this.#options;
    const key = keyOf(describe().id);
    await store.transact((tx) => tx.delete(key)).catch(onError);
  }

  async #write(): Promise<void> {
    if (this.#ended) return;
    const { store, clock, leaseMs, describe, onError } = this.#options;
    const betweenMs = leaseMs / RENEWALS_PER_LEASE;
    let nextMs = betweenMs;
    try {
      const said = describe();
      const before = this.#startedAt;
      this.#startedAt = await store.transact((tx) => {
        const startedAt = before ?? tx.now;
        tx.put(keyOf(said.id), { ...said, startedAt, seenAt: tx.now } satisfies WorkerRow, { ttlMs: leaseMs });
        return startedAt;
      });
    } catch (error) {
      nextMs = betweenMs / RETRIES_PER_RENEWAL;
      onError(error);
    }
    if (!this.#ended) this.#timer = clock.timer(nextMs, () => void this.announce());
  }
}

function keyOf(workerId: string): string {
  return `${WORKERS_PREFIX}${segment(workerId)}`;
}
