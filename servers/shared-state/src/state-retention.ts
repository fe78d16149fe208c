/** What ends by itself: values whose time has come, and the history of keys that were deleted long ago. */
import { dueJob, expiredRowsJob, type MaintenanceJob } from "@mcp-swarm/coordination";
import type { Store } from "@mcp-swarm/store";
import { expiries, placeOfId, purges } from "./state-layer.ts";
import { Scopes } from "./state-scope.ts";
import { Values } from "./values.ts";

const DAY_MS = 24 * 3_600_000;
/** Values that one transaction ends, and deleted keys that one forgets, each with up to 20 revisions. */
const EXPIRY_BATCH_MAX = 100;
const PURGE_BATCH_MAX = 20;

/** How long the history of a deleted key is kept. */
export function keepDeletedMs(retentionDays: number): number {
  return retentionDays * DAY_MS;
}

/** Jobs for `Maintenance`; whichever process comes first does the work. */
export function stateJobs(store: Store, values: Values): MaintenanceJob[] {
  return [
    dueJob({
      name: "end values",
      store,
      index: expiries,
      limit: EXPIRY_BATCH_MAX,
      handle: (tx, { id }) => values.end(tx, placeOfId(id)),
    }),
    dueJob({
      name: "forget deleted keys",
      store,
      index: purges,
      limit: PURGE_BATCH_MAX,
      handle: (tx, { id }) => void values.purge(tx, placeOfId(id)),
    }),
    expiredRowsJob(store),
  ];
}

/** What the `sweep` command runs besides: what is due, to its end. */
export function stateSweepers({ retentionDays }: { retentionDays: number }) {
  const values = new Values({ scopes: new Scopes(), keepDeletedMs: keepDeletedMs(retentionDays) });
  return [
    {
      name: "deleted keys",
      async sweep(store: Store): Promise<number> {
        let total = 0;
        for (;;) {
          const due = await purges.first(store, PURGE_BATCH_MAX);
          if (due.length === 0) return total;
          const gone = await store.transact((tx) => {
            const taken = purges.takeDue(tx, tx.now, PURGE_BATCH_MAX);
            return { taken: taken.length, purged: taken.filter(({ id }) => values.purge(tx, placeOfId(id))).length };
          });
          total += gone.purged;
          if (gone.taken < PURGE_BATCH_MAX) return total;
        }
      },
    },
  ];
}
