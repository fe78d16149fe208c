import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type DelegationCaps, resolveDelegations } from "../src/tally/index.ts";
import { electorate, evenly } from "./tally-support.ts";

const CAPS: DelegationCaps = { depthMax: 5, weightMax: 100 };

/** "0>1 1>2": v0 delegates to v1, v1 to v2. */
function resolve(text: string, cast: readonly number[], weights: readonly number[], caps: Partial<DelegationCaps> = {}) {
  const delegations = new Map(
    text.split(" ").flatMap((pair): [string, string][] => {
      const [from, to] = pair.split(">");
      return from && to ? [[`v${from}`, `v${to}`]] : [];
    }),
  );
  const result = resolveDelegations(delegations, electorate(weights), new Set(cast.map((at) => `v${at}`)), { ...CAPS, ...caps });
  return {
    weights: [...result.electorate.eligible.values()],
    carried: Object.fromEntries(result.carried),
    uncarried: Object.fromEntries(result.uncarried),
    abstaining: result.abstaining,
  };
}

describe("delegated votes", () => {
  test("a delegated weight goes to the first on its way who votes", () => {
    verifies("VOTE-11");
    expect(resolve("0>1 1>2", [2], [1, 2, 3])).toEqual({
      weights: [0, 0, 6],
      carried: { v0: "v2", v1: "v2" },
      uncarried: {},
      abstaining: [],
    });
    expect(resolve("0>1 1>2", [1, 2], [1, 2, 3])).toMatchObject({ weights: [0, 3, 3], carried: { v0: "v1" } });
  });

  test("an own ballot overrides one's delegation", () => {
    verifies("VOTE-11");
    expect(resolve("0>1", [0, 1], [1, 1])).toMatchObject({ weights: [1, 1], carried: {} });
  });

  test("a cycle abstains, and so does whoever leads into it", () => {
    verifies("VOTE-11");
    const cycle = resolve("0>1 1>2 2>1 3>4", [4], [1, 1, 1, 1, 1]);
    expect(cycle).toEqual({
      weights: [1, 1, 1, 0, 2],
      carried: { v3: "v4" },
      uncarried: { v0: "cycle", v1: "cycle", v2: "cycle" },
      abstaining: ["v0", "v1", "v2"],
    });
    expect(resolve("0>0", [], [1])).toMatchObject({ abstaining: ["v0"] });
    // a vote inside the circle breaks it
    expect(resolve("0>1 1>2 2>1", [1], [1, 1, 1])).toMatchObject({ weights: [0, 3, 0], abstaining: [] });
  });

  test("a chain beyond the cap on depth abstains", () => {
    verifies("VOTE-11");
    expect(resolve("0>1 1>2 2>3", [3], [1, 1, 1, 1], { depthMax: 2 })).toEqual({
      weights: [1, 0, 0, 3],
      carried: { v1: "v3", v2: "v3" },
      uncarried: { v0: "too_deep" },
      abstaining: ["v0"],
    });
  });

  test("beyond the cap on weight the nearest are carried, equals by their ids, each whole; the rest abstain", () => {
    verifies("VOTE-11");
    expect(resolve("3>0 2>0 1>2", [0], [2, 1, 1, 1], { weightMax: 4 })).toEqual({
      weights: [4, 1, 0, 0],
      carried: { v2: "v0", v3: "v0" },
      uncarried: { v1: "over_weight" },
      abstaining: ["v1"],
    });
    // a heavy one that does not fit leaves room for a light one
    expect(resolve("1>0 2>0", [0], [2, 5, 1], { weightMax: 4 })).toMatchObject({ weights: [3, 5, 0], abstaining: ["v1"] });
    // an own weight above the cap always counts
    expect(resolve("1>0", [0], [9, 1], { weightMax: 4 })).toMatchObject({ weights: [9, 1], abstaining: ["v1"] });
  });

  test("a delegation to who neither votes nor delegates, or may not vote, is no vote", () => {
    verifies("VOTE-11");
    expect(resolve("0>1", [], [1, 1])).toEqual({ weights: [1, 1], carried: {}, uncarried: { v0: "no_ballot" }, abstaining: [] });
    expect(resolve("0>7", [], [1, 1])).toMatchObject({ uncarried: { v0: "no_ballot" } });
    expect(resolve("7>0", [0], [1, 1])).toMatchObject({ weights: [1, 1], carried: {} });
  });

  test("no weight is made or lost, nobody is above the cap by others' weight, and the order of voters does not matter", () => {
    verifies("VOTE-11");
    const count = 8;
    const voter = fc.integer({ min: 0, max: count });
    fc.assert(
      fc.property(
        fc.array(voter, { minLength: count, maxLength: count }),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: count, maxLength: count }),
        fc.uniqueArray(fc.nat(count - 1)),
        fc.record({ depthMax: fc.integer({ min: 1, max: 4 }), weightMax: fc.integer({ min: 1, max: 12 }) }),
        fc.shuffledSubarray([...Array(count).keys()], { minLength: count, maxLength: count }),
        (targets, weights, voted, caps, order) => {
          // 8 is nobody: no delegation
          const delegations = new Map(
            targets.flatMap((to, from): [string, string][] => (to < count ? [[`v${from}`, `v${to}`]] : [])),
          );
          const cast = new Set(voted.map((at) => `v${at}`));
          const own = electorate(weights);
          const result = resolveDelegations(delegations, own, cast, caps);
          const sum = (numbers: Iterable<number>) => [...numbers].reduce((all, number) => all + number, 0);
          const after = result.electorate.eligible;
          expect(sum(after.values())).toBe(sum(weights));
          for (const [name, weight] of after) {
            const before = own.eligible.get(name) ?? 0;
            expect(weight).toBeLessThanOrEqual(Math.max(before, caps.weightMax));
            if (!cast.has(name)) expect([0, before]).toContain(weight);
            else expect(weight).toBeGreaterThanOrEqual(before);
          }
          for (const [from, by] of result.carried) {
            expect(cast.has(by) && !cast.has(from)).toBe(true);
            let [at, depth] = [from, 0];
            while (at !== by && depth <= caps.depthMax) [at, depth] = [delegations.get(at) ?? "", depth + 1];
            expect(depth).toBeLessThanOrEqual(caps.depthMax);
          }
          const shuffled = new Map(order.map((at) => [`v${at}`, weights[at] ?? 0]));
          const again = resolveDelegations(delegations, { eligible: shuffled }, cast, caps);
          expect(new Map([...again.carried].sort())).toEqual(new Map([...result.carried].sort()));
          expect(again.abstaining).toEqual(result.abstaining);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("ten thousand delegations in one chain take a few steps each", () => {
    verifies("VOTE-11");
    const count = 10_000;
    const names = Array.from({ length: count }, (_, at) => `v${at}`);
    const delegations = new Map(names.slice(1).map((name, at) => [name, `v${at}`]));
    let reads = 0;
    const counted = { get: (name: string) => delegations.get(name), has: (name: string) => delegations.has(name) };
    const spy = new Proxy(delegations, {
      get(_, member) {
        reads += 1;
        return member === "get" ? counted.get : counted.has;
      },
    });
    const { carried, abstaining } = resolveDelegations(spy, evenly(count), new Set(["v0"]), CAPS);
    expect([carried.size, abstaining.length]).toEqual([CAPS.depthMax, count - 1 - CAPS.depthMax]);
    expect(reads).toBeLessThan(count * (CAPS.depthMax + 2));
  });
});
