/** What the servers do by themselves, in the background of every process; whichever comes first does it. */
import { expiredRowsJob, type MaintenanceJob, passJob } from "@mcp-swarm/coordination";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { DUE_BATCH_MAX, freeDue, nextDueAt } from "./due-tasks.ts";
import { taskQueues } from "./queue-directory.ts";
import { retentionJobs } from "./retention.ts";
import { prefixes, type TaskContext } from "./task-layer.ts";
import { queueName } from "./task-queue.ts";
import type { Tasks } from "./tasks.ts";

/** How often queues without tasks are looked for, in ms. */
const QUEUE_SWEEP_MS = 600_000;
/** Queues that one transaction looks at. */
const QUEUE_BATCH_MAX = 50;

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
  return [
    due,
    passJob("drop empty queues", store, QUEUE_SWEEP_MS, (after) => dropEmptyQueues(store, after)),
    expiredRowsJob(store),
    ...(retentionDays === undefined ? [] : retentionJobs(store, tasks, retentionDays)),
  ];
}

/** A queue that holds nothing would cost every claim a look for good. The next task of its kind makes it anew. */
export async function dropEmptyQueues(store: Store, after?: string): Promise<string | undefined> {
  return taskQueues.dropEmpty(store, {
    after,
    limit: QUEUE_BATCH_MAX,
    isEmpty: (tx, queue) => tx.scan(prefixRange(prefixes.readyIn(queueName(queue)), 1)).length === 0,
  });
}
