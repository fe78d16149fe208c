/** What voting theory says of the methods, on random elections; and elections small enough to count by hand. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type Ballot, type Method, type Settings, type Tally, WEIGHT_MAX } from "../src/tally/index.ts";
import { ROUNDS_SHOWN_MAX } from "../src/tally/instant-runoff.ts";
import { ballotsOf, electorate, evenly, ranked, ranking, run, type Say } from "./tally-support.ts";

const OPTIONS = ["A", "B", "C", "D"];
const RANKED = ["borda", "instant_runoff", "condorcet", "schulze", "ranked_pairs", "minimax"] as const;
const SCORED = ["approval", "score", "star"] as const;
const POOLS = ["linear_pool", "logarithmic_pool"] as const;

/** Ranks of A to D: 0 is best, equal numbers are equal, 4 is left out. */
const ranks = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 4, maxLength: 4 });
function rankingOf(numbers: readonly number[]): Say {
  const levels = [0, 1, 2, 3].map((level) => OPTIONS.filter((_, at) => numbers[at] === level)).filter(({ length }) => length > 0);
  return levels.length > 0 ? { ranking: levels } : { choice: "abstain" };
}
const sayOf: Readonly<Record<"choice" | "ranking" | "scores" | "belief", fc.Arbitrary<Say>>> = {
  choice: fc.constantFrom(...OPTIONS, "abstain").map((choice) => ({ choice })),
  ranking: ranks.map(rankingOf),
  scores: fc.tuple(...OPTIONS.map(() => fc.integer({ min: 0, max: 5 }))).map((given) => ({
    scores: Object.fromEntries(OPTIONS.map((option, at) => [option, given[at] ?? 0])),
  })),
  belief: fc.record({ choice: fc.constantFrom(...OPTIONS), confidence: fc.integer({ min: 0, max: 1_000 }) }),
};
const kindOf = (method: Method) =>
  method === "plurality"
    ? "choice"
    : (POOLS as readonly Method[]).includes(method)
      ? "belief"
      : (SCORED as readonly Method[]).includes(method)
        ? "scores"
        : "ranking";
const ballotSays = (method: Method): fc.Arbitrary<Say[]> => {
  const say = method === "approval" ? sayOf.scores.map(approving) : sayOf[kindOf(method)];
  return fc.array(say, { minLength: 1, maxLength: 9 });
};
function approving({ scores = {} }: Say): Say {
  return { scores: Object.fromEntries(Object.entries(scores).map(([option, points]) => [option, points > 2 ? 1 : 0])) };
}

function elect(method: Method, says: readonly Say[], options: readonly string[] = OPTIONS): Tally {
  return run({ algorithm: "majority", method, options }, evenly(says.length), ballotsOf(says));
}
const winnersOf = (method: Method, says: readonly Say[]) => [...elect(method, says).winners].sort();

/** Row over column, counted without the code under test. */
function duels(says: readonly Say[]): number[][] {
  const level = (say: Say, option: string) => {
    const at = say.ranking?.findIndex((rank) => rank.includes(option)) ?? -1;
    return at < 0 ? OPTIONS.length : at;
  };
  return OPTIONS.map((a) => OPTIONS.map((b) => says.filter((say) => level(say, a) < level(say, b)).length));
}
const beats = (matrix: readonly (readonly number[])[], a: number, b: number) => (matrix[a]?.[b] ?? 0) > (matrix[b]?.[a] ?? 0);

/** The smallest sets first: the first whose members beat everyone outside it. */
function smithSet(matrix: readonly (readonly number[])[]): string[] {
  const sets = Array.from({ length: 15 }, (_, at) => at + 1).map((set) => [0, 1, 2, 3].filter((place) => (set >> place) & 1));
  sets.sort((a, b) => a.length - b.length);
  const smith = sets.find((set) => set.every((a) => [0, 1, 2, 3].every((b) => set.includes(b) || beats(matrix, a, b))));
  return (smith ?? []).map((place) => OPTIONS[place] ?? "");
}

/** Moves one option up by one rank, above everything it was level with. */
function raised(say: Say, option: string): Say {
  const levels = (say.ranking ?? []).map((rank) => rank.filter((name) => name !== option));
  const at = (say.ranking ?? []).findIndex((rank) => rank.includes(option));
  if (at < 0) return { ranking: [...levels, [option]] };
  const alone = say.ranking?.[at]?.length === 1;
  levels.splice(alone ? Math.max(at - 1, 0) : at, 0, [option]);
  return { ranking: levels.filter((rank) => rank.length > 0) };
}

