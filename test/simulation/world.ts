/**
 * Many hosts in one process, one step at a time. Every call of the store is a scheduling point before and after its commit;
 * a seeded generator decides who goes on, when time passes, and what breaks. The same seed gives the same run.
 */
import { type Clock, type Json, type Random, SwarmError, seededRandom } from "@mcp-swarm/core";
import type { Entry, KeyRange, Store, Transaction } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { Violation } from "./violation.ts";

/** Most that time moves in one step, ms. */
const TICK_MS_MAX = 12;
/** Entries among which an engine under contention may choose. */
const PICK_AMONG = 16;
/** Events that a failure shows. */
const TRACE_MAX = 60;

/** Chances in 10,000, at each step or each transaction. */
export interface Faults {
  readonly kill: number;
  readonly pause: number;
  readonly jump: number;
  readonly failBefore: number;
  readonly failAfter: number;
  /** A plan runs, and then once more after others had their turn. */
  readonly rerun: number;
}

export const NO_FAULTS: Faults = { kill: 0, pause: 0, jump: 0, failBefore: 0, failAfter: 0, rerun: 0 };
export const FAULTS: Faults = { kill: 8, pause: 15, jump: 4, failBefore: 60, failAfter: 60, rerun: 600 };

/** A known bug, planted to prove that it is found. */
export type Sabotage =
  /** Commits what was decided from a snapshot, although others committed since. */
  | "no revision check"
  /** Leases end by the clock of the process, which is ahead. */
  | "process clock"
  /** Some acknowledged commits never happened. */
  | "lost commits";

/** What one committed transaction did. */
export interface Commit {
  readonly by: Actor;
  /** The engine's clock. */
  readonly now: number;
  readonly changes: readonly { key: string; before: Json | undefined; after: Json | undefined }[];
}

/** A process, or an agent within it. */
export interface Actor {
  readonly name: string;
  readonly process: Process;
}

export class Process {
  readonly name: string;
  alive = true;
  pausedUntil = 0;
  /** How far its own clock is off, ms. */
  readonly skewMs: number;

  constructor(name: string, skewMs: number) {
    this.name = name;
    this.skewMs = skewMs;
  }

  runs(now: number): boolean {
    return this.alive && this.pausedUntil <= now;
  }
}

export class World {
  readonly random: Random;
  readonly store: MemoryStore;
  faults: Faults = NO_FAULTS;
  steps = 0;
  readonly #sabotage: Sabotage | undefined;
  readonly #observe: (commit: Commit) => void;
  readonly #trace: string[] = [];
  #now = 1_750_000_000_000;
  #waiting: { process: Process; resume: () => void }[] = [];
  #timers = new Set<{ process: Process; at: number; fire: () => void }>();
  #failure: unknown;

