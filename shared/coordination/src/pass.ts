import type { Store } from "@mcp-swarm/store";
import type { MaintenanceJob } from "./due.ts";

/** Does one batch of a pass over a range; answers where to go on, undefined at its end. */
export type Batch = (after: string | undefined) => Promise<string | undefined>;

/** A job that passes over a range, one batch a run, and again `everyMs` after each end. The first pass begins after `everyMs`. */
export function passJob(name: string, store: Pick<Store, "now">, everyMs: number, batch: Batch): MaintenanceJob {
  let after: string | undefined;
  let nextAt: number | undefined;
  return {
    name,
    async run() {
      const now = await store.now();
      nextAt ??= now + everyMs;
      if (now < nextAt) return nextAt - now;
      after = await batch(after);
      if (after !== undefined) return 0;
      nextAt = now + everyMs;
      return everyMs;
    },
  };
}

/** How often expired rows are removed, and how many in one run. */
const EXPIRED_EVERY_MS = 300_000;
const EXPIRED_BATCH_MAX = 1_000;

/** Removes expired rows (presence, idempotency keys): they read as missing anyway, but would fill the store. */
export function expiredRowsJob(store: Store): MaintenanceJob {
  return passJob("remove expired rows", store, EXPIRED_EVERY_MS, async () => {
    return (await store.sweep(EXPIRED_BATCH_MAX)) === EXPIRED_BATCH_MAX ? "more" : undefined;
  });
}
