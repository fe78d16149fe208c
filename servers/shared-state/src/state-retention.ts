/** What ends by itself: values whose time has come, and the history of keys that were deleted long ago. */
import { dueJob, expiredRowsJob, type MaintenanceJob } from "@mcp-swarm/coordination";
import { prefixRange, type Store } from "@mcp-swarm/store";
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

/** What the `sweep` command runs besides: deleted keys that are older than the retention is now, whatever it was when they were deleted. */
export function stateSweepers({ retentionDays }: { retentionDays: number }) {
  const values = new Values({ scopes: new Scopes(), keepDeletedMs: keepDeletedMs(retentionDays) });
  return [
    {
      name: "deleted keys",
      async sweep(store: Store): Promise<number> {
        let total = 0;
        let after: string | undefined;
        for (;;) {
          const page = await store.scan(prefixRange(purges.prefix, PURGE_BATCH_MAX, after === undefined ? {} : { after }));
          total += await store.transact((tx) => {
            const forgotten = page.filter(({ key, value }) => {
              if (!tx.get(key) || !values.purge(tx, placeOfId((value as { id: string }).id))) return false;
              tx.delete(key);
              return true;
            });
            return forgotten.length;
          });
          after = page.at(-1)?.key;
          if (page.length < PURGE_BATCH_MAX) return total;
        }
      },
    },
  ];
}
