import type { Entry, Store, Transaction } from "@mcp-swarm/store";

/** A store that counts the entries that are read and written, whatever way. */
export function counted(store: Store): { store: Store; touched: () => number } {
  let entries = 0;
  const one = <T extends Entry | undefined>(entry: T): T => {
    entries++;
    return entry;
  };
  const several = <T>(found: T[]): T[] => {
    entries += 1 + found.length;
    return found;
  };
  const transaction = (tx: Transaction): Transaction => ({
    now: tx.now,
    get: (key) => one(tx.get(key)),
    scan: (range) => several(tx.scan(range)),
    pick: (range, share) => one(tx.pick(range, share)),
    put: (key, value, options) => {
      entries++;
      tx.put(key, value, options);
    },
    delete: (key) => {
      entries++;
      tx.delete(key);
    },
  });
  return {
    touched: () => entries,
    store: {
      engine: store.engine,
      location: store.location,
      transact: (plan, options) => store.transact((tx) => plan(transaction(tx)), options),
      get: async (key) => one(await store.get(key)),
      getMany: async (keys) => several(await store.getMany(keys)),
      scan: async (range) => several(await store.scan(range)),
      search: async (query) => several(await store.search(query)),
      watch: (prefix, wake) => store.watch(prefix, wake),
      now: () => store.now(),
      keyv: (namespace) => store.keyv(namespace),
      snapshot: (read) => store.snapshot(read),
      sweep: (limit) => store.sweep(limit),
      close: () => store.close(),
    },
  };
}
