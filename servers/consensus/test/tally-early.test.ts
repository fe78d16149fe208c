/**
 * Early decisions against brute force. A state says for each voter what it has said, 0 for nothing yet; the completions of a state are
 * all states that agree with it where it has said something. Each is tallied, so nothing here knows how the rules decide early.
 */
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type Method, ruleOf, type Settings, type Tally } from "../src/tally/index.ts";
import { ballotsOf, electorate, evenly, ranking, run, type Say, yesNo } from "./tally-support.ts";

const MIXED = "mixed";
const resultOf = ({ outcome, winners }: Tally) => `${outcome} ${winners.join()}`;

interface Exhausted {
  readonly states: number;
  /** States with voters still to come that were decided. */
  readonly early: number;
}

/**
 * `exact`: a state is decided as soon as all its completions agree. Otherwise only never before. Either way what is decided stays so with
 * each further ballot.
 */
function exhaust(settings: Settings, weights: readonly number[], says: readonly Say[], exact = true): Exhausted {
  const voters = electorate(weights);
  const rule = ruleOf(settings);
  rule.check(settings, voters);
  const base = says.length + 1;
  const size = base ** weights.length;
  const digit = (state: number, voter: number) => Math.floor(state / base ** voter) % base;
  const ballots = (state: number) =>
    ballotsOf(weights.map((_, voter) => (digit(state, voter) === 0 ? undefined : says[digit(state, voter) - 1])));
  const known = new Map<number, string>();
  const sure = new Set<number>();
  // downwards, as every completion of a state has a larger number
  let early = 0;
  for (let state = size - 1; state >= 0; state--) {
    let common = resultOf(rule.tally(settings, voters, ballots(state)));
    let open = false;
    let staysSure = true;
    for (const voter of weights.keys()) {
      if (digit(state, voter) > 0) continue;
      open = true;
      for (let say = 1; say < base; say++) {
        if (!sure.has(state + say * base ** voter)) staysSure = false;
        if (known.get(state + say * base ** voter) !== common) common = MIXED;
      }
    }
    known.set(state, common);
    const decided = rule.decided(settings, voters, ballots(state));
    const where = () => `${JSON.stringify(settings)} ${weights.join()} ${JSON.stringify(ballots(state))}`;
    if (decided) {
      sure.add(state);
      if (!staysSure) expect.fail(`decided, and no more after one ballot more: ${where()}`);
      if (resultOf(decided) !== common) expect.fail(`decided ${resultOf(decided)}, completions ${common}: ${where()}`);
      if (open) early += 1;
    } else if (!open || (exact && common !== MIXED)) {
      expect.fail(`not decided, completions ${common}: ${where()}`);
    }
  }
  return { states: size, early };
}

const YES_NO: readonly Say[] = [{ choice: "yes" }, { choice: "no" }, { choice: "abstain" }];
const CHOICES: readonly Say[] = ["A", "B", "C", "abstain"].map((choice) => ({ choice }));
const WEIGHTS = [[1], [1, 1], [1, 1, 1, 1, 1], [3, 1, 1, 2], [5, 2, 2], [1, 4, 2, 3, 1]];
const APPROVALS: readonly Say[] = [
  ...[0, 1, 2, 3, 4, 5, 6, 7].map((set) => ({ scores: { A: set & 1, B: (set >> 1) & 1, C: set >> 2 } })),
  { choice: "abstain" },
];

function* quorums(weights: readonly number[]): Generator<Pick<Settings, "quorum">> {
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  yield {};
  yield { quorum: "1/2" };
  if (all > 1) yield { quorum: all - 1 };
  yield { quorum: all };
}

