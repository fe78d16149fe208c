/** Tasks as they are given to a workflow: their ids are local to it, and stored behind the workflow's own. */
import { checkGraph } from "@mcp-swarm/coordination";
import { type FailurePolicy, type StoredTask, type StoredWorkflow, taskKey } from "@mcp-swarm/coordination/tasks";
import { ID_MAX, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type NewTask, ROLLBACK_SUFFIX, specOf, type TaskSpec } from "./new-task.ts";
import { add } from "./task-adding.ts";
import { prefixes, type TaskTransaction } from "./task-layer.ts";
import { queueName, queueOf } from "./task-queue.ts";
import { checkTaskId, TASKS_PER_CALL_MAX } from "./task-record.ts";
import { becauseOf, putCut } from "./workflow-layer.ts";

export interface NewMembers {
  readonly tasks: readonly NewTask[];
  /** Task → tasks that must be done before it, besides those that it names itself; ids of the workflow or of older tasks. */
  readonly dependencies?: { readonly [taskId: string]: readonly string[] } | undefined;
}

/** Tasks with their stored ids. Dependencies outside of the call are as given. */
export interface Members {
  readonly workflowId: string;
  readonly specs: readonly TaskSpec[];
}

function memberId(workflowId: string, localId: string): string {
  const id = `${workflowId}.${checkTaskId(localId)}`;
  if (id.length <= ID_MAX && !localId.endsWith(ROLLBACK_SUFFIX)) return id;
  throw new SwarmError("invalid_argument", `The id ${localId} cannot be used in a workflow.`, {
    hint: `Use up to ${ID_MAX - workflowId.length - 1} characters, and another ending than ${ROLLBACK_SUFFIX}.`,
  });
}

/** @throws SwarmError invalid_argument naming the field, the id or the cycle */
export function membersOf(workflowId: string, given: NewMembers, random: Random): Members {
  const { tasks, dependencies = {} } = given;
  if (tasks.length < 1 || tasks.length > TASKS_PER_CALL_MAX) {
    throw new SwarmError("invalid_argument", `A call adds 1 to ${TASKS_PER_CALL_MAX} tasks.`, {
      hint: "Add the others with add_tasks and workflowId, before the workflow is started.",
    });
  }
  const named = tasks.map((task) => ({ ...task, id: task.id ?? newId("task", random) }));
  const local = new Set(named.map(({ id }) => id));
  const stray = Object.keys(dependencies).find((id) => !local.has(id));
  if (stray !== undefined) {
    throw new SwarmError("invalid_argument", `dependencies name task ${checkTaskId(stray)}, which is not among the tasks.`, {
      hint: "Its members are ids of tasks of this call. Nothing was added.",
    });
  }
  const stored = (id: string) => (local.has(id) ? memberId(workflowId, id) : checkTaskId(id));
  const specs = named.map((task) => {
    const more = Object.hasOwn(dependencies, task.id) ? (dependencies[task.id] ?? []) : [];
    return specOf({ ...task, id: stored(task.id), dependencies: [...(task.dependencies ?? []), ...more].map(stored) }, "");
  });
  checkGraph(specs);
  return { workflowId, specs };
}

/** What adding them reads, for an engine that fetches ahead. */
export function membersRead({ workflowId, specs }: Members): string[] {
  const own = new Set(specs.map(({ id }) => id));
  const outside = new Set(specs.flatMap(({ dependencies }) => dependencies.filter((id) => !own.has(id))));
  const queues = new Set(specs.map((spec) => `${prefixes.queues}${queueName(queueOf(spec))}`));
  return [
    ...[...own, ...outside, ...specs.flatMap(({ rollback }) => rollback?.id ?? [])].map(taskKey),
    ...[...outside]
      .map((id) => `${workflowId}.${id}`)
      .filter(fits)
      .map(taskKey),
    ...queues,
  ];
}

function fits(id: string): boolean {
  return id.length <= ID_MAX;
}

/**
 * Adds tasks to a workflow that has not ended. A dependency that is not of the call is the workflow's task of that name when
 * there is one, else the task with that id.
 * @throws SwarmError as `add`, and invalid_argument for a rollback that would never run
 */
export function addMembers(
  tasks: TaskTransaction,
  workflow: Pick<StoredWorkflow, "id" | "onFailure">,
  { specs }: Members,
  { sequence, by }: { sequence: string; by: string },
): StoredTask[] {
  const own = new Set(specs.map(({ id }) => id));
  const resolve = (id: string) => {
    const inside = `${workflow.id}.${id}`;
    return !own.has(id) && fits(inside) && tasks.find(inside) ? inside : id;
  };
  for (const spec of specs) checkRollback(tasks, spec, workflow.onFailure);
  const resolved = specs.map((spec) => ({ ...spec, dependencies: [...new Set(spec.dependencies.map(resolve))] }));
  const added = add(tasks, { specs: resolved, sequence, by, workflowId: workflow.id });
  for (const id of new Set(resolved.flatMap(({ dependencies }) => dependencies))) cutWhatCannotRun(tasks, workflow, id);
  return added;
}

/** A new task may depend on one that its workflow has given up. */
function cutWhatCannotRun(tasks: TaskTransaction, workflow: Pick<StoredWorkflow, "id">, dependencyId: string): void {
  const dependency = tasks.find(dependencyId);
  if (dependency?.workflowId !== workflow.id) return;
  if (dependency.status === "failed") putCut(tasks.tx, workflow.id, { id: dependencyId, because: "dependency_failed" });
  if (dependency.status === "cancelled") putCut(tasks.tx, workflow.id, { id: dependencyId, because: becauseOf(dependency) });
}

function checkRollback(tasks: TaskTransaction, { id, rollback }: TaskSpec, onFailure: FailurePolicy): void {
  if (rollback === undefined) return;
  // from here on nobody else can take it (checkFreeId)
  if (tasks.find(rollback.id)) {
    throw new SwarmError("already_exists", `There is a task ${rollback.id} already, which would be the rollback of task ${id}.`, {
      hint: "Choose another id for the task. Nothing was added.",
    });
  }
  if (onFailure === "compensate") return;
  throw new SwarmError("invalid_argument", `Task ${id} has a rollback, which would never run.`, {
    hint: 'Create the workflow with onFailure "compensate", or leave the rollback out. Nothing was added.',
  });
}
