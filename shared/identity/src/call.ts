import type { Json } from "@mcp-swarm/core";
import type { Store, Transaction, TransactOptions } from "@mcp-swarm/store";
import type { Caller } from "./caller.ts";

/**
 * One call of one operation, as the domain sees it: who calls, and the way into the store. What every operation must have
 * in its own commit (the memory of an idempotency key, the decision, the audit entry) happens inside `transact`, so no tool
 * and no domain file knows of it.
 */
export interface Call {
  readonly caller: Caller;
  /** The store itself, for reads and for what follows the deciding transaction. */
  readonly store: Store;
  /**
   * The operation's deciding transaction. Its outcome is what a repetition with the same idempotency key gets back, so it is
   * small and holds all that the answer is made from. An operation has one; it may try it again while nothing was written.
   */
  transact<T extends Json>(plan: (tx: Transaction) => T, options?: TransactOptions): Promise<T>;
}

/** What a call is made from. */
export interface CallBase {
  readonly store: Store;
  readonly caller: Caller;
  /** What a deciding transaction goes through; `store.transact` when absent. */
  readonly transact?: Call["transact"];
}

/** A call without an idempotency key. */
export function callOf({ store, caller, transact }: CallBase): Call {
  return { caller, store, transact: transact ?? ((plan, options) => store.transact(plan, options)) };
}

/** A call of nobody in particular: background work, tests. */
export function plainCall(store: Store, caller: Caller): Call {
  return callOf({ store, caller });
}

/** A transaction that remembers whether anything was written through it. */
export function noticeWrites(tx: Transaction): { tx: Transaction; wrote: () => boolean } {
  let wrote = false;
  return {
    wrote: () => wrote,
    tx: {
      now: tx.now,
      get: (key) => tx.get(key),
      scan: (range) => tx.scan(range),
      pick: (range, share) => tx.pick(range, share),
      put: (key, value, options) => {
        wrote = true;
        tx.put(key, value, options);
      },
      delete: (key) => {
        wrote = true;
        tx.delete(key);
      },
    },
  };
}
