/**
 * Who appends to which chain. A call holds a lane from before its transaction until that has ended, so nobody else appends to the lane's
 * chain meanwhile: no row of the log is ever contended, and calls at once do not wait for one another.
 */
import { newId, type Random, SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import { type AuditEvent, type AuditRow, auditKey, rowAt, rowValue } from "./entry.ts";

/** Most lanes of one process. */
export const LANES_MAX = 16;
/** Most transactions of one process that wait for a lane. */
const LANE_WAITERS_MAX = 10_000;

/** The last entry of a chain. */
type Head = Pick<AuditRow, "chain" | "seq" | "hash">;

/** Where a chain stands before its first entry. */
const START = { seq: 0, hash: undefined, at: 0 };

/** Runs a plan in a transaction, as `Store.transact` and `Call.transact` do. */
export type Transact<T> = (plan: (tx: Transaction) => T) => Promise<T>;

/** Adds an entry to the transaction at hand. */
export type Append = (event: AuditEvent) => void;

export interface LaneOptions {
  readonly store: Store;
  readonly random: Random;
  readonly processId: string;
  /** Is told of the rows that a commit has added to the log, in their order. */
  readonly onCommitted: (rows: readonly AuditRow[]) => void;
}

class Lane {
  readonly #options: LaneOptions;
  #chain: string;
  #last: AuditRow | undefined;
  /** Rows of a commit of which it is not known whether it took place. */
  #doubt: readonly AuditRow[] = [];

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#chain = newId("c", options.random);
  }

  /** The end of its chain, when there is one and no commit under way or in doubt may add to it. */
  get head(): Head | undefined {
    return this.#doubt.length === 0 ? this.#last : undefined;
  }

  async transact<T>(transact: Transact<T>, plan: (tx: Transaction, append: Append) => T): Promise<T> {
    await this.#settle();
    const chain = this.#chain;
    let rows: AuditRow[] = [];
    let refused = false;
    try {
      const outcome = await transact((tx) => {
        rows = []; // the plan may run again, and then only its last run counts
        refused = false;
        let head: Pick<AuditRow, "seq" | "at"> & { hash: string | undefined } = this.#last ?? START;
        const append: Append = (event) => {
          const place = { chain, seq: head.seq + 1, at: Math.max(tx.now, head.at) };
          const row = rowAt(place, this.#options.processId, event, head.hash);
          tx.put(auditKey(row), rowValue(row));
          rows.push(row);
          head = row;
        };
        try {
          return plan(tx, append);
        } catch (error) {
          refused = true;
          throw error;
        }
      });
      this.#committed(rows);
      return outcome;
    } catch (error) {
      if (!refused) this.#doubt = rows; // lost with its answer, it may have taken place
      throw error;
    }
  }

  #committed(rows: readonly AuditRow[]): void {
    const last = rows.at(-1);
    if (!last) return;
    this.#last = last;
    this.#options.onCommitted(rows);
  }

  /** What became of the commit in doubt. When it is not there it may still come: then nothing is ever added to its chain again. */
  async #settle(): Promise<void> {
    const [first] = this.#doubt;
    if (!first) return;
    const there = await this.#options.store.get(auditKey(first));
    if (there) this.#committed(this.#doubt);
    else {
      this.#chain = newId("c", this.#options.random);
      this.#last = undefined;
    }
    this.#doubt = [];
  }
}

/** The lanes of one process. */
export class Lanes {
  readonly #options: LaneOptions;
  readonly #all: Lane[] = [];
  /** The last one given back is taken first: whoever calls one at a time writes one chain. */
  readonly #free: Lane[] = [];
  readonly #waiting: ((lane: Lane) => void)[] = [];
  #closed = false;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Nothing more is appended, except by transactions that are under way. Answers the ends of all chains but theirs. */
  close(): Head[] {
    this.#closed = true;
    return this.#free.flatMap(({ head }) => (head ? [head] : []));
  }

  /**
   * Runs `plan` in a transaction that `transact` makes; what `plan` appends is committed with all else that it writes.
   * Waits while all lanes are taken, first come first served.
   * @throws SwarmError unavailable when too many wait; what `transact` throws
   */
  async transact<T>(transact: Transact<T>, plan: (tx: Transaction, append: Append) => T): Promise<T> {
    const lane = await this.#take();
    try {
      return await lane.transact(transact, plan);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(lane);
      else this.#free.push(lane);
    }
  }

  async #take(): Promise<Lane> {
    if (this.#closed) throw new SwarmError("unavailable", "The audit log is closed.");
    const free = this.#free.pop();
    if (free) return free;
    if (this.#all.length < LANES_MAX) {
      const lane = new Lane(this.#options);
      this.#all.push(lane);
      return lane;
    }
    if (this.#waiting.length >= LANE_WAITERS_MAX) {
      throw new SwarmError("unavailable", "Too many operations of this process wait to be written down.", {
        hint: "Try again a little later.",
      });
    }
    return await new Promise((resolve) => this.#waiting.push(resolve));
  }
}
