import type { Json } from "@mcp-swarm/core";
import type { Store, Transaction, TransactOptions } from "@mcp-swarm/store";
import type { Caller } from "./caller.ts";

/**
 * One call of one operation, as the domain sees it: who calls, and the way into the store. What every operation must have
 * in its own commit (the memory of an idempotency key; later the decision and the audit entry) happens inside `transact`,
 * so no tool and no domain file knows of it.
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

/** A call without an idempotency key: background work, tests. */
export function plainCall(store: Store, caller: Caller): Call {
  return { caller, store, transact: (plan, options) => store.transact(plan, options) };
}
