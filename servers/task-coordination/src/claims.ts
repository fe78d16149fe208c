/** Claims: who works on what, for how long, and how it ends. */

import {
  HELD_LEASES_MAX,
  type HeldLease,
  type Holdings,
  type KnownQueues,
  type LeaseKeeper,
  RESERVATIONS_PREFIX,
  type ReservationConflict,
  waitFor,
} from "@mcp-swarm/coordination";
import { indexEntry, isHeld, type StoredTask, taskKey, workflowKey } from "@mcp-swarm/coordination/tasks";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { type Entry, prefixRange, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";
import { freeDue, nextDueAt } from "./due-tasks.ts";
import { taskQueues } from "./queue-directory.ts";
import { agentScope, swarmScope, tallyKey, workflowScope } from "./tally.ts";
import { freeFor } from "./task-assignees.ts";
import { extendTaskFiles, filesTaken, reserveTaskFiles } from "./task-files.ts";
import { fanoutKey, inTasks, prefixes, type TaskContext, type TaskTransaction } from "./task-layer.ts";
import { claim, expire, giveBack, hold, leaseIsOver, wake } from "./task-lifecycle.ts";
import { mayTake, type Queue, queueOf, type Worker } from "./task-queue.ts";
import { contextOf, readyPrefix } from "./task-reading.ts";
import { type ContextItem, checkTaskId, type TaskRecord, toTaskRecord } from "./task-record.ts";
import { checkFrom, checkHolder } from "./task-state.ts";
import { applyUpdate, checkUpdate, type UpdateTask } from "./task-update.ts";
import type { WorkerSlots } from "./worker-slots.ts";
import { workflowOfId } from "./workflow-record.ts";

/** Most available tasks that one attempt looks at when those in front may not be claimed now. */
const LOOKED_AT_MAX = 32;
/** A waiting worker looks again at least so often: reservations end without a commit that wakes. */
const LOOK_AGAIN_MS = 5_000;
/** Most times that one call tidies what stands in the way and looks again. */
const ROUNDS_MAX = 16;
/** Longest lease without a process that renews it, in ms. */
export const REMOTE_LEASE_MS_MAX = 24 * 3_600_000;
/** Under a task's key, behind its queue and rank: its place and its id. */
const SHARED_SEGMENTS = 2;

export type ClaimAnswer = {
  readonly task: TaskRecord;
  readonly fencingToken: number;
  readonly leaseExpiresAt: number;
  readonly context: readonly ContextItem[];
};

export interface ClaimTask {
  readonly taskId: string;
  readonly workerId?: string | undefined;
  readonly workerSlot?: number | undefined;
}

export interface ClaimNext {
  readonly workerId?: string | undefined;
  readonly workerSlot?: number | undefined;
  readonly capabilities?: readonly string[] | undefined;
  readonly type?: string | undefined;
  readonly workflowId?: string | undefined;
}

export interface Waiting {
  /** 0 to WAIT_MS_MAX. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((waitedMs: number) => void) | undefined;
}

export interface RenewTask {
  readonly taskId: string;
  readonly workerId?: string | undefined;
  readonly fencingToken?: number | undefined;
}

export interface ClaimsOptions {
  context: TaskContext;
  clock: Clock;
  keeper: LeaseKeeper;
  slots: WorkerSlots;
  /** `SWARM_LEASE_MS`: of callers with a process, which renews. */
  leaseMs: number;
  /** Of callers without one, for tasks without timeoutMs. */
  remoteLeaseMs: number;
}

/** What this process remembers of a claim it made. */
interface Made {
  readonly agentId: string;
  readonly token: number;
  /** When, by the engine's clock. */
  readonly at: number;
}

/** Most claims that a process remembers; the oldest are forgotten first. */
const REMEMBERED_MAX = 10_000;

/** `tidy`: tasks in front whose workflow does not run. `changed`: the queues are not what this process remembers. */
type Next = { readonly task: TaskRecord | null; readonly tidy: readonly string[]; readonly changed: boolean };

export class Claims {
  readonly #options: ClaimsOptions;
  readonly #holdings: Holdings;
  /**
   * Claims made through this process, the latest last. One that was lost stays, so that a late write without a token is
   * refused even when the same agent holds the task again through another process.
   */
  readonly #made = new Map<string, Made>();
  /** Where the last task came from: most likely where the next comes from. */
  #lastPrefix: string | undefined;
  #queues: KnownQueues<Queue> | undefined;

  constructor(options: ClaimsOptions) {
    this.#options = options;
    this.#holdings = options.keeper.keep({
      name: "claims",
      renew: (tx, lease, expiresAt) => this.#renewHeld(tx, lease, expiresAt),
      release: (tx, lease) =>
        this.#inTasks(tx, (tasks) => {
          const task = this.#stillHeld(tasks, lease);
          if (task?.claim) giveBack(tasks, task, task.claim.by, undefined);
        }),
    });
  }

  /**
   * @throws SwarmError conflict (held by another: who, until when), failed_precondition (not claimable, or assigned to another
   *   who is alive), not_found
   */
  async claimTask(call: Call, input: ClaimTask): Promise<ClaimAnswer> {
    const taskId = checkTaskId(input.taskId);
    const agentId = speakAs(call.caller, input.workerId);
    this.#checkRoom();
    const record = await call.transact(
      (tx): TaskRecord =>
        this.#inTasks(tx, (tasks) => {
          let task = tasks.get(taskId);
          if (leaseIsOver(tasks, task)) task = expire(tasks, task);
          if (task.status === "delayed" && (task.dueAt ?? 0) <= tasks.now) task = wake(tasks, task);
          if (isHeld(task) && task.claim) throw heldBy(task.id, task.claim);
          checkFrom(task, "claimed");
          task = freeFor(tasks, task, agentId);
          if (!this.#mayRun(tasks, task)) {
            throw new SwarmError("failed_precondition", `The workflow ${task.workflowId} of task ${task.id} does not run.`, {
              hint: "get_workflow_status tells why; execute_workflow or resume_workflow lets its tasks be claimed.",
            });
          }
          const outcome = this.#claim(tasks, task, call, agentId, input.workerSlot);
          if ("conflict" in outcome) throw filesTaken(task.id, outcome.conflict);
          return outcome.claimed;
        }),
      { prefetch: { keys: [taskKey(taskId), ...this.#tallyKeys(), ...this.#workflowKeys(workflowOfId(taskId))] } },
    );
    return this.#claimed(call, agentId, record);
  }

  /** Undefined when there is nothing for this worker, or nothing came within `waiting.waitMs`. */
  async claimNext(call: Call, input: ClaimNext, waiting: Waiting = { waitMs: 0 }): Promise<ClaimAnswer | undefined> {
    const agentId = speakAs(call.caller, input.workerId);
    const worker: Worker = { agentId, capabilities: input.capabilities, type: input.type };
    let looked = false;
    this.#checkRoom();
    const record = await waitFor({
      store: call.store,
      clock: this.#options.clock,
      // files that are freed may be what a task waited for
      prefixes: [prefixes.ready, RESERVATIONS_PREFIX],
      ...waiting,
      attempt: async () => {
        // of many that are woken most find nothing: they look before they take part in writing
        const look = looked;
        looked = true;
        if (!look || (await this.#mayFind(call.store, worker, input.workflowId))) {
          const task = await this.#tryNext(call, input, worker);
          if (task) return { value: task };
        }
        if (waiting.waitMs === 0) return {};
        const dueAt = await nextDueAt(call.store);
        return {
          againInMs: Math.max(0, Math.min((dueAt ?? Number.POSITIVE_INFINITY) - (await call.store.now()), LOOK_AGAIN_MS)),
        };
      },
    });
    if (record && waiting.signal?.aborted) {
      await this.#giveUp(call.store, record);
      waiting.signal.throwIfAborted();
    }
    if (!record) return undefined;
    this.#lastPrefix = readyPrefix(queueOf(record), input.workflowId);
    return this.#claimed(call, agentId, record);
  }

  /**
   * Moves the end of the lease as far as it was at the claim, and never past the task's timeoutMs.
   * @throws SwarmError failed_precondition when the caller does not hold the task (any more)
   */
  async renew(call: Call, input: RenewTask): Promise<{ task: TaskRecord; fencingToken: number; leaseExpiresAt: number }> {
    const taskId = checkTaskId(input.taskId);
    const agentId = speakAs(call.caller, input.workerId);
    const token = this.#tokenOf(taskId, agentId, input.fencingToken);
    const record = await call.transact(
      (tx): TaskRecord =>
        this.#inTasks(tx, (tasks) => {
          const task = tasks.get(taskId);
          checkHolder(task, agentId, token);
          const renewed = this.#extend(tasks, task, tasks.now + (task.claim?.leaseMs ?? 0));
          const slot = task.claim?.workerSlot;
          if (slot !== undefined) this.#options.slots.prolong(tx, slot, agentId);
          if (renewed) return toTaskRecord(renewed, tasks.now);
          throw new SwarmError("failed_precondition", `The claim on task ${taskId} cannot be renewed.`, {
            hint: "The timeoutMs of this attempt is up, or its lease ran out and another reserved its files. Give it back with a checkpoint.",
          });
        }),
      { prefetch: { keys: [taskKey(taskId)] } },
    );
    return { task: record, fencingToken: record.fencingToken, leaseExpiresAt: record.leaseExpiresAt ?? record.createdAt };
  }

  /**
   * What the holder of a task says of it.
   * @throws SwarmError failed_precondition when the caller does not hold it or its token is stale, invalid_argument, not_found
   */
  async update(call: Call, input: UpdateTask): Promise<{ task: TaskRecord }> {
    const taskId = checkTaskId(input.taskId);
    checkUpdate(input);
    const agentId = speakAs(call.caller, input.workerId);
    const token = this.#tokenOf(taskId, agentId, input.fencingToken);
    const task = await call.transact(
      (tx): TaskRecord =>
        this.#inTasks(tx, (tasks) => {
          const task = tasks.get(taskId);
          checkHolder(task, agentId, token);
          return toTaskRecord(applyUpdate(tasks, task, agentId, input), tasks.now);
        }),
      {
        prefetch: {
          keys: [
            ...[taskKey(taskId), fanoutKey(taskId), ...this.#tallyKeys(agentId)],
            ...this.#workflowKeys(workflowOfId(taskId)),
          ],
          ranges: input.status === "done" ? [prefixRange(prefixes.dependents(taskId), SCAN_LIMIT_MAX)] : [],
        },
      },
    );
    if (!isHeld(task)) this.#holdings.drop(taskId, task.fencingToken);
    return { task };
  }

  /** What this process holds and renews. */
  held(): readonly HeldLease[] {
    return this.#holdings.list();
  }

  /** A claim that was made while its call was cancelled reaches nobody: the task is free at once. */
  async #giveUp(store: Store, { id, fencingToken: token }: TaskRecord): Promise<void> {
    await store.transact((tx) =>
      this.#inTasks(tx, (tasks) => {
        const task = this.#stillHeld(tasks, { id, token });
        if (task?.claim) giveBack(tasks, task, task.claim.by, undefined);
      }),
    );
  }

  /** Before a claim is made, so that none is made that this process could not renew. */
  #checkRoom(): void {
    if (this.#holdings.list().length < HELD_LEASES_MAX) return;
    throw new SwarmError("limit_exceeded", `One server process holds at most ${HELD_LEASES_MAX} tasks.`, {
      hint: "Finish or give back some of them first.",
    });
  }

  /** Whether anything is available for this worker, or due to be. */
  async #mayFind(store: Store, worker: Worker, workflowId: string | undefined): Promise<boolean> {
    this.#queues = await taskQueues.read(store);
    for (const queue of this.#queues.queues) {
      if (!mayTake(worker, queue)) continue;
      if ((await store.scan(prefixRange(readyPrefix(queue, workflowId), 1))).length > 0) return true;
    }
    const dueAt = await nextDueAt(store);
    return dueAt !== undefined && dueAt <= (await store.now());
  }

  async #tryNext(call: Call, input: ClaimNext, worker: Worker): Promise<TaskRecord | undefined> {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const known = this.#queues;
      const first = this.#lastPrefix;
      const next = await call.transact((tx): Next => this.#pickNext(tx, call, worker, input, { known, first }), {
        prefetch: {
          keys: [taskQueues.versionKey, ...this.#tallyKeys(), ...this.#workflowKeys(input.workflowId)],
          ranges: known ? [] : [taskQueues.all],
        },
      });
      if (next.changed) this.#queues = await taskQueues.read(call.store);
      if (next.task) return next.task;
      // what stands in the way is put right in transactions of its own: a plan that found nothing writes nothing
      if (next.tidy.length > 0) await this.#putBack(call.store, next.tidy);
      else if ((await freeDue(call.store, this.#options.context)) === 0) return undefined;
    }
    return undefined;
  }

  #pickNext(
    tx: Transaction,
    call: Call,
    worker: Worker,
    input: ClaimNext,
    { known, first }: { known: KnownQueues<Queue> | undefined; first: string | undefined },
  ): Next {
    const tidy: string[] = [];
    const heads: { prefix: string; entry: Entry }[] = [];
    const head = (prefix: string) => tx.pick(prefixRange(prefix, 1), SHARED_SEGMENTS);
    // asked before all else, so that an engine across a network fetches it and what it leads to along with the hints
    const firstHead = first === undefined ? undefined : head(first);
    const { queues, changed } = taskQueues.in(tx, known);
    for (const queue of queues) {
      if (!mayTake(worker, queue)) continue;
      const prefix = readyPrefix(queue, input.workflowId);
      const entry = prefix === first ? firstHead : head(prefix);
      if (entry) heads.push({ prefix, entry });
    }
    for (let looked = 0; looked < LOOKED_AT_MAX; looked++) {
      const best = heads.reduce<(typeof heads)[number] | undefined>((a, b) => (a && place(a) <= place(b) ? a : b), undefined);
      if (!best) break;
      const claimed = this.#inTasks(tx, (tasks) => {
        const task = tasks.get(indexEntry(best.entry).id);
        if (this.#mayRun(tasks, task)) {
          const outcome = this.#claim(tasks, task, call, worker.agentId, input.workerSlot);
          return "claimed" in outcome ? outcome.claimed : undefined; // its files are taken: the next one
        }
        tidy.push(task.id);
        return undefined;
      });
      if (claimed) return { task: claimed, tidy: [], changed };
      const [following] = tx.scan(prefixRange(best.prefix, 1, { after: best.entry.key }));
      if (following) best.entry = following;
      else heads.splice(heads.indexOf(best), 1);
    }
    return { task: null, tidy, changed };
  }

  /** Available tasks whose workflow does not run leave the queues. */
  async #putBack(store: Store, ids: readonly string[]): Promise<void> {
    await store.transact((tx) =>
      this.#inTasks(tx, (tasks) => {
        for (const id of ids) {
          const task = tasks.find(id);
          if (task?.status === "available" && !this.#mayRun(tasks, task)) hold(tasks, task);
        }
      }),
    );
  }

  #mayRun(tasks: TaskTransaction, task: StoredTask): boolean {
    const { workflowId, rollbackOf } = task;
    return workflowId === undefined || tasks.workflows.runs(tasks.tx, { workflowId, rollbackOf });
  }

  /** The claimed task, or whose reservation of its files is in the way; then nothing was written. */
  #claim(
    tasks: TaskTransaction,
    task: StoredTask,
    call: Call,
    agentId: string,
    workerSlot: number | undefined,
  ): { claimed: TaskRecord } | { conflict: ReservationConflict } {
    const { processId } = call.caller;
    const { remoteLeaseMs } = this.#options;
    const leaseMs =
      processId === undefined ? Math.min(task.timeoutMs ?? remoteLeaseMs, REMOTE_LEASE_MS_MAX) : this.#options.leaseMs;
    const conflict = reserveTaskFiles(tasks.tx, task, {
      holder: agentId,
      fencingToken: task.fencingToken + 1,
      expiresAt: tasks.now + Math.min(leaseMs, task.timeoutMs ?? leaseMs),
    });
    if (conflict) return { conflict };
    if (workerSlot !== undefined) this.#options.slots.use(tasks.tx, workerSlot, agentId);
    return { claimed: toTaskRecord(claim(tasks, task, { agentId, processId, workerSlot, leaseMs }), tasks.now) };
  }

  async #claimed(call: Call, agentId: string, task: TaskRecord): Promise<ClaimAnswer> {
    if (call.caller.processId !== undefined) {
      const { id, fencingToken: token, claimedAt: at = 0, timeoutMs } = task;
      const made = this.#made.get(id);
      // the answer to a repeated call may be of a claim that was followed by another
      if (!made || made.at < at || (made.at === at && made.token <= token)) {
        this.#remember(id, { agentId, token, at });
        await this.#hold(call.store, task, { id, token, ...(timeoutMs === undefined ? {} : { deadlineAt: at + timeoutMs }) });
      }
    }
    return {
      task,
      fencingToken: task.fencingToken,
      leaseExpiresAt: task.leaseExpiresAt ?? task.createdAt,
      context: await contextOf(call.store, task),
    };
  }

  /** A process that is about to end takes no claim with it. */
  async #hold(store: Store, task: TaskRecord, lease: HeldLease): Promise<void> {
    try {
      this.#holdings.hold(lease);
    } catch (error) {
      await this.#giveUp(store, task);
      throw error;
    }
  }

  /** The token a caller gives, else the one of the claim that it made through this process. */
  #tokenOf(taskId: string, agentId: string, given: number | undefined): number | undefined {
    const remembered = this.#made.get(taskId);
    return given ?? (remembered?.agentId === agentId ? remembered.token : undefined);
  }

  #remember(taskId: string, made: Made): void {
    this.#made.delete(taskId);
    this.#made.set(taskId, made);
    if (this.#made.size <= REMEMBERED_MAX) return;
    for (const oldest of this.#made.keys()) {
      this.#made.delete(oldest);
      return;
    }
  }

  #stillHeld(tasks: TaskTransaction, lease: HeldLease): StoredTask | undefined {
    const task = tasks.find(lease.id);
    return task && isHeld(task) && task.fencingToken === lease.token ? task : undefined;
  }

  #renewHeld(tx: Transaction, lease: HeldLease, expiresAt: number): boolean {
    return this.#inTasks(tx, (tasks) => {
      const task = this.#stillHeld(tasks, lease);
      return task !== undefined && this.#extend(tasks, task, expiresAt) !== undefined;
    });
  }

  /** A lease that ended unnoticed is the holder's still while nobody took the task or its files; undefined when it is over. */
  #extend(tasks: TaskTransaction, task: StoredTask, expiresAt: number): StoredTask | undefined {
    const endAt = task.timeoutMs === undefined ? expiresAt : Math.min(expiresAt, (task.claim?.at ?? 0) + task.timeoutMs);
    if (endAt <= tasks.now) return undefined;
    const leaseExpiresAt = Math.max(endAt, task.claim?.leaseExpiresAt ?? 0);
    return extendTaskFiles(tasks.tx, task, leaseExpiresAt) ? tasks.renew(task, leaseExpiresAt) : undefined;
  }

  #inTasks<T>(tx: Transaction, work: (tasks: TaskTransaction) => T): T {
    return inTasks(tx, this.#options.context, work);
  }

  #tallyKeys(agentId?: string): string[] {
    const { shard } = this.#options.context;
    const scopes = agentId === undefined ? [swarmScope] : [swarmScope, agentScope(agentId)];
    return scopes.map((scope) => tallyKey(scope, shard));
  }

  /** What a change of a workflow's task reads besides it. */
  #workflowKeys(workflowId: string | undefined): string[] {
    const { shard } = this.#options.context;
    return workflowId === undefined ? [] : [workflowKey(workflowId), tallyKey(workflowScope(workflowId), shard)];
  }
}

function place({ prefix, entry }: { prefix: string; entry: Entry }): string {
  return entry.key.slice(prefix.length);
}

function heldBy(taskId: string, { by, leaseExpiresAt }: { by: string; leaseExpiresAt: number }): SwarmError {
  const until = new Date(leaseExpiresAt).toISOString();
  return new SwarmError("conflict", `Task ${taskId} is held by ${by} until ${until}, or longer if it renews its lease.`, {
    hint: "Take another task with claim_next_task.",
  });
}
