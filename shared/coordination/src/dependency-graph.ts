/** Dependencies among what is added together: tasks of one call, members of a batch. */
import { SwarmError } from "@mcp-swarm/core";

export interface GraphTask {
  readonly id: string;
  readonly dependencies: readonly string[];
}

/** Longest cycle that an error spells out. */
const CYCLE_NAMED_MAX = 10;

/**
 * A cycle among the given tasks as the ids along it, the first one again at its end; undefined when there is none. Tasks that
 * are not given end a path: what was there before cannot depend on what is new.
 */
export function findCycle(tasks: readonly GraphTask[]): string[] | undefined {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const settled = new Set<string>();
  for (const start of tasks) {
    // depth first without recursion: 500 tasks in a chain must not depend on the size of the stack
    const path: { id: string; rest: string[] }[] = [];
    const enter = (id: string) => path.push({ id, rest: [...(byId.get(id)?.dependencies ?? [])] });
    if (!settled.has(start.id)) enter(start.id);
    for (let top = path.at(-1); top; top = path.at(-1)) {
      const next = top.rest.shift();
      if (next === undefined) {
        settled.add(top.id);
        path.pop();
        continue;
      }
      const seen = path.findIndex(({ id }) => id === next);
      if (seen >= 0) return [...path.slice(seen).map(({ id }) => id), next];
      if (byId.has(next) && !settled.has(next)) enter(next);
    }
  }
  return undefined;
}

/** @throws SwarmError invalid_argument naming an id given twice or the cycle */
export function checkGraph(tasks: readonly GraphTask[]): void {
  const seen = new Set<string>();
  for (const { id } of tasks) {
    if (seen.has(id)) throw new SwarmError("invalid_argument", `Two of the tasks have the id ${id}.`);
    seen.add(id);
  }
  const cycle = findCycle(tasks);
  if (!cycle) return;
  const named = cycle.length > CYCLE_NAMED_MAX ? [...cycle.slice(0, CYCLE_NAMED_MAX - 1), "…", cycle.at(-1)] : cycle;
  throw new SwarmError("invalid_argument", `The dependencies go in a circle: ${named.join(" → ")}.`, {
    hint: "Each arrow reads “waits for”. Take one of these dependencies out.",
  });
}

/**
 * What of `ids` each task waits for, in an order in which every task comes after what it waits for; tasks of one layer do not
 * wait for one another. The graph has no cycle.
 */
export function layers(tasks: readonly GraphTask[]): string[][] {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const waits = new Map(tasks.map(({ id, dependencies }) => [id, dependencies.filter((on) => byId.has(on)).length]));
  const dependents = new Map<string, string[]>();
  for (const { id, dependencies } of tasks) {
    for (const on of dependencies) if (byId.has(on)) dependents.set(on, [...(dependents.get(on) ?? []), id]);
  }
  const result: string[][] = [];
  let layer = tasks.filter(({ id }) => waits.get(id) === 0).map(({ id }) => id);
  while (layer.length > 0) {
    result.push(layer);
    const next: string[] = [];
    for (const id of layer) {
      for (const dependent of dependents.get(id) ?? []) {
        const left = (waits.get(dependent) ?? 0) - 1;
        waits.set(dependent, left);
        if (left === 0) next.push(dependent);
      }
    }
    layer = next;
  }
  return result;
}
