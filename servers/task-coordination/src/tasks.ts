/** Tasks as a whole: adding, reading, cancelling, resetting, forgetting. */
import { checkGraph, type SequenceSource } from "@mcp-swarm/coordination";
import { indexEntry, type StoredTask, taskKey, workflowKey } from "@mcp-swarm/coordination/tasks";
import { assert, type Json, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { type NewTask, specOf } from "./new-task.ts";
import { swarmScope, tallyKey } from "./tally.ts";
import { add } from "./task-adding.ts";
import { inTasks, prefixes, type TaskContext } from "./task-layer.ts";
import { allDependents, cancel, reset } from "./task-lifecycle.ts";
import { queueName, queueOf } from "./task-queue.ts";
import {
  type AvailableTasks,
  availableTasks,
  getTask,
  type ListTasks,
  listTasks,
  type TaskDetails,
  type TaskPage,
} from "./task-reading.ts";
import { checkTaskId, NOTE_CHARS_MAX, TASKS_PER_CALL_MAX, type TaskRecord, toTaskRecord } from "./task-record.ts";
import { checkFreeId } from "./workflow-layer.ts";
import { workflowOfId } from "./workflow-record.ts";
import { isPast } from "./workflow-retention.ts";

/** Most ended tasks that one sweep looks at. */
const SWEPT_MAX = 500;

export interface TasksOptions {
  context: TaskContext;
  sequence: SequenceSource;
  random: Random;
}

export type AddedTask = Pick<StoredTask, "id" | "status">;

export interface CancelTask {
  readonly taskId: string;
  /** Also all open tasks that wait for it, directly or through others. */
  readonly withDependents?: boolean | undefined;
  readonly reason?: string | undefined;
}

export class Tasks {
  readonly #options: TasksOptions;

  constructor(options: TasksOptions) {
    this.#options = options;
  }

  /** @throws SwarmError already_exists, invalid_argument (field or dependency named), limit_exceeded */
  async add(call: Call, task: NewTask): Promise<{ task: TaskRecord }> {
    const [added] = await this.#add(call, [task], toTaskRecord);
    assert(added, "adding one task answers one");
    return { task: added };
  }

  /**
   * All or none; dependencies may name tasks of the same call. The answer is short, because all of it is remembered with an
   * idempotency key.
   * @throws as `add`; a cycle is named
   */
  async addMany(call: Call, input: { tasks: readonly NewTask[] }): Promise<{ tasks: AddedTask[] }> {
    if (input.tasks.length < 1 || input.tasks.length > TASKS_PER_CALL_MAX) {
      throw new SwarmError("invalid_argument", `A call adds 1 to ${TASKS_PER_CALL_MAX} tasks.`, {
        hint: "Add them in several calls, those without dependencies first.",
      });
    }
    return { tasks: await this.#add(call, input.tasks, ({ id, status }) => ({ id, status })) };
  }

  async #add<T extends Json>(call: Call, given: readonly NewTask[], answer: (task: StoredTask, now: number) => T): Promise<T[]> {
    const { context, random } = this.#options;
    const specs = given.map((task) => specOf(task, newId("task", random)));
    const undone = specs.find(({ rollback }) => rollback !== undefined);
    if (undone) {
      throw new SwarmError("invalid_argument", `Task ${undone.id} has a rollback and no workflow.`, {
        hint: "Rollbacks run when a workflow compensates: name it with workflowId, or leave the rollback out. Nothing was added.",
      });
    }
    checkGraph(specs);
    const sequence = this.#options.sequence.next();
    const by = speakAs(call.caller, undefined);
    const named = new Set(specs.flatMap(({ id, dependencies }) => [id, ...dependencies]));
    const workflows = new Set(specs.flatMap(({ id }) => workflowOfId(id) ?? []).map(workflowKey));
    const queues = new Set(specs.map((spec) => `${prefixes.queues}${queueName(queueOf(spec))}`));
    return call.transact(
      (tx): T[] =>
        inTasks(tx, context, (tasks) => {
          for (const { id } of specs) checkFreeId(tx, id);
          return add(tasks, { specs, sequence, by }).map((task) => answer(task, tasks.now));
        }),
      { prefetch: { keys: [...[...named].map(taskKey), ...workflows, ...queues, tallyKey(swarmScope, context.shard)] } },
    );
  }

  get(call: Pick<Call, "store">, input: { taskId: string }): Promise<TaskDetails> {
    return getTask(call.store, input.taskId);
  }

  list(call: Pick<Call, "store">, filter: ListTasks): Promise<TaskPage> {
    return listTasks(call.store, filter);
  }

  available(
    call: Pick<Call, "store" | "caller">,
    query: Omit<AvailableTasks, "agentId"> & { workerId?: string },
  ): Promise<TaskPage> {
    const { workerId, ...rest } = query;
    return availableTasks(call.store, { ...rest, agentId: speakAs(call.caller, workerId) });
  }

  /**
   * Ends open tasks for good; the holder of one is told at its next write. A failed task may be cancelled too.
   * @throws SwarmError failed_precondition (ended already), not_found, limit_exceeded (too many dependents for one commit)
   */
  async cancel(call: Call, input: CancelTask): Promise<{ task: TaskRecord; cancelled: string[] }> {
    const taskId = checkTaskId(input.taskId);
    const by = speakAs(call.caller, undefined);
    if (input.reason !== undefined && input.reason.length > NOTE_CHARS_MAX) {
      throw new SwarmError("invalid_argument", `reason may have at most ${NOTE_CHARS_MAX} characters.`);
    }
    return call.transact(
      (tx): { task: TaskRecord; cancelled: string[] } =>
        inTasks(tx, this.#options.context, (tasks) => {
          const root = tasks.get(taskId);
          const others = input.withDependents ? allDependents(tasks, taskId) : [];
          const ended = cancel(tasks, root, by, { note: input.reason });
          for (const other of others) cancel(tasks, other, by, { note: `With task ${taskId}.` });
          return { task: toTaskRecord(ended, tasks.now), cancelled: [taskId, ...others.map(({ id }) => id)] };
        }),
      { prefetch: { keys: [taskKey(taskId)] } },
    );
  }

  /**
   * A failed task, or one that a stuck worker holds, is available again with all its attempts; the old holder's token is stale.
   * @throws SwarmError failed_precondition, not_found
   */
  async reset(call: Call, input: { taskId: string }): Promise<{ task: TaskRecord }> {
    const taskId = checkTaskId(input.taskId);
    const by = speakAs(call.caller, undefined);
    const task = await call.transact(
      (tx): TaskRecord =>
        inTasks(tx, this.#options.context, (tasks) => toTaskRecord(reset(tasks, tasks.get(taskId), by), tasks.now)),
      { prefetch: { keys: [taskKey(taskId)] } },
    );
    return { task };
  }

  /**
   * Deletes up to `limit` tasks that ended more than `olderThanMs` ago and that no open task depends on, those of a workflow
   * only when it ended as long ago; answers how many.
   * @param after where to go on, as answered; a task that must stay is passed over once a round
   */
  async sweepEnded(
    store: Store,
    { olderThanMs, limit, after }: { olderThanMs: number; limit: number; after?: string | undefined },
  ): Promise<{ removed: number; after?: string }> {
    const before = (await store.now()) - olderThanMs;
    const range = prefixRange("task-ended/", Math.min(limit, SWEPT_MAX), after === undefined ? {} : { after });
    const entries = await store.scan(range);
    const old = entries.map(indexEntry);
    const removed = await store.transact((tx) =>
      inTasks(tx, this.#options.context, (tasks) => {
        let count = 0;
        for (const { id } of old) {
          const task = tasks.find(id);
          if (!task || !isOld(task, before) || tx.scan(prefixRange(prefixes.dependents(id), 1)).length > 0) continue;
          if (task.workflowId !== undefined && !isPast(tx, task.workflowId, before)) continue;
          tasks.remove(task);
          count++;
        }
        return count;
      }),
    );
    const last = entries.at(-1);
    return last && entries.length === range.limit ? { removed, after: last.key } : { removed };
  }
}

function isOld(task: StoredTask, before: number): boolean {
  const ended = task.status === "done" || task.status === "failed" || task.status === "cancelled";
  return ended && task.endedAt !== undefined && task.endedAt < before;
}
