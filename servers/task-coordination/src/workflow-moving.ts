/**
 * The tasks of a workflow follow what was decided: chunk by chunk, each a commit of its own that also moves the mark, so that
 * whichever process comes next goes on where another was killed. What a chunk does depends on nothing but the store, and
 * the rules hold before all have followed: a claim reads the workflow itself.
 */

import type { MaintenanceJob } from "@mcp-swarm/coordination";
import {
  hasEnded,
  indexEntry,
  isHeld,
  type StoredTask,
  type StoredWorkflow,
  taskKey,
  taskOf,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { type KeyRange, prefixRange, type Store, type TransactOptions } from "@mcp-swarm/store";
import { swarmScope, tallyKey, workflowScope } from "./tally.ts";
import { fanoutKey, inTasks, prefixes, type TaskContext, type TaskTransaction } from "./task-layer.ts";
import { cancel, hold, revive, SWARM, unhold } from "./task-lifecycle.ts";
import { DEPENDENTS_MAX } from "./task-record.ts";
import {
  becauseOf,
  type Cut,
  failWorkflow,
  findMoving,
  findWorkflow,
  goOnWhenDrained,
  type Moving,
  movingKey,
  putCut,
  workflowPrefixes,
} from "./workflow-layer.ts";
import { hasWorkflowEnded } from "./workflow-record.ts";

/** Most tasks that one commit moves. */
export const MOVED_MAX = 200;
/** Most tasks whose dependents one commit looks for. */
const CUTS_MAX = 20;
/** Most dependents that one commit cuts off: each of them may have dependents of its own to look for. */
const CUT_OFF_MAX = 50;
/** Most workflows that one run of the job moves a chunk of. */
const WORKFLOWS_MAX = 20;
/** Most chunks that one call waits for; the rest is left to the background. */
const CHUNKS_MAX = 1_000;

interface Chunk {
  readonly tasks: TaskTransaction;
  readonly workflow: StoredWorkflow;
  readonly moving: Moving;
}

/** The tasks behind a page of an index, and the last key of it while more may follow. */
function pageOf({ tasks }: Chunk, range: KeyRange): { page: StoredTask[]; after: string | undefined } {
  const entries = tasks.tx.scan(range);
  const page = entries.map((entry) => tasks.get(indexEntry(entry).id));
  return { page, after: entries.length === range.limit ? entries.at(-1)?.key : undefined };
}

function rangeAfter(prefix: string, after: string | undefined): KeyRange {
  return prefixRange(prefix, MOVED_MAX, after === undefined || after === "" ? {} : { after });
}

/** What the workflow cancelled runs again; what then still cannot be done cuts off its dependents anew. */
function reviveSome(chunk: Chunk): void {
  const { tasks, workflow, moving } = chunk;
  const { page, after } = pageOf(chunk, rangeAfter(prefixes.workflow(workflow.id), moving.revive));
  for (const task of page) {
    if (task.status === "failed") {
      if (failWorkflow(tasks, workflow, task).state !== workflow.state) return; // another failure still stands
      putCut(tasks.tx, workflow.id, { id: task.id, because: "dependency_failed" });
    }
    if (task.status !== "cancelled") continue;
    const mended = task.error?.code === "dependency_failed" || task.error?.code === "workflow_failed";
    // where too many wait already, it stays cancelled
    if (mended && task.dependencies.every((id) => tasks.waiting(id) < DEPENDENTS_MAX)) revive(tasks, task);
    else putCut(tasks.tx, workflow.id, { id: task.id, because: becauseOf(task) });
  }
  tasks.tx.put(movingKey(workflow.id), { ...moving, revive: after });
  if (after === undefined) goOnWhenDrained(tasks, workflow);
}

/** Cancels what depends on tasks that will not be done. Answers whether there was any. */
function cutSome({ tasks, workflow }: Chunk): boolean {
  const { tx } = tasks;
  const cuts = tx.scan(prefixRange(workflowPrefixes.cuts(workflow.id), CUTS_MAX));
  let room = CUT_OFF_MAX;
  for (const { key, value } of cuts) {
    const cut = value as Cut;
    const root = tasks.find(cut.id);
    const stands = root?.status === "failed" || root?.status === "cancelled";
    const range = prefixRange(prefixes.dependents(cut.id), room, cut.after === undefined ? {} : { after: cut.after });
    const entries = stands ? tx.scan(range) : [];
    for (const entry of entries) {
      const task = tasks.get(indexEntry(entry).id);
      if (task.workflowId === workflow.id && !hasEnded(task)) cancel(tasks, task, SWARM, { because: cut.because });
    }
    const after = entries.length === room ? entries.at(-1)?.key : undefined;
    if (after === undefined) tx.delete(key);
    else tx.put(key, { ...cut, after });
    room -= entries.length;
    if (room === 0) break;
  }
  return cuts.length > 0;
}

/** Lets go what waited for the workflow alone. Answers whether more may wait. */
function letGoSome(chunk: Chunk): boolean {
  const { page, after } = pageOf(chunk, prefixRange(prefixes.held(chunk.workflow.id), MOVED_MAX));
  for (const task of page) unhold(chunk.tasks, task);
  return after !== undefined;
}

/** Looks at the next open tasks. Answers whether more may follow. */
function passSome(chunk: Chunk, move: (task: StoredTask) => void): boolean {
  const { tasks, workflow, moving } = chunk;
  const { page, after } = pageOf(chunk, rangeAfter(prefixes.workflowOpen(workflow.id), moving.pass));
  for (const task of page) move(task);
  tasks.tx.put(movingKey(workflow.id), { ...moving, pass: after });
  return after !== undefined;
}

/** Nobody asks any more what depends on what. */
function forgetCuts({ tasks, workflow }: Chunk): boolean {
  const cuts = tasks.tx.scan(prefixRange(workflowPrefixes.cuts(workflow.id), MOVED_MAX));
  for (const { key } of cuts) tasks.tx.delete(key);
  return cuts.length === MOVED_MAX;
}

/** One chunk. Answers whether more is to do. */
function move(chunk: Chunk): boolean {
  const { tasks, workflow, moving } = chunk;
  if (hasWorkflowEnded(workflow)) {
    return passSome(chunk, (task) => cancel(tasks, task, SWARM, { because: "workflow_failed" })) || forgetCuts(chunk);
  }
  if (workflow.state === "compensating") {
    const waits = (task: StoredTask) => task.rollbackOf === undefined && !isHeld(task);
    return (
      passSome(chunk, (task) => {
        if (waits(task)) cancel(tasks, task, SWARM, { because: "workflow_failed" });
      }) || forgetCuts(chunk)
    );
  }
  if (moving.revive !== undefined) {
    reviveSome(chunk);
    return true;
  }
  if (cutSome(chunk)) return true;
  if (workflow.state === "running") return letGoSome(chunk);
  if (moving.pass === undefined) return false;
  return passSome(chunk, (task) => {
    if (task.status === "available") hold(tasks, task);
  });
}

/** What a chunk most likely reads, so that an engine across a network need not ask for each. */
async function prefetchOf(store: Store, workflowId: string, context: TaskContext): Promise<TransactOptions> {
  const moving = (await store.get(movingKey(workflowId)))?.value as Moving | undefined;
  const cutRange = prefixRange(workflowPrefixes.cuts(workflowId), CUTS_MAX);
  const cuts = (await store.scan(cutRange)).map(({ value }) => value as Cut);
  const behindCuts = cuts.map(({ id, after }) =>
    prefixRange(prefixes.dependents(id), CUT_OFF_MAX, after === undefined ? {} : { after }),
  );
  const moved =
    moving?.revive === undefined
      ? [rangeAfter(prefixes.workflowOpen(workflowId), moving?.pass), prefixRange(prefixes.held(workflowId), MOVED_MAX)]
      : [rangeAfter(prefixes.workflow(workflowId), moving.revive)];
  const idsIn = async (ranges: readonly KeyRange[]) =>
    (await Promise.all(ranges.map((range) => store.scan(range)))).flat().map((entry) => indexEntry(entry).id);
  const cutOff = (await idsIn(behindCuts)).slice(0, CUT_OFF_MAX);
  const ids = [...new Set([...cuts.map(({ id }) => id), ...cutOff, ...(await idsIn(moved))])];
  const found = (await store.getMany(ids.map(taskKey))).flatMap((entry) => (entry ? [taskOf(entry.value)] : []));
  const dependencies = new Set(found.flatMap((task) => task.dependencies));
  return {
    prefetch: {
      keys: [
        movingKey(workflowId),
        workflowKey(workflowId),
        ...[swarmScope, workflowScope(workflowId)].map((scope) => tallyKey(scope, context.shard)),
        ...ids.map(taskKey),
        ...[...dependencies].flatMap((id) => [taskKey(id), fanoutKey(id)]),
      ],
      // what is cut off may have dependents in turn
      ranges: [cutRange, ...behindCuts, ...moved, ...cutOff.map((id) => prefixRange(prefixes.dependents(id), 1))],
    },
  };
}

/** Moves one chunk of a workflow's tasks. Answers whether more is to do. */
export async function moveChunk(store: Store, context: TaskContext, workflowId: string): Promise<boolean> {
  const options = await prefetchOf(store, workflowId, context);
  return store.transact(
    (tx) =>
      inTasks(tx, context, (tasks) => {
        const moving = findMoving(tx, workflowId);
        if (!moving) return false;
        const workflow = findWorkflow(tx, workflowId);
        const more = workflow !== undefined && move({ tasks, workflow, moving });
        if (!more) tx.delete(movingKey(workflowId));
        return more;
      }),
    options,
  );
}

/** Moves until all tasks have followed. Whatever is in the way is left to the background of some process. */
export async function settle(store: Store, context: TaskContext, workflowId: string): Promise<void> {
  for (let chunks = 0; chunks < CHUNKS_MAX; chunks++) {
    if (!(await moveChunk(store, context, workflowId))) return;
  }
}

/** For `Maintenance`: goes on with what a killed process left, and with what the end of a task began. */
export function workflowJob(store: Store, context: TaskContext): MaintenanceJob {
  return {
    name: "move the tasks of workflows",
    async run() {
      const marks = await store.scan(prefixRange(workflowPrefixes.moving, WORKFLOWS_MAX));
      if (marks.length === 0) return Number.POSITIVE_INFINITY;
      const moved = await Promise.allSettled(marks.map(({ value }) => moveChunk(store, context, (value as Moving).id)));
      const failed = moved.find((outcome) => outcome.status === "rejected");
      if (failed) throw failed.reason;
      return 0;
    },
  };
}