describe("a vote is decided as soon as its outcome cannot change", () => {
  test.each<Method>(["simple", "absolute", "supermajority", "unanimity"])("%s: exactly when all completions agree", (method) => {
    verifies("VOTE-09");
    let early = 0;
    for (const weights of WEIGHTS) {
      const last = `v${weights.length - 1}`;
      const shapes: Partial<Settings>[] = [
        {},
        { vetoHolders: ["v0"] },
        ...(weights.length > 1 ? [{ vetoHolders: ["v0", last] }] : []),
        ...(method === "simple"
          ? [{ tieBreak: "status_quo" }, { tieBreak: "chair:v0" }, { tieBreak: "chair:v0", vetoHolders: [last] }]
          : []),
        ...(method === "supermajority"
          ? (["cast", "present", "eligible"] as const).flatMap((base) =>
              ["2/3", "3/4", "1/1"].map((threshold) => ({ base, threshold })),
            )
          : []),
        ...(method === "unanimity" ? [{ base: "present" as const }, { base: "eligible" as const }] : []),
      ];
      for (const shape of shapes) {
        for (const quorum of quorums(weights)) {
          early += exhaust({ algorithm: "weighted", method, ...shape, ...quorum }, weights, YES_NO).early;
        }
      }
    }
    expect(early).toBeGreaterThan(100);
  });

  test("the bounds of a simple majority are those that are written down", () => {
    verifies("VOTE-09");
    const settings: Settings = { algorithm: "majority", method: "simple", tieBreak: "status_quo", quorum: 3 };
    const { decided } = ruleOf(settings);
    for (let state = 0; state < 4 ** 6; state++) {
      const text = Array.from({ length: 6 }, (_, voter) => "yna-"[Math.floor(state / 4 ** voter) % 4]).join("");
      const count = (letter: string) => text.split(letter).length - 1;
      const [y, n, a, r] = [count("y"), count("n"), count("a"), count("-")];
      const result = decided(settings, evenly(6), yesNo(text))?.outcome;
      expect([text, result === "accepted"]).toEqual([text, y + n + a >= 3 && y > n + r]);
      // y + n + a + r < Q cannot be while all may vote; that nobody chose is no rejection but says so
      expect([text, result === "rejected"]).toEqual([text, y + n + a >= 3 && y + r <= n && n > 0]);
    }
  });

  test("plurality: exactly when all completions agree, with chair, status quo, quorum and weights", () => {
    verifies("VOTE-09");
    let early = 0;
    for (const weights of WEIGHTS) {
      for (const tieBreak of ["co_winners", "status_quo", "chair:v0"]) {
        for (const quorum of quorums(weights)) {
          const settings: Settings = {
            algorithm: "weighted",
            method: "plurality",
            options: ["A", "B", "C"],
            tieBreak,
            ...quorum,
          };
          early += exhaust(settings, weights, CHOICES).early;
        }
      }
    }
    expect(early).toBeGreaterThan(100);
  });

  test("plurality over yes and no: exactly too", () => {
    verifies("VOTE-09");
    for (const tieBreak of ["co_winners", "status_quo", "chair:v1"]) {
      expect(exhaust({ algorithm: "majority", method: "plurality", tieBreak }, [1, 1, 1, 1], YES_NO).early).toBeGreaterThan(0);
    }
  });

  test("approval: exactly when all completions agree", () => {
    verifies("VOTE-09");
    for (const weights of [
      [1, 1, 1],
      [3, 1, 2],
      [1, 1, 1, 1],
    ]) {
      for (const tieBreak of ["co_winners", "status_quo", "chair:v0"]) {
        const settings: Settings = { algorithm: "weighted", method: "approval", options: ["A", "B", "C"], tieBreak };
        exhaust(settings, weights, APPROVALS);
        exhaust({ ...settings, quorum: "2/3" }, weights, APPROVALS);
      }
    }
    const twoOfThree: Settings = { algorithm: "weighted", method: "approval", options: ["A", "B", "C"] };
    expect(exhaust(twoOfThree, [3, 1, 1], APPROVALS).early).toBeGreaterThan(0);
  });

  test("score: exactly when all completions agree", () => {
    verifies("VOTE-09");
    const scores: Say[] = [{ choice: "abstain" }];
    for (const A of [0, 1, 4, 5]) for (const B of [0, 2, 5]) scores.push({ scores: { A, B } });
    let early = 0;
    for (const weights of [
      [1, 1, 1],
      [3, 1, 1],
    ]) {
      for (const tieBreak of ["co_winners", "status_quo", "chair:v0"]) {
        early += exhaust({ algorithm: "weighted", method: "score", options: ["A", "B"], tieBreak }, weights, scores).early;
      }
    }
    expect(early).toBeGreaterThan(0);
  });

  test.each<Method>(["borda", "instant_runoff", "condorcet", "schulze", "ranked_pairs", "minimax"])(
    "%s: where one option leads by more than all that is left, and never too early",
    (method) => {
      verifies("VOTE-09");
      const says: Say[] = ["ABC", "BCA", "CAB", "A", "CB"].map((text) => ({ ranking: ranking(text) }));
      says.push({ ranking: [["A", "B"], ["C"]] }, { choice: "abstain" });
      const settings: Settings = { algorithm: "weighted", method, options: ["A", "B", "C"] };
      let early = 0;
      for (const weights of [
        [1, 1, 1, 1],
        [3, 1, 1],
        [4, 2, 1],
      ]) {
        for (const quorum of quorums(weights)) early += exhaust({ ...settings, ...quorum }, weights, says, false).early;
      }
      expect(early).toBeGreaterThan(0);
    },
  );

  test("star: where one option leads by more than all that is left, and never too early", () => {
    verifies("VOTE-09");
    // the last two: an option may win all its runoffs and still have too small a sum to be in one
    const says: Say[] = [
      { scores: { A: 5 } },
      { scores: { A: 4, B: 5 } },
      { scores: { A: 5, B: 5 } },
      { scores: { A: 1 } },
      { scores: { B: 5, C: 5 } },
    ];
    let early = 0;
    for (const weights of [
      [1, 1, 1],
      [5, 2, 1],
      [9, 1],
      [4, 1, 1],
    ]) {
      early += exhaust({ algorithm: "weighted", method: "star", options: ["A", "B", "C"] }, weights, says, false).early;
    }
    expect(early).toBeGreaterThan(0);
  });

  test.each<Method>(["linear_pool", "logarithmic_pool"])("%s: waits for the last voter", (method) => {
    verifies("VOTE-09");
    const says: Say[] = [
      { choice: "A", confidence: 900 },
      { choice: "B", confidence: 600 },
      { choice: "C", confidence: 1_000 },
    ];
    expect(exhaust({ algorithm: "majority", method, options: ["A", "B", "C"] }, [1, 1, 1], says, false).early).toBe(0);
  });

  test.each([4, 5, 6, 7])("byzantine among %i: exactly when all completions by honest voters agree", (count) => {
    verifies("VOTE-09", "VOTE-06");
    const voters = evenly(count);
    const settings: Settings = { algorithm: "byzantine" };
    const { decided, tally } = ruleOf(settings);
    // what a voter did: nothing, yes, no, abstain, two different ballots; who has done nothing does not lie later
    const says: Say[] = [...YES_NO, { equivocated: true }];
    const known = new Map<number, string>();
    const base = 5;
    let early = 0;
    for (let state = base ** count - 1; state >= 0; state--) {
      const digits = Array.from({ length: count }, (_, voter) => Math.floor(state / base ** voter) % base);
      const ballots = ballotsOf(digits.map((digit) => says[digit - 1]));
      let common = resultOf(tally(settings, voters, ballots));
      for (const [voter, digit] of digits.entries()) {
        for (const say of digit === 0 ? [1, 2, 3] : []) if (known.get(state + say * base ** voter) !== common) common = MIXED;
      }
      known.set(state, common);
      const result = decided(settings, voters, ballots);
      const found = result ? resultOf(result) : MIXED;
      if (found !== common) expect.fail(`${found} for ${common} among ${count}: ${digits.join()}`);
      if (result && digits.includes(0)) early += 1;
    }
    expect(early).toBeGreaterThan(0);
  });

  test("an early result says that it is one, and what may still have come", () => {
    verifies("VOTE-09");
    const settings: Settings = { algorithm: "majority", quorum: 3 };
    expect(ruleOf(settings).decided(settings, evenly(5), yesNo("yy---"))).toBeUndefined();
    expect(ruleOf(settings).decided(settings, evenly(5), yesNo("yyy--"))?.steps.at(-1)).toEqual({
      rule: "Decided early: no ballot that may still come can change it.",
      counts: { remaining: 2 },
    });
    const all = ruleOf(settings).decided(settings, evenly(3), yesNo("yyy"));
    expect(all).toEqual(run(settings, evenly(3), yesNo("yyy")));
  });

  test("a quorum that recusals have put out of reach is missed at once, under every method", () => {
    verifies("VOTE-09");
    for (const method of ["simple", "plurality", "schulze"] as const) {
      const settings: Settings = {
        algorithm: "majority",
        method,
        quorum: 4,
        ...(method !== "simple" && { options: ["A", "B"] }),
      };
      expect(ruleOf(settings).decided(settings, evenly(3), [])?.outcome).toBe("no_quorum");
    }
  });
});
