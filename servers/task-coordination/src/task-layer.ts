/**
 * Tasks as ordered keys. A record is the truth; every index is made from it and kept in the same transaction, so that no
 * operation looks at more tasks than it is about.
 *
 * | key | value | why |
 * |---|---|---|
 * | `task/<id>` | StoredTask, as `keepTask` writes it | the truth; `@mcp-swarm/coordination/tasks`, since other servers read it |
 * | `task-ready/<queue>/<rank>/<seq>/<id>` | IndexEntry | available, in the order of claiming |
 * | `task-wready/<workflow's queue>/<rank>/<seq>/<id>` | IndexEntry | the same within one workflow |
 * | `task-live/lease/<lease end>/<id>` | LeaseEntry | claimed and working, by the end of the lease; what an agent holds: held-tasks.ts |
 * | `task-delay/<due>/<id>` | IndexEntry | delayed |
 * | `task-blocked/<seq>/<id>` | IndexEntry | blocked |
 * | `task-ended/<status>/<end>/<id>` | IndexEntry | done, failed, cancelled, by their end |
 * | `task-held/<workflow>/<seq>/<id>` | IndexEntry | blocked by nothing but its workflow, which does not run |
 * | `task-dependents/<dependency>/<id>` | IndexEntry | open tasks that depend on another, done or not |
 * | `task-live/fanout/<dependency>` | number | how many open tasks still wait for it |
 * | `task-deadline/<deadline>/<id>` | IndexEntry | open tasks with a deadline |
 * | `task-all/<seq>/<id>` | IndexEntry | all, in order of creation |
 * | `task-workflow/<workflow>/<seq>/<id>` | IndexEntry | those of a workflow, in order of creation |
 * | `task-assigned/<agent>/<id>` | IndexEntry | open tasks assigned to an agent |
 * | `task-assignee/<agent>` | Assignee | agents to whom something was assigned; goes once they are dead and have nothing |
 * | `workflow-open/<workflow>/<id>` | IndexEntry | open tasks of a workflow: it ends with the last of them |
 * | `workflow-failed/<workflow>/<id>` | IndexEntry | failed tasks of a workflow |
 * | `workflow-undo/<workflow>/<end>/<depth>/<id>` | IndexEntry | done tasks with a rollback, in the order of their end |
 *
 * Each task is in exactly one of ready, lease, delay, blocked and ended. Queues: queue-directory.ts. Counts and run times: tally.ts.
 *
 * Under `task-live/` is what nearly every claim and every completion writes, leases and counts, and what every completion looks
 * up in vain unless tasks wait. These rows are few and short, so most of such a commit's rows share a page of an engine that
 * writes pages. Nobody scans `task-live/` as a whole: an engine that locks what was scanned would make all claims wait.
 */
