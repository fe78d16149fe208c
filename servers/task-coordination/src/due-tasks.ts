/** Tasks whose lease is over, and delayed ones whose time has come. */
import { indexEntry } from "@mcp-swarm/coordination/tasks";
import { fromOrdered, ordered, prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import { inTasks, prefixes, type TaskContext } from "./task-layer.ts";
import { expire, wake } from "./task-lifecycle.ts";

/** Most tasks whose lease is over, or whose time has come, that one transaction handles. */
export const DUE_BATCH_MAX = 100;

/** Up to `limit` ids at the front of an index by time that are due at `now`. */
function dueIds(tx: Transaction, prefix: string, limit: number): string[] {
  const range = { from: prefix, before: `${prefix}${ordered(tx.now + 1)}`, limit };
  return tx.scan(range).map((entry) => indexEntry(entry).id);
}

/** When the next lease ends or the next delayed task becomes available, ms by the store's clock. */
export async function nextDueAt(store: Store): Promise<number | undefined> {
  const heads = await Promise.all(
    [prefixes.leases, prefixes.delayed].map(async (prefix) => {
      const [head] = await store.scan(prefixRange(prefix, 1));
      return head && fromOrdered(head.key.slice(prefix.length, head.key.indexOf("/", prefix.length)));
    }),
  );
  const times = heads.filter((at) => at !== undefined);
  return times.length === 0 ? undefined : Math.min(...times);
}

/** Frees tasks whose lease is over and wakes delayed ones whose time has come; answers how many. Reads first, for it is often nothing. */
export async function freeDue(store: Store, context: TaskContext, limit: number = DUE_BATCH_MAX): Promise<number> {
  const dueAt = await nextDueAt(store);
  if (dueAt === undefined || dueAt > (await store.now())) return 0;
  return store.transact((tx) =>
    inTasks(tx, context, (tasks) => {
      const over = dueIds(tx, prefixes.leases, limit);
      for (const id of over) expire(tasks, tasks.get(id));
      const due = dueIds(tx, prefixes.delayed, limit);
      for (const id of due) wake(tasks, tasks.get(id));
      return over.length + due.length;
    }),
  );
}
