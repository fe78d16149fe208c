/**
 * Where locks are kept.
 *
 * | key | value | why |
 * |---|---|---|
 * | `lock/at/<name>` | LockRecord | the truth: holders, and who waits in which order; stays for its fencing token |
 * | `lock/busy/<name>` | {refs} | there while the lock is held or waited for, so that a list does not read all that ever were; a lease that runs out leaves it for a while |
 *
 * Names stand in keys as they are: none of their characters comes behind "~", so that a prefix of names is a range of keys.
 */
import { type KeyRange, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";
import { freshLock, isIdle, type LockRecord, livingLock } from "./lock-record.ts";

const BUSY = "lock/busy/";

export const lockKey = (name: string): string => `lock/at/${name}`;
export const BUSY_LOCKS_PREFIX = BUSY;

/** The lock as it was last written; one that never was is free. */
export function readLock(tx: Pick<Transaction, "get">, name: string): LockRecord {
  return (tx.get(lockKey(name))?.value as LockRecord | undefined) ?? freshLock(name);
}

/** The locks as they are now, read outside a transaction. */
export async function readLocks(store: Pick<Store, "getMany">, names: readonly string[]): Promise<LockRecord[]> {
  if (names.length === 0) return [];
  const entries = await store.getMany(names.map(lockKey));
  return names.map((name, at) => (entries[at]?.value as LockRecord | undefined) ?? freshLock(name));
}

export function writeLock(tx: Transaction, before: LockRecord, after: LockRecord): void {
  if (before === after) return;
  tx.put(lockKey(after.name), after);
  if (isIdle(after)) {
    if (!isIdle(before)) tx.delete(`${BUSY}${after.name}`);
  } else if (isIdle(before)) tx.put(`${BUSY}${after.name}`, { refs: [lockKey(after.name)] });
}

/** Locks that were held or waited for when they were last written, in order of their names. */
export function busyLocks(prefix: string, limit: number, after?: string): KeyRange {
  const from = after === undefined ? `${BUSY}${prefix}` : `${after}\0`;
  return { from, before: `${BUSY}${prefix}~`, limit: Math.min(limit, SCAN_LIMIT_MAX) };
}

export function nameOfBusy(key: string): string {
  return key.slice(BUSY.length);
}

/** Ended leases leave the record, and a lock that nobody holds or waits for leaves the list. */
export function tidyLock(tx: Transaction, name: string): void {
  const before = readLock(tx, name);
  writeLock(tx, before, livingLock(before, tx.now));
}