const renaming = (order: readonly string[]) => new Map(OPTIONS.map((option, at) => [option, order[at] ?? ""]));
function renamed(say: Say, names: ReadonlyMap<string, string>): Say {
  const name = (option: string) => names.get(option) ?? option;
  return {
    ...say,
    ...(say.choice !== undefined && { choice: name(say.choice) }),
    ...(say.ranking && { ranking: say.ranking.map((rank) => rank.map(name)) }),
    ...(say.scores && { scores: Object.fromEntries(Object.entries(say.scores).map(([option, score]) => [name(option), score])) }),
  };
}

describe.each<Method>(["plurality", ...SCORED, ...RANKED, ...POOLS])("%s", (method) => {
  test("does not depend on who votes what or in which order (anonymity)", () => {
    verifies("VOTE-07");
    const shuffled = ballotSays(method).chain((says) =>
      fc.tuple(fc.constant(says), fc.shuffledSubarray(says, { minLength: says.length, maxLength: says.length })),
    );
    fc.assert(
      fc.property(shuffled, ([says, others]) => {
        const { outcome, winners, counts, order } = elect(method, says);
        expect(elect(method, others)).toMatchObject({ outcome, winners, counts, ...(order && { order }) });
      }),
    );
  });

  test("treats all options alike, whatever they are called and in which order they were declared (neutrality)", () => {
    verifies("VOTE-07");
    const orders = fc.shuffledSubarray(OPTIONS, { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(ballotSays(method), orders, (says, order) => {
        const names = renaming(order);
        const { outcome, winners } = elect(method, says);
        const other = elect(
          method,
          says.map((say) => renamed(say, names)),
          order,
        );
        expect(other.outcome).toBe(outcome);
        expect([...other.winners].sort()).toEqual(winners.map((winner) => names.get(winner)).sort());
      }),
    );
  });

  test("counts a voter of weight w as w voters", () => {
    verifies("VOTE-05");
    fc.assert(
      fc.property(ballotSays(method), fc.infiniteStream(fc.integer({ min: 1, max: 4 })), (says, stream) => {
        const weights = says.map(() => stream.next().value ?? 1);
        const settings: Settings = { algorithm: "weighted", method, options: OPTIONS };
        const heavy = run(settings, electorate(weights), ballotsOf(says));
        const { outcome, winners, counts } = elect(
          method,
          says.flatMap((say, at) => new Array<Say>(weights[at] ?? 0).fill(say)),
        );
        expect(heavy).toMatchObject({ outcome, winners, counts });
      }),
    );
  });
});

describe("what each method is known for", () => {
  test("whoever wins all duels is elected by Condorcet, Schulze, ranked pairs and minimax, and nobody else", () => {
    verifies("VOTE-07");
    let found = 0;
    fc.assert(
      fc.property(ballotSays("schulze"), (says) => {
        const matrix = duels(says);
        const winner = OPTIONS.filter((_, a) => OPTIONS.every((__, b) => a === b || beats(matrix, a, b)));
        expect(winnersOf("condorcet", says)).toEqual(winner);
        if (winner.length === 0) return;
        found += 1;
        for (const method of ["schulze", "ranked_pairs", "minimax"] as const) expect(winnersOf(method, says)).toEqual(winner);
      }),
      { numRuns: 500 },
    );
    expect(found).toBeGreaterThan(50);
  });

  test.each(["schulze", "ranked_pairs"] as const)("winners of %s are in the Smith set", (method) => {
    verifies("VOTE-07");
    fc.assert(
      fc.property(ballotSays(method), (says) => {
        const smith = smithSet(duels(says));
        for (const winner of winnersOf(method, says)) expect(smith).toContain(winner);
      }),
      { numRuns: 500 },
    );
  });

  test.each(["borda", "schulze", "ranked_pairs", "minimax"] as const)(
    "a sole winner of %s that rises on a ballot wins still",
    (method) => {
      verifies("VOTE-07");
      let rose = 0;
      fc.assert(
        fc.property(ballotSays(method), fc.nat(8), (says, which) => {
          const { outcome, winners } = elect(method, says);
          const [winner = ""] = winners;
          const at = which % says.length;
          fc.pre(outcome === "elected" && says[at]?.choice !== "abstain");
          rose += 1;
          const higher = says.map((say, voter) => (voter === at ? raised(say, winner) : say));
          expect(winnersOf(method, higher)).toContain(winner);
        }),
        { numRuns: 500 },
      );
      expect(rose).toBeGreaterThan(100);
    },
  );

  test.each(["borda", "schulze", "condorcet"] as const)(
    "a sole winner of %s does not win alone when all ballots are turned over",
    (method) => {
      verifies("VOTE-07");
      const complete = fc
        .shuffledSubarray(OPTIONS, { minLength: 4, maxLength: 4 })
        .map((order): Say => ({ ranking: ranking(order.join("")) }));
      fc.assert(
        fc.property(fc.array(complete, { minLength: 1, maxLength: 9 }), (says) => {
          const { outcome, winners } = elect(method, says);
          fc.pre(outcome === "elected");
          expect(
            elect(
              method,
              says.map((say) => ({ ranking: [...(say.ranking ?? [])].reverse() })),
            ).winners,
          ).not.toEqual(winners);
        }),
        { numRuns: 300 },
      );
    },
  );

  test("more than half of the first preferences win an instant run-off", () => {
    verifies("VOTE-07");
    fc.assert(
      fc.property(ballotSays("instant_runoff"), (says) => {
        const winners = winnersOf("instant_runoff", says);
        const chosen = says.filter(({ ranking: levels }) => levels !== undefined);
        for (const option of OPTIONS) {
          const firsts = chosen.filter(({ ranking: levels }) => levels?.[0]?.length === 1 && levels[0][0] === option);
          if (2 * firsts.length > chosen.length) expect(winners).toEqual([option]);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("an instant run-off elects exactly whom some order of leaving elects", () => {
    verifies("VOTE-07");
    /** Leaves one at a time in every order that a tie allows, by fractions in the plainest way. */
    function byHand(says: readonly Say[], left: readonly string[]): Set<string> {
      if (left.length === 1) return new Set(left);
      const share = (option: string) =>
        says.reduce((sum, { ranking: levels = [] }) => {
          const first = levels.map((rank) => rank.filter((name) => left.includes(name))).find(({ length }) => length > 0) ?? [];
          return first.includes(option) ? sum + 12 / first.length : sum; // 12 is divided by 1 to 4
        }, 0);
      const shares = left.map(share);
      if (shares.every((one) => one === 0)) return new Set(left);
      const fewest = Math.min(...shares);
      return new Set(
        left
          .filter((_, at) => shares[at] === fewest)
          .flatMap((out) => [
            ...byHand(
              says,
              left.filter((o) => o !== out),
            ),
          ]),
      );
    }
    fc.assert(
      fc.property(ballotSays("instant_runoff"), (says) => {
        fc.pre(says.some(({ ranking: levels }) => levels));
        expect(winnersOf("instant_runoff", says)).toEqual([...byHand(says, OPTIONS)].sort());
      }),
      { numRuns: 1_000 },
    );
  });

  test("STAR elects whom its runoff elects in every choice of the two highest that equal sums allow", () => {
    verifies("VOTE-07");
    fc.assert(
      fc.property(ballotSays("star"), (says) => {
        const sum = (option: string) => says.reduce((all, { scores }) => all + (scores?.[option] ?? 0), 0);
        const over = (a: string, b: string) => says.filter(({ scores }) => (scores?.[a] ?? 0) > (scores?.[b] ?? 0)).length;
        const expected = new Set<string>();
        for (const a of OPTIONS) {
          for (const b of OPTIONS) {
            const others = OPTIONS.filter((option) => option !== a && option !== b);
            if (a === b || others.some((option) => sum(option) > Math.min(sum(a), sum(b)))) continue;
            const lead = over(a, b) - over(b, a) || sum(a) - sum(b);
            if (lead >= 0) expected.add(a);
            if (lead <= 0) expected.add(b);
          }
        }
        fc.pre(OPTIONS.some((option) => sum(option) > 0));
        expect(winnersOf("star", says)).toEqual([...expected].sort());
      }),
      { numRuns: 500 },
    );
  });

  test("duels of equal strength on one circle are all left out by ranked pairs, and stronger ones stay", () => {
    verifies("VOTE-07");
    // B over C is stronger; A over B and C over A are equal and close the circle together
    const says = ranked([
      [3, ranking("ABC")],
      [3, ranking("BCA")],
      [2, ranking("CAB")],
    ]);
    const tally = run({ algorithm: "majority", method: "ranked_pairs", options: ["A", "B", "C"] }, evenly(8), says);
    expect(tally).toMatchObject({ outcome: "tied", winners: ["A", "B"] });
    expect(tally.steps.find(({ rule }) => rule.startsWith("Left out"))?.matrix).toEqual([
      [0, 5, 0],
      [0, 0, 0],
      [5, 0, 0],
    ]);
  });

  test("Borda: what is left out and what is level shares the average of its places", () => {
    verifies("VOTE-07");
    const tally = elect("borda", [{ ranking: [["A"], ["B", "C"]] }, { ranking: [["D"]] }, { choice: "B" }]);
    // halves: 6, 3, 3, 0 and 2, 2, 2, 6 and 2, 6, 2, 2
    expect(tally).toMatchObject({ counts: { A: 10, B: 11, C: 7, D: 8 }, scale: 2, winners: ["B"] });
    expect(tally.order).toEqual([["B"], ["A"], ["D"], ["C"]]);
  });

  test("approval and score elect nobody where nobody approves of anything", () => {
    verifies("VOTE-07");
    for (const method of ["approval", "score", "star"] as const) {
      expect(elect(method, [{ scores: { A: 0 } }, { scores: { B: 0, C: 0 } }])).toMatchObject({
        outcome: "no_consensus",
        winners: [],
      });
    }
  });

  test("twelve options that tie in every round are settled, and the steps stay few", () => {
    verifies("VOTE-07");
    const options = Array.from({ length: 12 }, (_, at) => `o${at}`);
    const says = options.map(
      (_, at): Say => ({ ranking: [...options.slice(at), ...options.slice(0, at)].map((option) => [option]) }),
    );
    const tally = elect("instant_runoff", says, options);
    expect(tally).toMatchObject({ outcome: "tied", winners: options });
    expect(tally.steps.length).toBeLessThan(ROUNDS_SHOWN_MAX + 4);
    expect(tally.steps.some(({ rule }) => rule.startsWith("More rounds"))).toBe(true);
  });

  test("the largest weights are counted exactly", () => {
    verifies("VOTE-05");
    const count = 10_000;
    const weights = new Array<number>(count).fill(WEIGHT_MAX);
    weights[0] = WEIGHT_MAX - 1;
    const says = weights.map((_, at): Say => ({ choice: at < count / 2 ? "A" : "B", confidence: 500 }));
    const settings: Settings = { algorithm: "weighted", options: ["A", "B"] };
    const ballots = ballotsOf(says);
    const tally = run(settings, electorate(weights), ballots);
    expect(tally).toMatchObject({ winners: ["B"], counts: { A: (count / 2) * WEIGHT_MAX - 1, B: (count / 2) * WEIGHT_MAX } });
    const threshold = { method: "linear_pool" as const, threshold: "1/2" };
    const lean = says.map((say, at) => (at === 1 ? { ...say, confidence: 501 } : say));
    expect(run({ ...settings, ...threshold }, electorate(weights), ballotsOf(lean)).winners).toEqual(["A"]);
    expect(run({ ...settings, ...threshold }, electorate(weights), ballots)).toMatchObject({
      outcome: "tied",
      counts: { A: 500, B: 500 },
    });
  });
});

describe("ties between options", () => {
  test("the chair's ballot decides by its highest among those that tie, and leaves it where it has two", () => {
    verifies("VOTE-04");
    const settings: Settings = { algorithm: "majority", method: "schulze", options: ["A", "B", "C"], tieBreak: "chair:v0" };
    const cycle: Ballot[] = ballotsOf(["BCA", "ABC", "CAB"].map((text): Say => ({ ranking: ranking(text) })));
    const decided = run(settings, evenly(3), cycle);
    expect(decided).toMatchObject({ outcome: "elected", winners: ["B"] });
    expect(decided.steps.at(-1)).toEqual({
      rule: "A tie, and as declared the chair's ballot decides it.",
      options: ["B"],
      voters: ["v0"],
    });
    const level = ballotsOf([{ ranking: [["A", "B"]] }, { ranking: ranking("AB") }, { ranking: ranking("BA") }]);
    expect(run(settings, evenly(3), level)).toMatchObject({ outcome: "tied", winners: ["A", "B"] });
    expect(run({ ...settings, tieBreak: "status_quo" }, evenly(3), cycle)).toMatchObject({ outcome: "rejected", winners: [] });
  });
});
