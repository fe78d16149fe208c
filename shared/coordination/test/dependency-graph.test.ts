import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkGraph, findCycle, type GraphTask, layers } from "../src/dependency-graph.ts";

const graph = fc.integer({ min: 1, max: 12 }).chain((size) =>
  fc.array(fc.uniqueArray(fc.nat(size + 1), { maxLength: 3 }), { minLength: size, maxLength: size }).map((edges) =>
    // ids beyond the size name tasks that were there before
    edges.map((to, at): GraphTask => ({ id: `t${at}`, dependencies: to.filter((one) => one !== at).map((one) => `t${one}`) })),
  ),
);

/** By definition: some task reaches itself. */
function reachesItself(tasks: readonly GraphTask[]): boolean {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  return tasks.some(({ id }) => {
    const seen = new Set<string>();
    const next = [...(byId.get(id)?.dependencies ?? [])];
    for (let at = next.pop(); at !== undefined; at = next.pop()) {
      if (at === id) return true;
      if (seen.has(at)) continue;
      seen.add(at);
      next.push(...(byId.get(at)?.dependencies ?? []));
    }
    return false;
  });
}

test("a cycle is found if and only if there is one, and every arrow of it is a dependency", () => {
  verifies("TASK-03");
  fc.assert(
    fc.property(graph, (tasks) => {
      const cycle = findCycle(tasks);
      expect(cycle !== undefined).toBe(reachesItself(tasks));
      if (!cycle) return;
      expect(cycle[0]).toBe(cycle.at(-1));
      expect(new Set(cycle).size).toBe(cycle.length - 1);
      for (const [at, id] of cycle.slice(0, -1).entries()) {
        expect(tasks.find((task) => task.id === id)?.dependencies).toContain(cycle[at + 1]);
      }
    }),
  );
});

test("layers hold every task once, each behind all that it depends on", () => {
  fc.assert(
    fc.property(
      graph.filter((tasks) => findCycle(tasks) === undefined),
      (tasks) => {
        const order = layers(tasks);
        expect(order.flat().toSorted()).toEqual(tasks.map(({ id }) => id).toSorted());
        const layerOf = new Map(order.flatMap((ids, at) => ids.map((id) => [id, at] as const)));
        for (const { id, dependencies } of tasks) {
          const beneath = dependencies.map((on) => layerOf.get(on) ?? -1);
          expect(layerOf.get(id)).toBe(Math.max(-1, ...beneath) + 1);
        }
      },
    ),
  );
});

test("a long cycle is named by its beginning and its end", () => {
  const tasks = Array.from({ length: 400 }, (_, at) => ({ id: `t${at}`, dependencies: [`t${(at + 1) % 400}`] }));
  expect(() => checkGraph(tasks)).toThrow(/t0 → t1 → .* → … → t0\./);
});

test("an id given twice is named", () => {
  expect(() =>
    checkGraph([
      { id: "a", dependencies: [] },
      { id: "a", dependencies: [] },
    ]),
  ).toThrow(/the id a\./);
});
