import { type Clock, type JsonObject, type Random, SwarmError } from "@mcp-swarm/core";
import { fromOrdered, type KeyRange, ordered, prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";

export interface DueEntry {
  readonly id: string;
  /** Ms since the epoch by the engine's clock. */
  readonly dueAt: number;
  readonly key: string;
}

/**
 * What falls due when: keys `<prefix><dueMs>/<id>` in order of time, kept in the transactions that change the record.
 * `prefix` ends in "/" and is a namespace, or lies within one.
 */
export class DueIndex {
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  key(dueAt: number, id: string): string {
    return `${this.prefix}${ordered(dueAt)}/${segment(id)}`;
  }

  /** `extra` is kept beside the id, for example `refs` to what its handler reads. */
  put(tx: Transaction, dueAt: number, id: string, extra: JsonObject = {}): void {
    tx.put(this.key(dueAt, id), { ...extra, id });
  }

  move(tx: Transaction, from: number, to: number, id: string, extra: JsonObject = {}): void {
    if (from !== to) this.remove(tx, from, id);
    this.put(tx, to, id, extra);
  }

  remove(tx: Transaction, dueAt: number, id: string): void {
    tx.delete(this.key(dueAt, id));
  }

  /** Up to `limit` entries due at `now`, the earliest first; they stay. */
  due(tx: Pick<Transaction, "scan">, now: number, limit: number): DueEntry[] {
    return tx.scan(this.dueRange(now, limit)).map((entry) => this.#read(entry));
  }

  /** What is due at `now`, the earliest first; behind the key `after`, when one is given. */
  dueRange(now: number, limit: number, after?: string): KeyRange {
    const range = prefixRange(this.prefix, limit, after === undefined ? {} : { after });
    return { ...range, before: `${this.prefix}${ordered(now + 1)}` };
  }

  /** `due`, and removes them: whoever takes one must do what it stands for in the same transaction. */
  takeDue(tx: Transaction, now: number, limit: number): DueEntry[] {
    const taken = this.due(tx, now, limit);
    for (const { key } of taken) tx.delete(key);
    return taken;
  }

  /** The earliest entries, due or not. */
  async first(store: Store, limit: number): Promise<DueEntry[]> {
    return (await store.scan(prefixRange(this.prefix, limit))).map((entry) => this.#read(entry));
  }

  #read({ key, value }: { key: string; value: unknown }): DueEntry {
    const { id } = value as { id: string };
    const at = this.prefix.length;
    return { id, key, dueAt: fromOrdered(key.slice(at, key.indexOf("/", at))) };
  }
}

export interface MaintenanceJob {
  /** For the log. */
  readonly name: string;
  /**
   * Does one bounded piece of work. Answers in how many ms it wants to run again: 0 when more is waiting, `Infinity` when it
   * knows of nothing.
   */
  run(): Promise<number>;
}

/** Entries whose handling failed, at most so many, are left out for so many runs: one bad record must not hold up the rest. */
const SET_ASIDE_MAX = 100;
const SET_ASIDE_RUNS = 60;

/**
 * A job that handles what falls due in an index, up to `limit` entries a transaction. When that fails for a cause that a
 * repetition does not mend, each entry is tried alone, and what fails is set aside for about a minute and reported.
 */
export function dueJob(options: {
  name: string;
  store: Store;
  index: DueIndex;
  limit: number;
  /** Does what the entry stands for. Pure, as a plan is; the entry is already taken out of the index. */
  handle: (tx: Transaction, entry: DueEntry) => void;
}): MaintenanceJob {
  const { store, index, limit } = options;
  const aside = new Set<string>();
  let runs = 0;

  const inIndex = (entry: DueEntry) => !aside.has(entry.key);
  const handleNow = (tx: Transaction, entries: readonly DueEntry[]) => {
    for (const entry of entries) {
      tx.delete(entry.key);
      options.handle(tx, entry);
    }
  };
  /** Ms until the next entry is due; a cheap read before any transaction, as most rounds find nothing to write. */
  const untilNext = async () => {
    const next = (await index.first(store, aside.size + 1)).find(inIndex);
    return next ? Math.max(0, next.dueAt - (await store.now())) : Number.POSITIVE_INFINITY;
  };

  return {
    name: options.name,
    async run() {
      runs = (runs + 1) % SET_ASIDE_RUNS;
      if (runs === 0) aside.clear();
      const wait = await untilNext();
      if (wait > 0) return wait;
      const taken = await store
        .transact((tx) => {
          const entries = index
            .due(tx, tx.now, limit + aside.size)
            .filter(inIndex)
            .slice(0, limit);
          handleNow(tx, entries);
          return entries.length;
        })
        .catch(async (error: unknown) => {
          if (error instanceof SwarmError && error.retryable) throw error;
          const failures = await handleEach();
          if (failures.length > 0) throw failures[0];
          return limit;
        });
      return taken === limit ? 0 : untilNext();
    },
  };

  async function handleEach(): Promise<unknown[]> {
    const failures: unknown[] = [];
    const now = await store.now();
    for (const entry of (await index.first(store, limit + aside.size)).filter(inIndex)) {
      if (entry.dueAt > now) break;
      try {
        await store.transact((tx) => {
          if (tx.get(entry.key)) handleNow(tx, [entry]);
        });
      } catch (error) {
        failures.push(error);
        if (aside.size < SET_ASIDE_MAX) aside.add(entry.key);
      }
    }
    return failures;
  }
}

/** A round starts at the latest this long after the one before ended, chance included: what others put is seen in time. */
export const MAINTENANCE_INTERVAL_MS = 1_000;
/** Chance added to each delay, so that many processes do not all come at once; the first to come does the work. */
const JITTER_MS = 250;
/** Rounds without a pause while a job says that more is waiting; then others get the store for a moment. */
const EAGER_ROUNDS_MAX = 32;

/** One background loop per process for all its jobs. */
export class Maintenance {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #onError: (error: unknown, job: string) => void;
  readonly #jobs = new Set<MaintenanceJob>();
  #timer: Disposable | undefined;
  #round: Promise<void> | undefined;
  #eagerRounds = 0;
  #running = false;

  constructor(options: { clock: Clock; random: Random; onError: (error: unknown, job: string) => void }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#onError = options.onError;
  }

  add(job: MaintenanceJob): Disposable {
    this.#jobs.add(job);
    return { [Symbol.dispose]: () => void this.#jobs.delete(job) };
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#arm(0);
  }

  /** Starts no further round and waits for the one under way. */
  async stop(): Promise<void> {
    this.#running = false;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    await this.#round;
  }

  #arm(wantedMs: number): void {
    if (!this.#running) return;
    const eager = wantedMs === 0 && this.#eagerRounds < EAGER_ROUNDS_MAX;
    this.#eagerRounds = eager ? this.#eagerRounds + 1 : 0;
    const delay = eager ? 0 : Math.min(wantedMs, MAINTENANCE_INTERVAL_MS - JITTER_MS) + this.#random.integer(JITTER_MS);
    this.#timer = this.#clock.timer(delay, () => {
      this.#timer = undefined;
      this.#round = this.#runAll();
    });
  }

  async #runAll(): Promise<void> {
    let wanted = Number.POSITIVE_INFINITY;
    for (const job of [...this.#jobs]) {
      if (!this.#running) return;
      try {
        wanted = Math.min(wanted, Math.max(0, await job.run()));
      } catch (error) {
        this.#onError(error, job.name);
      }
    }
    this.#arm(wanted);
  }
}
