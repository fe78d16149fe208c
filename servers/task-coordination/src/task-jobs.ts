/** What the servers do by themselves, in the background of every process; whichever comes first does it. */
import type { MaintenanceJob } from "@mcp-swarm/coordination";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { DUE_BATCH_MAX, freeDue, nextDueAt } from "./due-tasks.ts";
import { dropQueues } from "./queue-directory.ts";
import { prefixes, type TaskContext } from "./task-layer.ts";
import { type Queue, queueName } from "./task-queue.ts";
import type { Tasks } from "./tasks.ts";
import { sweepWorkflows } from "./workflow-retention.ts";

/** How often queues without tasks and tasks past their retention are looked for, in ms. */
const QUEUE_SWEEP_MS = 600_000;
const RETENTION_SWEEP_MS = 600_000;
/** Queues that one transaction looks at. */
const QUEUE_BATCH_MAX = 50;
/** Ended tasks that one transaction looks at. */
const RETENTION_BATCH_MAX = 100;
const DAY_MS = 24 * 3_600_000;

export interface TaskJobsOptions {
  store: Store;
  context: TaskContext;
  tasks: Tasks;
  /** `SWARM_RETENTION_DAYS`; ended tasks stay for good when absent. */
  retentionDays?: number | undefined;
}

/** Jobs for `Maintenance`. Leases and delays are kept to the second; the sweeps run every ten minutes. */
export function taskJobs({ store, context, tasks, retentionDays }: TaskJobsOptions): MaintenanceJob[] {
  const due: MaintenanceJob = {
    name: "end leases, wake delayed tasks",
    async run() {
      if ((await freeDue(store, context)) >= DUE_BATCH_MAX) return 0;
      const at = await nextDueAt(store);
      return at === undefined ? Number.POSITIVE_INFINITY : Math.max(0, at - (await store.now()));
    },
  };
  const jobs = [due, sweep("drop empty queues", store, QUEUE_SWEEP_MS, (after) => dropEmptyQueues(store, after))];
  if (retentionDays !== undefined) {
    const olderThanMs = retentionDays * DAY_MS;
    jobs.push(
      sweep("drop old tasks", store, RETENTION_SWEEP_MS, async (after) => {
        return (await tasks.sweepEnded(store, { olderThanMs, limit: RETENTION_BATCH_MAX, after })).after;
      }),
      sweep("drop old workflows", store, RETENTION_SWEEP_MS, async (after) => {
        return (await sweepWorkflows(store, { olderThanMs, limit: RETENTION_BATCH_MAX, after })).after;
      }),
    );
  }
  return jobs;
}

/** A pass over a range, one batch a run, and then again after `everyMs`. `batch` answers where to go on. */
function sweep(
  name: string,
  store: Store,
  everyMs: number,
  batch: (after: string | undefined) => Promise<string | undefined>,
): MaintenanceJob {
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

/** A queue that holds nothing would cost every claim a look for good. The next task of its kind makes it anew. */
export async function dropEmptyQueues(store: Store, after?: string): Promise<string | undefined> {
  const range = prefixRange(prefixes.queues, QUEUE_BATCH_MAX, after === undefined ? {} : { after });
  return store.transact((tx) => {
    const entries = tx.scan(range);
    const empty = entries.filter(({ value }) => {
      return tx.scan(prefixRange(prefixes.readyIn(queueName(value as Queue)), 1)).length === 0;
    });
    dropQueues(
      tx,
      empty.map(({ key }) => key),
    );
    return entries.length === range.limit ? entries.at(-1)?.key : undefined;
  });
}