  constructor(options: { seed: number; observe: (commit: Commit) => void; sabotage?: Sabotage | undefined }) {
    this.random = seededRandom(options.seed);
    this.#observe = options.observe;
    this.#sabotage = options.sabotage;
    this.store = new MemoryStore({ clock: { now: () => this.#now, timer: () => ({ [Symbol.dispose]: () => {} }) } });
  }

  get now(): number {
    return this.#now;
  }

  chance(in10000: number): boolean {
    return in10000 > 0 && this.random.integer(10_000) < in10000;
  }

  note(text: string): void {
    this.#trace.push(`${this.steps} ${this.#now % 100_000_000} ${text}`);
    if (this.#trace.length > TRACE_MAX) this.#trace.shift();
  }

  /** The run ends with this at the end of the step. */
  fail(error: unknown): void {
    this.#failure ??= error instanceof Violation ? error : new Violation(`Unforeseen: ${String(error)}`, error);
  }

  trace(): string {
    return this.#trace.join("\n");
  }

  /** The clock of a process; a dead or paused one hears no timer. */
  clockOf(process: Process): Clock {
    return {
      now: () => this.#now + process.skewMs,
      timer: (delayMs, fire) => {
        const timer = { process, at: this.#now + Math.max(0, delayMs), fire };
        this.#timers.add(timer);
        return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
      },
    };
  }

  kill(process: Process): void {
    process.alive = false;
    this.#waiting = this.#waiting.filter((one) => one.process !== process);
    for (const timer of this.#timers) if (timer.process === process) this.#timers.delete(timer);
    this.note(`${process.name} is killed`);
  }

  pause(process: Process, forMs: number): void {
    process.pausedUntil = this.#now + forMs;
    this.note(`${process.name} is paused for ${forMs} ms`);
  }

  /** The engine's clock goes forward at once. */
  jump(byMs: number): void {
    this.#now += byMs;
    this.note(`time jumps by ${byMs} ms`);
  }

  /** One scheduling decision, and all that follows until every process waits again. */
  async step(): Promise<void> {
    this.steps++;
    this.#now += this.random.integer(TICK_MS_MAX);
    const due = [...this.#timers].filter(({ at, process }) => at <= this.#now && process.runs(this.#now));
    const ready = this.#waiting.filter(({ process }) => process.runs(this.#now));
    const choice = this.random.integer(due.length + ready.length + 1);
    const timer = due[choice];
    const waiter = ready[choice - due.length];
    if (timer) {
      this.#timers.delete(timer);
      timer.fire();
    } else if (waiter) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resume();
    }
    await new Promise<void>((turn) => setImmediate(turn)); // all promises of this step are through
    if (this.#failure) throw this.#failure;
  }

  /** @param immediate without scheduling points: for what the simulation itself does between two steps */
  storeOf(actor: Actor, { immediate = false } = {}): Store {
    const { store } = this;
    const point = async () => {
      if (!immediate) await this.#point(actor.process);
    };
    const read = async <T>(work: () => Promise<T>): Promise<T> => {
      await point();
      return work();
    };
    return {
      engine: store.engine,
      location: store.location,
      transact: (plan) => (immediate ? this.#commit(actor, plan, 0) : this.#transact(actor, plan)),
      get: (key) => read(() => store.get(key)),
      getMany: (keys) => read(() => store.getMany(keys)),
      scan: (range) => read(() => store.scan(range)),
      search: (query) => read(() => store.search(query)),
      now: () => read(() => store.now()),
      watch: (prefix, wake) => store.watch(prefix, () => actor.process.alive && wake()),
      keyv: (namespace) => store.keyv(namespace),
      snapshot: (view) => read(() => store.snapshot(view)),
      sweep: (limit) => read(() => store.sweep(limit)),
      close: async () => {},
    };
  }

  #point(process: Process): Promise<void> {
    return new Promise((resume) => {
      if (process.alive) this.#waiting.push({ process, resume }); // a dead one never goes on
    });
  }

  async #transact<T>(actor: Actor, plan: (tx: Transaction) => T): Promise<T> {
    await this.#point(actor.process);
    const chance = this.random.integer(2 ** 16);
    if (this.chance(this.faults.failBefore)) throw new SwarmError("unavailable", "The engine does not answer.");
    if (this.chance(this.faults.rerun)) {
      await this.#discard(plan, chance);
      await this.#point(actor.process);
    }
    const result =
      this.#sabotage === "no revision check"
        ? await this.#unchecked(actor, plan, chance)
        : await this.#commit(actor, plan, chance);
    await this.#point(actor.process);
    if (this.chance(this.faults.failAfter)) throw new SwarmError("unavailable", "The engine does not answer.");
    return result;
  }

  /** A try that is not committed: a plan must bear it. What it throws is not told, as nothing of it was validated. */
  async #discard(plan: (tx: Transaction) => unknown, chance: number): Promise<void> {
    const discarded = new Error("discarded");
    try {
      await this.store.transact((tx) => {
        plan(watched(tx, chance, new Map()));
        throw discarded;
      });
    } catch (error) {
      if (error !== discarded && !(error instanceof SwarmError)) throw error;
    }
  }

  async #commit<T>(actor: Actor, plan: (tx: Transaction) => T, chance: number): Promise<T> {
    const lose = this.#sabotage === "lost commits" && this.chance(100);
    const lost = new Error("lost");
    let result: { value: T } | undefined;
    try {
      await this.store.transact((tx) => {
        const changes = new Map<string, Change>();
        const seen = this.#sabotage === "process clock" ? { ...tx, now: tx.now + actor.process.skewMs } : tx;
        result = { value: plan(watched(seen, chance, changes)) };
        if (lose) throw lost;
        this.#told(actor, tx.now, changes);
      });
    } catch (error) {
      if (error !== lost) throw error;
    }
    if (!result) throw new Violation("A plan brought nothing");
    return result.value;
  }

  async #unchecked<T>(actor: Actor, plan: (tx: Transaction) => T, chance: number): Promise<T> {
    const changes = new Map<string, Change>();
    const abort = new Error("read only");
    let result: { value: T } | undefined;
    try {
      await this.store.transact((tx) => {
        result = { value: plan(watched(tx, chance, changes)) };
        throw abort;
      });
    } catch (error) {
      if (error !== abort) throw error;
    }
    await this.#point(actor.process);
    await this.store.transact((tx) => {
      for (const [key, change] of changes) {
        change.before = tx.get(key)?.value;
        if (change.after === undefined) tx.delete(key);
        else tx.put(key, change.after);
      }
      this.#told(actor, tx.now, changes);
    });
    if (!result) throw new Violation("A plan brought nothing");
    return result.value;
  }

  #told(actor: Actor, now: number, changes: ReadonlyMap<string, Change>): void {
    if (changes.size === 0) return;
    try {
      this.#observe({ by: actor, now, changes: [...changes].map(([key, { before, after }]) => ({ key, before, after })) });
    } catch (error) {
      this.fail(error);
    }
  }
}

interface Change {
  before: Json | undefined;
  after: Json | undefined;
}

/** A transaction that tells what was written, and picks as an engine under contention does. */
function watched(tx: Transaction, chance: number, changes: Map<string, Change>): Transaction {
  const change = (key: string, after: Json | undefined) => {
    const known = changes.get(key);
    if (known) known.after = after;
    else changes.set(key, { before: tx.get(key)?.value, after });
  };
  return {
    now: tx.now,
    get: (key) => tx.get(key),
    scan: (range) => tx.scan(range),
    pick: (range, share) => pickAmong(tx, range, share, chance),
    put: (key, value, options) => {
      change(key, value);
      tx.put(key, value, options);
    },
    delete: (key) => {
      change(key, undefined);
      tx.delete(key);
    },
  };
}

function pickAmong(tx: Transaction, range: KeyRange, share: number, chance: number): Entry | undefined {
  const entries = tx.scan({ ...range, limit: PICK_AMONG });
  const group = entries[0]?.key.split("/").slice(0, -share).join("/");
  const same = entries.filter(({ key }) => key.startsWith(`${group}/`));
  return same[chance % Math.max(1, same.length)];
}
