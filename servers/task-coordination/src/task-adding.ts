/** Adding tasks within one transaction: all of them or none. */
import { layers, sequenceAt } from "@mcp-swarm/coordination";
import type { StoredTask } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { prefixRange } from "@mcp-swarm/store";
import type { TaskSpec } from "./new-task.ts";
import { prefixes, type TaskTransaction } from "./task-layer.ts";
import { placement } from "./task-lifecycle.ts";
import { QUEUES_MAX, queueName, queueOf } from "./task-queue.ts";
import { DEPENDENTS_MAX } from "./task-record.ts";

export interface Adding {
  /** Their graph was checked: no id twice, no cycle. */
  readonly specs: readonly TaskSpec[];
  /** From `SequenceSource.next()`, made outside the plan. */
  readonly sequence: string;
  readonly by: string;
  readonly workflowId?: string | undefined;
}

/** Digits for the place of a task among those of one call. */
const PLACE_DIGITS = 4;

/**
 * Within `add`, dependencies may be tasks of the same call or older ones.
 * @throws SwarmError already_exists, invalid_argument (an unknown dependency, named), limit_exceeded
 */
export function add(tasks: TaskTransaction, { specs, sequence, by, workflowId }: Adding): StoredTask[] {
  for (const { id } of specs) {
    if (!tasks.find(id)) continue;
    throw new SwarmError("already_exists", `There is a task ${id} already.`, {
      hint: "Choose another id, leave id out to get a fresh one, or look at the task with get_task.",
    });
  }
  checkQueues(tasks, specs);
  return insert(tasks, { specs, sequence, by, workflowId });
}

/** `add` for what cannot be refused any more: the ids are free, and a queue too many is bearable. */
export function insert(tasks: TaskTransaction, { specs, sequence, by, workflowId }: Adding): StoredTask[] {
  const added = new Map(specs.map((spec) => [spec.id, spec]));
  const depths = depthsOf(tasks, specs);
  return specs.map((spec, place) => {
    const open = spec.dependencies.filter((id) => {
      if (added.has(id)) return true;
      const dependency = tasks.find(id);
      if (dependency) return dependency.status !== "done";
      throw new SwarmError("invalid_argument", `Task ${spec.id} depends on task ${id}, which there is not.`, {
        hint: "Add that task first or in the same call, or take the dependency out. Nothing was added.",
      });
    });
    const depth = depths.get(spec.id) ?? 0;
    const task: StoredTask = {
      ...spec,
      ...(workflowId === undefined ? {} : { workflowId }),
      ...(depth === 0 ? {} : { depth }),
      ...placement(tasks, { open, workflowId, rollbackOf: spec.rollbackOf }, { dueAt: spec.notBeforeAt }),
      createdAt: tasks.now,
      createdBy: by,
      open,
      attempt: 0,
      fencingToken: 0,
      history: [],
      historyDropped: 0,
      seq: sequenceAt(tasks.now, sequence + place.toString(36).padStart(PLACE_DIGITS, "0")),
    };
    const first = { at: tasks.now, by, event: "added", to: task.status, attempt: 0 } as const;
    const inserted = { ...task, history: [first] };
    tasks.insert(inserted);
    for (const id of open) {
      if (tasks.waiting(id) <= DEPENDENTS_MAX) continue;
      throw new SwarmError("limit_exceeded", `More than ${DEPENDENTS_MAX} open tasks would wait for task ${id}.`, {
        hint: "Put a task between: let it wait for that one, and the others for it. Nothing was added.",
      });
    }
    return inserted;
  });
}

/** How long the longest chain of dependencies beneath each task is. */
function depthsOf(tasks: TaskTransaction, specs: readonly TaskSpec[]): Map<string, number> {
  const depths = new Map<string, number>();
  const byId = new Map(specs.map((spec) => [spec.id, spec]));
  for (const layer of layers(specs)) {
    for (const id of layer) {
      const beneath = byId.get(id)?.dependencies ?? [];
      depths.set(id, Math.max(0, ...beneath.map((on) => 1 + (depths.get(on) ?? tasks.find(on)?.depth ?? 0))));
    }
  }
  return depths;
}

/** A new queue costs every claim a look, so there are only so many; what is in one already always finds its place. */
function checkQueues(tasks: TaskTransaction, specs: readonly TaskSpec[]): void {
  const names = new Set(specs.map((spec) => queueName(queueOf(spec))));
  const fresh = [...names].filter((name) => !tasks.tx.get(`${prefixes.queues}${name}`));
  if (fresh.length === 0) return;
  const known = tasks.tx.scan(prefixRange(prefixes.queues, QUEUES_MAX)).length;
  if (known + fresh.length <= QUEUES_MAX) return;
  throw new SwarmError("limit_exceeded", `There are ${known} combinations of type and required capabilities already.`, {
    hint: `Use a type and capabilities that other tasks have; at most ${QUEUES_MAX} combinations may be in use. Nothing was added.`,
  });
}
