/** What happens to executions by itself, in the background of every process; whichever comes first does it. */
import { type DueEntry, dueJob, type MaintenanceJob, passJob } from "@mcp-swarm/coordination";
import { prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import { CHUNKS_MAX, chunkKey, pendingArtifacts } from "./artifact-layer.ts";
import { endNow, inExecutions } from "./execution-groups.ts";
import { deadlines, type ExecutionContext, type ExecutionTransaction, idOf, later, leases, prefixes } from "./execution-layer.ts";
import { loseRun } from "./execution-lifecycle.ts";
import { type ExecutionQueue, executionQueues, queueName } from "./execution-queue.ts";
import { forgetEnded } from "./execution-retention.ts";

/** Executions that one transaction handles of those whose lease, deadline or back-off is over. */
const DUE_BATCH_MAX = 50;
/** How often queues are looked at whose environment is gone, in ms, and executions that one transaction ends then. */
const GONE_EVERY_MS = 5_000;
const GONE_BATCH_MAX = 100;
/** How often queues that hold nothing are looked for, in ms, and how many one transaction looks at. */
const QUEUE_SWEEP_MS = 600_000;
const QUEUE_BATCH_MAX = 50;
const RETENTION_EVERY_MS = 600_000;
const DAY_MS = 24 * 3_600_000;

export interface ExecutionJobsOptions {
  readonly store: Store;
  readonly context: ExecutionContext;
  /** `SWARM_RETENTION_DAYS`; what ended stays for good when absent. */
  readonly retentionDays?: number | undefined;
}

/** Jobs for `Maintenance`. Leases, deadlines and back-offs are kept to the second. */
export function executionJobs({ store, context, retentionDays }: ExecutionJobsOptions): MaintenanceJob[] {
  const due = (name: string, index: typeof leases, handle: (executions: ExecutionTransaction, entry: DueEntry) => void) =>
    dueJob({
      name,
      store,
      index,
      limit: DUE_BATCH_MAX,
      handle: (tx, entry) => inExecutions(tx, context, (executions) => handle(executions, entry)),
    });
  return [
    due("end leases of runs", leases, leaseOver),
    due("queue runs again", later, backoffOver),
    due("expire what waited too long", deadlines, waitedTooLong),
    dueJob({ name: "forget files that nothing refers to", store, index: pendingArtifacts, limit: 1, handle: forgetPending }),
    passJob("end what waits for an environment that is gone", store, GONE_EVERY_MS, () => endGone(store, context)),
    passJob("drop empty queues of executions", store, QUEUE_SWEEP_MS, (after) =>
      executionQueues.dropEmpty(store, { after, limit: QUEUE_BATCH_MAX, isEmpty }),
    ),
    ...(retentionDays === undefined
      ? []
      : [
          passJob("forget old executions", store, RETENTION_EVERY_MS, async (after) => {
            return (await forgetEnded(store, context, { olderThanMs: retentionDays * DAY_MS, after })).after;
          }),
        ]),
  ];
}

/** The worker that held it did not renew its lease. */
function leaseOver(executions: ExecutionTransaction, { id }: DueEntry): void {
  const record = executions.find(id);
  if (record?.status === "running" && (record.worker?.leaseExpiresAt ?? 0) <= executions.now) {
    loseRun(executions, record, "worker_lost");
  }
}

function backoffOver(executions: ExecutionTransaction, { id }: DueEntry): void {
  const record = executions.find(id);
  if (record?.status === "queued" && record.dueAt !== undefined) executions.change(record, { dueAt: undefined });
}

function waitedTooLong(executions: ExecutionTransaction, { id }: DueEntry): void {
  const record = executions.find(id);
  if (record?.status === "queued") endNow(executions, record, { status: "expired" });
}

/** The process that wrote its rows ended before it wrote what they belong to. */
function forgetPending(tx: Transaction, { id }: DueEntry): void {
  for (let at = 0; at < CHUNKS_MAX; at++) tx.delete(chunkKey(id, at));
}

function isEmpty(tx: Transaction, queue: ExecutionQueue): boolean {
  return tx.scan(prefixRange(prefixes.readyIn(queueName(queue)), 1)).length === 0;
}

/** Fails what waits in queues whose environment was deleted or changed: nobody will ever take it. */
async function endGone(store: Store, context: ExecutionContext): Promise<undefined> {
  const { queues } = await executionQueues.read(store);
  if (queues.length === 0) return undefined;
  const names = [...new Set(queues.map(({ environment }) => context.environments.keyOf(environment)))];
  const rows = await store.getMany(names);
  const read = new Map(names.map((name, at) => [name, rows[at]]));
  const isGone = (tx: Pick<Transaction, "get">, { environment, version }: ExecutionQueue) =>
    context.environments.find(tx, environment)?.version !== version;
  for (const queue of queues) {
    if (!isGone({ get: (key) => read.get(key) }, queue)) continue;
    for (let ended = GONE_BATCH_MAX; ended === GONE_BATCH_MAX; ) {
      ended = await store.transact((tx) =>
        inExecutions(tx, context, (executions) => {
          if (!isGone(tx, queue)) return 0;
          const waiting = tx.scan(prefixRange(prefixes.readyIn(queueName(queue)), GONE_BATCH_MAX)).map(idOf);
          for (const id of waiting) {
            const record = executions.find(id);
            if (record?.status === "queued") endNow(executions, record, { status: "failed", failure: "environment_gone" });
          }
          return waiting.length;
        }),
      );
    }
  }
  return undefined;
}
