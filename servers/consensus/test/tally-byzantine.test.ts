import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { byzantineBounds, ruleOf, type Settings } from "../src/tally/index.ts";
import { ballotsOf, evenly, expectRefusal, run, type Say, voterNames } from "./tally-support.ts";

const byzantine: Settings = { algorithm: "byzantine" };
const LETTERS: Readonly<Record<string, Say>> = {
  y: { choice: "yes" },
  n: { choice: "no" },
  a: { choice: "abstain" },
  "!": { equivocated: true },
};
const ballots = (text: string) => ballotsOf([...text].map((letter) => LETTERS[letter]));
// equivocated ballots are found by the server, never cast as such
const tally = (text: string, settings = byzantine) => ruleOf(settings).tally(settings, evenly(text.length), ballots(text));

describe("byzantine votes", () => {
  test.each([
    [4, 1, 3],
    [5, 1, 4],
    [6, 1, 4],
    [7, 2, 5],
    [8, 2, 6],
    [9, 2, 6],
    [10, 3, 7],
    [13, 4, 9],
  ])("among %i voters %i may lie and %i equal ballots decide", (voters, faults, needed) => {
    verifies("VOTE-06");
    expect(byzantineBounds(voters)).toEqual({ faults, needed });
    expect(tally("y".repeat(needed).padEnd(voters, "-"))).toMatchObject({ outcome: "accepted", winners: ["yes"] });
    expect(tally("n".repeat(needed).padEnd(voters, "-"))).toMatchObject({ outcome: "rejected", winners: ["no"] });
    expect(tally("y".repeat(needed - 1).padEnd(voters, "n"))).toMatchObject({ outcome: "no_consensus", winners: [] });
    expect(tally("y".repeat(needed - 1).padEnd(voters, "a"))).toMatchObject({ outcome: "no_consensus" });
  });

  test("two sets of deciding ballots always share an honest voter, and the honest alone can decide", () => {
    verifies("VOTE-06");
    for (let voters = 4; voters <= 10_000; voters++) {
      const { faults, needed } = byzantineBounds(voters);
      if (2 * needed - voters <= faults || voters - faults < needed || voters <= 3 * faults) expect.fail(`${voters}`);
    }
  });

  test("who signed two different ballots is out; more such than may lie leave nothing decided, and it says so", () => {
    verifies("VOTE-06");
    const one = tally("yyy!");
    expect(one).toMatchObject({ outcome: "accepted", turnout: { voted: 4 } });
    expect(one.steps).toContainEqual({
      rule: "Signed two different ballots: none of them counts.",
      voters: ["v3"],
      counts: { voters: 1 },
    });
    expect(tally("yy!-")).toMatchObject({ outcome: "no_consensus" });
    const two = tally("yyyy!!");
    expect(two).toMatchObject({ outcome: "no_consensus", winners: [], counts: { yes: 4 } });
    expect(two.steps.at(-1)?.rule).toBe("More voters lied than the rule can bear: nothing can be decided.");
  });

  test("whatever f liars tell different tallies, no two of them decide differently", () => {
    verifies("VOTE-06");
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 16 }), fc.infiniteStream(fc.constantFrom("y", "n", "a", "-")), (count, says) => {
        const { faults } = byzantineBounds(count);
        const next = () => says.next().value ?? "-";
        const honest = Array.from({ length: count - faults }, next);
        const told = () => [...Array.from({ length: faults }, next), ...honest].join("");
        const outcomes = new Set(
          [told(), told(), "y".repeat(faults) + honest.join(""), "n".repeat(faults) + honest.join("")].map(
            (text) => tally(text).outcome,
          ),
        );
        outcomes.delete("no_consensus");
        expect(outcomes.size).toBeLessThan(2);
      }),
      { numRuns: 1_000 },
    );
  });

  test("over options so many equal ballots elect one", () => {
    verifies("VOTE-06");
    const settings: Settings = { algorithm: "byzantine", options: ["A", "B", "C"] };
    const says = (text: string) => ballotsOf([...text].map((choice) => ({ choice })));
    expect(run(settings, evenly(4), says("BBAB"))).toMatchObject({
      outcome: "elected",
      winners: ["B"],
      counts: { A: 1, B: 3, C: 0 },
    });
    expect(run(settings, evenly(4), says("BBAA"))).toMatchObject({ outcome: "no_consensus" });
  });

  test("heads count, not weights, even when a weight was moved", () => {
    verifies("VOTE-06");
    const eligible = new Map(voterNames(4).map((voter, at) => [voter, at === 0 ? 4 : 0]));
    expect(ruleOf(byzantine).tally(byzantine, { eligible }, ballots("y---"))).toMatchObject({ outcome: "no_consensus" });
  });

  test("takes at least four voters, and no setting that another rule has", () => {
    verifies("VOTE-06");
    const check = (settings: Settings, count: number) => () => ruleOf(settings).check(settings, evenly(count));
    expectRefusal(check(byzantine, 3), "participants");
    expectRefusal(check({ ...byzantine, method: "simple" }, 4), "method");
    expectRefusal(check({ ...byzantine, quorum: 2 }, 4), "quorum");
    expectRefusal(check({ ...byzantine, threshold: "2/3" }, 4), "threshold");
    expectRefusal(check({ ...byzantine, tieBreak: "chair:v0" }, 4), "tieBreak");
    expectRefusal(check({ ...byzantine, vetoHolders: ["v0"] }, 4), "vetoHolders");
    expect(check(byzantine, 4)).not.toThrow();
  });

  test("when recusals leave fewer than four, nothing is decided", () => {
    verifies("VOTE-06");
    expect(tally("yyy")).toMatchObject({ outcome: "no_consensus" });
    expect(ruleOf(byzantine).decided(byzantine, evenly(3), [])).toMatchObject({ outcome: "no_consensus" });
  });
});