import {
  hasEnded,
  type IndexEntry,
  indexEntry,
  isHeld,
  keepTask,
  type LeaseEntry,
  type StoredTask,
  type TaskChange,
  type TaskEvent,
  type TaskStatus,
  taskKey,
  taskOf,
  taskPrefixes,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { assert, SwarmError } from "@mcp-swarm/core";
import { ordered, prefixRange, segment, type Transaction } from "@mcp-swarm/store";
import { taskQueues } from "./queue-directory.ts";
import { agentScope, type Scope, swarmScope, TallyChanges, type TallyEvent, workflowScope } from "./tally.ts";
import { releaseTaskFiles } from "./task-files.ts";
import { queueName, queueOf, rankOf } from "./task-queue.ts";
import { cutText, DEPENDENTS_MAX, HISTORY_MAX, HISTORY_NOTE_CHARS } from "./task-record.ts";
import { allows, checkFrom } from "./task-state.ts";

export const prefixes = {
  ...taskPrefixes,
  ready: "task-ready/",
  readyIn: (queue: string) => `task-ready/${queue}/`,
  workflowReadyIn: (queue: string) => `task-wready/${queue}/`,
  queues: taskQueues.prefix,
  delayed: "task-delay/",
  blocked: "task-blocked/",
  ended: (status: "done" | "failed" | "cancelled") => `task-ended/${status}/`,
  held: (workflowId: string) => `task-held/${segment(workflowId)}/`,
  deadlines: "task-deadline/",
  all: "task-all/",
  workflowFailed: (workflowId: string) => `workflow-failed/${segment(workflowId)}/`,
  workflowUndo: (workflowId: string) => `workflow-undo/${segment(workflowId)}/`,
  assignees: "task-assignee/",
} as const;

export type Assignee = { readonly agentId: string };

export const assigneeKey = (agentId: string): string => `${prefixes.assignees}${segment(agentId)}`;
export const fanoutKey = (id: string): string => `task-live/fanout/${segment(id)}`;

/** Digits for the depth of a task; larger workflows than these count do not fit a store. */
const DEPTH_DIGITS = 8;

/** What of a task its workflow must know to say whether it may run. */
export type WorkflowMember = { readonly workflowId: string; readonly rollbackOf?: string | undefined };

/** Tasks of one workflow that moved in one transaction. */
export interface MovedTasks {
  /** Reached done, failed or cancelled. */
  readonly ended: readonly StoredTask[];
  /** Were held and wait again. */
  readonly returned: readonly StoredTask[];
}

/** What the tasks need to know of workflows; the workflows' own file provides it. */
export interface WorkflowRules {
  /** Whether this task of a workflow may be claimed now. Reads `workflowKey(id)` only. */
  runs(tx: Transaction, task: WorkflowMember): boolean;
  /** Told at the end of the transaction; it may end more tasks, of which it is told in turn. */
  tasksMoved(tasks: TaskTransaction, workflowId: string, moved: MovedTasks): void;
  /** A task is about to be reset. @throws SwarmError failed_precondition when its workflow cannot go on with it */
  taskReset(tasks: TaskTransaction, task: StoredTask): void;
}

/** What a process brings to every transaction on tasks. */
export interface TaskContext {
  /** Which shard of the counts this process adds to: 0 to TALLY_SHARDS - 1. */
  readonly shard: number;
  readonly workflows: WorkflowRules;
}

/** Tasks that end in the same ms are told apart by their depth: what depends on another ended after it. */
function undoKey(task: StoredTask, workflowId: string): string {
  assert(task.endedAt !== undefined, "a done task has an end");
  const depth = String(task.depth ?? 0).padStart(DEPTH_DIGITS, "0");
  return `${prefixes.workflowUndo(workflowId)}${ordered(task.endedAt)}/${depth}/${segment(task.id)}`;
}

/** All index keys of a record but those of `open` dependencies, which are counted too. */
function indexKeys(task: StoredTask): string[] {
  const id = segment(task.id);
  const place = `${task.seq}/${id}`;
  const keys = [`${prefixes.all}${place}`];
  if (task.workflowId !== undefined) {
    keys.push(`${prefixes.workflow(task.workflowId)}${place}`);
    if (!hasEnded(task)) keys.push(`${prefixes.workflowOpen(task.workflowId)}${id}`);
    if (task.status === "failed") keys.push(`${prefixes.workflowFailed(task.workflowId)}${id}`);
    if (task.status === "done" && task.rollback !== undefined) keys.push(undoKey(task, task.workflowId));
  }
  if (!hasEnded(task)) {
    if (task.deadlineAt !== undefined) keys.push(`${prefixes.deadlines}${ordered(task.deadlineAt)}/${id}`);
    for (const dependency of task.dependencies) keys.push(`${prefixes.dependents(dependency)}${id}`);
    if (task.assignedTo !== undefined) keys.push(`${prefixes.assigned(task.assignedTo)}${id}`);
  }
  switch (task.status) {
    case "blocked":
      keys.push(`${prefixes.blocked}${place}`);
      if (task.held && task.workflowId !== undefined) keys.push(`${prefixes.held(task.workflowId)}${place}`);
      break;
    case "delayed":
      assert(task.dueAt !== undefined, "a delayed task has a time");
      keys.push(`${prefixes.delayed}${ordered(task.dueAt)}/${id}`);
      break;
    case "available": {
      assert(task.readyAt !== undefined, "an available task knows since when");
      const queue = queueOf(task);
      const rest = `${rankOf(task, task.readyAt)}/${place}`;
      keys.push(`${prefixes.readyIn(queueName(queue))}${rest}`);
      if (task.workflowId !== undefined) {
        keys.push(`${prefixes.workflowReadyIn(queueName(queue, task.workflowId))}${rest}`);
      }
      break;
    }
    case "claimed":
    case "working":
      assert(task.claim !== undefined, "a held task has a claim");
      keys.push(`${prefixes.leases}${ordered(task.claim.leaseExpiresAt)}/${id}`);
      break;
    default:
      assert(task.endedAt !== undefined, "an ended task has an end");
      keys.push(`${prefixes.ended(task.status)}${ordered(task.endedAt)}/${id}`);
  }
  return keys;
}

/** Indexes that are read outside transactions only, before their tasks are: nobody follows refs there. */
const WITHOUT_REFS = /^task-(all|ended|workflow)\//;

/** What an index key of a task holds. */
function entryAt(key: string, task: StoredTask): IndexEntry | LeaseEntry {
  const { id, workflowId, claim } = task;
  if (WITHOUT_REFS.test(key)) return { id };
  const refs = workflowId === undefined ? [taskKey(id)] : [taskKey(id), workflowKey(workflowId)];
  return claim !== undefined && key.startsWith(prefixes.leases) ? { id, by: claim.by, refs } : { id, refs };
}

export interface ChangeNote {
  readonly event: Exclude<TaskEvent, "added">;
  readonly by: string;
  readonly note?: string | undefined;
}

/** What a change may set; everything else of a record stays as it was added. */
export type TaskPatch = Partial<
  Pick<
    StoredTask,
    | "status"
    | "open"
    | "assignedTo"
    | "attempt"
    | "fencingToken"
    | "claim"
    | "progress"
    | "checkpoint"
    | "output"
    | "error"
    | "startedAt"
    | "endedAt"
    | "readyAt"
    | "dueAt"
    | "held"
  >
>;

/** Tasks within one transaction. Made by `inTasks`, which writes the counts at the end. */
export class TaskTransaction {
  readonly tx: Transaction;
  readonly now: number;
  readonly workflows: WorkflowRules;
  readonly #known = new Map<string, StoredTask | undefined>();
  readonly #tally = new TallyChanges();
  readonly #fanout = new Map<string, number>();
  #moved = new Map<string, { ended: StoredTask[]; returned: StoredTask[] }>();

  constructor(tx: Transaction, context: TaskContext) {
    this.tx = tx;
    this.now = tx.now;
    this.workflows = context.workflows;
  }

  find(id: string): StoredTask | undefined {
    if (this.#known.has(id)) return this.#known.get(id);
    const entry = this.tx.get(taskKey(id));
    const task = entry && taskOf(entry.value);
    this.#known.set(id, task);
    return task;
  }

  /** @throws SwarmError not_found */
  get(id: string): StoredTask {
    const task = this.find(id);
    if (task) return task;
    throw new SwarmError("not_found", `There is no task ${id}.`, { hint: "get_all_tasks lists the ids." });
  }

  /** Writes a new record and its indexes. The caller checked that the id is free and the dependencies are there. */
  insert(task: StoredTask): void {
    this.#write(undefined, task);
    this.count(task, "added");
  }

  /** Applies a change that the state table allows, remembers it in the history, and keeps every index. */
  change(task: StoredTask, patch: TaskPatch, { event, by, note }: ChangeNote): StoredTask {
    checkFrom(task, event);
    const status = patch.status ?? task.status;
    assert(allows(event, task.status, status), `${event} does not lead from ${task.status} to ${status}`);
    const entry: TaskChange = {
      at: this.now,
      by,
      event,
      from: task.status,
      to: status,
      attempt: patch.attempt ?? task.attempt,
      ...(note === undefined ? {} : { note: cutText(note, HISTORY_NOTE_CHARS) }),
    };
    const history = [...task.history, entry];
    const dropped = Math.max(0, history.length - HISTORY_MAX);
    const changed: StoredTask = {
      ...task,
      ...patch,
      history: history.slice(dropped),
      historyDropped: task.historyDropped + dropped,
    };
    this.#write(task, changed);
    return changed;
  }

  /** Moves the end of a holder's lease; the history does not tell of it. */
  renew(task: StoredTask, leaseExpiresAt: number): StoredTask {
    assert(task.claim !== undefined && isHeld(task), "only a held task is renewed");
    const renewed: StoredTask = { ...task, claim: { ...task.claim, leaseExpiresAt } };
    this.#write(task, renewed);
    return renewed;
  }

  /** One of several open dependencies is done; the history tells of the last one only. */
  narrow(task: StoredTask, open: readonly string[]): void {
    assert(task.status === "blocked" && open.length > 0, "a task that waits for nothing is not blocked");
    this.#write(task, { ...task, open });
  }

  /** Removes an ended task with all that leads to it. */
  remove(task: StoredTask): void {
    assert(hasEnded(task), "only an ended task is removed");
    for (const key of indexKeys(task)) this.tx.delete(key);
    this.tx.delete(taskKey(task.id));
    this.#known.set(task.id, undefined);
    this.#tally.moved(this.#scopes(task), task.status, undefined);
  }

  /** Open tasks that name this one as a dependency. */
  dependents(id: string, limit: number = DEPENDENTS_MAX): StoredTask[] {
    return this.tx.scan(prefixRange(prefixes.dependents(id), limit)).map((entry) => this.get(indexEntry(entry).id));
  }

  /** Open tasks that still wait for this one, those of this transaction included. */
  waiting(id: string): number {
    return ((this.tx.get(fanoutKey(id))?.value ?? 0) as number) + (this.#fanout.get(id) ?? 0);
  }

  /** @param agentId counts for this agent too */
  count(task: StoredTask, event: TallyEvent, agentId?: string): void {
    this.#tally.happened(this.#scopes(task, agentId), event, this.now);
  }

  countWait(task: StoredTask, durationMs: number): void {
    this.#tally.waited(this.#scopes(task), durationMs);
  }

  countRun(task: StoredTask, agentId: string, durationMs: number): void {
    this.#tally.ran(this.#scopes(task, agentId), durationMs);
    this.#tally.ranType([swarmScope, agentScope(agentId)], task.type, durationMs, this.now);
  }

  /** Tells the workflows what ended, which may end more, and writes what was counted. */
  finish(shard: number): void {
    while (this.#moved.size > 0) {
      const moved = this.#moved;
      this.#moved = new Map();
      for (const [workflowId, tasks] of moved) this.workflows.tasksMoved(this, workflowId, tasks);
    }
    for (const [id, change] of this.#fanout) {
      if (change === 0) continue;
      const waiting = ((this.tx.get(fanoutKey(id))?.value ?? 0) as number) + change;
      if (waiting > 0) this.tx.put(fanoutKey(id), waiting);
      else this.tx.delete(fanoutKey(id));
    }
    this.#tally.write(this.tx, shard);
  }

  #scopes(task: StoredTask, agentId?: string): Scope[] {
    const scopes = [swarmScope];
    // a workflow's counts are of the work it was made for; its rollbacks are counted in its record
    if (task.workflowId !== undefined && task.rollbackOf === undefined) scopes.push(workflowScope(task.workflowId));
    if (agentId !== undefined) scopes.push(agentScope(agentId));
    return scopes;
  }

  #write(before: StoredTask | undefined, after: StoredTask): void {
    const old = new Set(before ? indexKeys(before) : []);
    for (const key of indexKeys(after)) if (!old.delete(key)) this.tx.put(key, entryAt(key, after));
    for (const key of old) this.tx.delete(key);
    const moved = before?.status !== after.status || before.assignedTo !== after.assignedTo;
    if (after.status === "available" && moved) taskQueues.keep(this.tx, queueOf(after));
    this.#noteAssignee(before, after);
    if (before && isHeld(before) && !isHeld(after)) releaseTaskFiles(this.tx, before);
    this.#fan(before, after);
    this.#tally.moved(this.#scopes(after), before?.status, after.status);
    this.tx.put(taskKey(after.id), keepTask(after));
    this.#known.set(after.id, after);
    if (before && after.workflowId !== undefined) this.#noteMove(after.workflowId, before, after);
  }

  #noteMove(workflowId: string, before: StoredTask, after: StoredTask): void {
    const ended = !hasEnded(before) && hasEnded(after);
    const returned = isHeld(before) && !isHeld(after) && !hasEnded(after);
    if (!ended && !returned) return;
    const moved = this.#moved.get(workflowId) ?? { ended: [], returned: [] };
    (ended ? moved.ended : moved.returned).push(after);
    this.#moved.set(workflowId, moved);
  }

  #fan(before: StoredTask | undefined, after: StoredTask): void {
    const waited = before && !hasEnded(before) ? before.open : [];
    const waits = hasEnded(after) ? [] : after.open;
    for (const id of waited) if (!waits.includes(id)) this.#fanout.set(id, (this.#fanout.get(id) ?? 0) - 1);
    for (const id of waits) if (!waited.includes(id)) this.#fanout.set(id, (this.#fanout.get(id) ?? 0) + 1);
  }

  #noteAssignee(before: StoredTask | undefined, after: StoredTask): void {
    if (after.assignedTo === undefined || hasEnded(after)) return;
    if (before && !hasEnded(before) && before.assignedTo === after.assignedTo) return;
    const key = assigneeKey(after.assignedTo);
    if (!this.tx.get(key)) this.tx.put(key, { agentId: after.assignedTo } satisfies Assignee);
  }
}

/** Runs `work` on the tasks of a transaction and writes the counts once at its end. */
export function inTasks<T>(tx: Transaction, context: TaskContext, work: (tasks: TaskTransaction) => T): T {
  const tasks = new TaskTransaction(tx, context);
  const result = work(tasks);
  tasks.finish(context.shard);
  return result;
}

/** The status index of each status, for lists; claimed and working share one. */
export function statusPrefix(status: TaskStatus): string {
  switch (status) {
    case "blocked":
      return prefixes.blocked;
    case "delayed":
      return prefixes.delayed;
    case "available":
      return prefixes.ready;
    case "claimed":
    case "working":
      return prefixes.leases;
    default:
      return prefixes.ended(status);
  }
}
