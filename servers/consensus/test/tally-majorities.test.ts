import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Base, Outcome, Settings } from "../src/tally/index.ts";
import { ballotsOf, electorate, evenly, run, type Say, yesNo } from "./tally-support.ts";

const simple: Settings = { algorithm: "majority", method: "simple" };
const outcomeOf = (settings: Settings, text: string): Outcome => run(settings, evenly(text.length), yesNo(text)).outcome;

describe("majorities over yes and no", () => {
  test("a simple majority is more yes than no, whoever abstains or stays away", () => {
    verifies("VOTE-04");
    expect(outcomeOf(simple, "yaaa-")).toBe("accepted");
    expect(outcomeOf(simple, "yn-na")).toBe("rejected");
    expect(outcomeOf({ algorithm: "majority" }, "yyn")).toBe("accepted");
  });

  test("an absolute majority is more than half of all who may vote", () => {
    verifies("VOTE-04");
    const absolute: Settings = { algorithm: "majority", method: "absolute" };
    expect(outcomeOf(absolute, "yyy---")).toBe("no_consensus");
    expect(outcomeOf(absolute, "yyyy--")).toBe("accepted");
    expect(outcomeOf(absolute, "yyy--")).toBe("accepted");
    expect(outcomeOf(absolute, "nnn-y")).toBe("rejected");
    expect(outcomeOf(absolute, "yynn-")).toBe("no_consensus");
  });

  test.each<[Base, string, Outcome]>([
    ["cast", "yyynaaa", "accepted"],
    ["cast", "yyn", "accepted"],
    ["cast", "yynn", "no_consensus"],
    ["cast", "nny-", "rejected"],
    ["present", "yyna", "no_consensus"],
    ["present", "yyyyna", "accepted"],
    ["eligible", "yyyn--", "no_consensus"],
    ["eligible", "yyyy--", "accepted"],
    ["eligible", "nnnny-", "rejected"],
  ])("two thirds of %s: %s is %s", (base, text, outcome) => {
    verifies("VOTE-04");
    expect(outcomeOf({ algorithm: "majority", method: "supermajority", threshold: "2/3", base }, text)).toBe(outcome);
  });

  test("unanimity asks all that said yes or no, or all who may vote", () => {
    verifies("VOTE-04");
    const unanimity: Settings = { algorithm: "majority", method: "unanimity" };
    expect(outcomeOf(unanimity, "yya-")).toBe("accepted");
    expect(outcomeOf(unanimity, "yyyn")).toBe("no_consensus");
    expect(outcomeOf(unanimity, "nnn")).toBe("rejected");
    expect(outcomeOf({ ...unanimity, base: "eligible" }, "yyy-")).toBe("no_consensus");
    expect(outcomeOf({ ...unanimity, base: "eligible" }, "yyyy")).toBe("accepted");
    expect(outcomeOf({ ...unanimity, base: "present" }, "yyya")).toBe("no_consensus");
  });

  test("a quorum counts abstentions, as a number or as a share rounded up", () => {
    verifies("VOTE-04");
    expect(outcomeOf({ ...simple, quorum: 3 }, "yy---")).toBe("no_quorum");
    expect(outcomeOf({ ...simple, quorum: 3 }, "yya--")).toBe("accepted");
    expect(outcomeOf({ ...simple, quorum: "1/2" }, "yy---")).toBe("no_quorum");
    expect(outcomeOf({ ...simple, quorum: "1/2" }, "yya--")).toBe("accepted");
    expect(run({ ...simple, quorum: "1/2" }, evenly(5), []).turnout).toEqual({ eligible: 5, voted: 0, abstained: 0, quorum: 3 });
  });

  test("a veto holder's no ends it where the quorum is met, and their yes or abstention does not", () => {
    verifies("VOTE-04");
    const settings: Settings = { ...simple, vetoHolders: ["v0"], quorum: 3 };
    const vetoed = run(settings, evenly(5), yesNo("nyyyy"));
    expect(vetoed).toMatchObject({ outcome: "vetoed", winners: [] });
    expect(vetoed.steps).toContainEqual({ rule: "A holder of a veto said no.", voters: ["v0"], counts: { voters: 1 } });
    expect(outcomeOf(settings, "ynyyy")).toBe("accepted");
    expect(outcomeOf(settings, "ayy--")).toBe("accepted");
    expect(outcomeOf(settings, "ny---")).toBe("no_quorum");
  });

  test("a tie names both sides, unless the declared chair or the status quo decides it", () => {
    verifies("VOTE-04");
    expect(run(simple, evenly(2), yesNo("yn"))).toMatchObject({ outcome: "tied", winners: ["yes", "no"] });
    expect(run({ ...simple, tieBreak: "status_quo" }, evenly(2), yesNo("yn"))).toMatchObject({
      outcome: "rejected",
      winners: ["no"],
    });
    expect(outcomeOf({ ...simple, tieBreak: "chair:v0" }, "yn")).toBe("accepted");
    expect(outcomeOf({ ...simple, tieBreak: "chair:v1" }, "yn")).toBe("rejected");
    expect(outcomeOf({ ...simple, tieBreak: "chair:v2" }, "yna")).toBe("tied");
    expect(outcomeOf({ ...simple, tieBreak: "chair:v2" }, "yn-")).toBe("tied");
  });

  test("where nobody says yes or no there is no consensus", () => {
    verifies("VOTE-04");
    for (const method of ["simple", "absolute", "supermajority", "unanimity"] as const) {
      for (const text of ["---", "aaa", "a-a"]) expect(outcomeOf({ algorithm: "majority", method }, text)).toBe("no_consensus");
    }
    expect(outcomeOf({ ...simple, tieBreak: "status_quo" }, "aa")).toBe("no_consensus");
  });

  test("plurality elects whom most chose; a tie is broken by the declared chair alone", () => {
    verifies("VOTE-04");
    const settings: Settings = { algorithm: "majority", method: "plurality", options: ["A", "B", "C"] };
    const say = (text: string): Say[] => [...text].map((choice) => ({ choice: choice === "a" ? "abstain" : choice }));
    const tally = (more: Partial<Settings>, text: string) =>
      run({ ...settings, ...more }, evenly(text.length), ballotsOf(say(text)));
    expect(tally({}, "ABBC")).toMatchObject({ outcome: "elected", winners: ["B"], counts: { A: 1, B: 2, C: 1 } });
    expect(tally({}, "CBAa")).toMatchObject({ outcome: "tied", winners: ["A", "B", "C"] });
    expect(tally({ tieBreak: "chair:v1" }, "CBA")).toMatchObject({ outcome: "elected", winners: ["B"] });
    expect(tally({ tieBreak: "chair:v4" }, "CCBBA")).toMatchObject({ outcome: "tied", winners: ["B", "C"] });
    expect(tally({ tieBreak: "status_quo" }, "CBA")).toMatchObject({ outcome: "rejected", winners: [] });
    expect(tally({}, "aaa")).toMatchObject({ outcome: "no_consensus", winners: [] });
  });

  test("weights count instead of heads, in majorities, quorums and bases", () => {
    verifies("VOTE-05");
    const weighted: Settings = { algorithm: "weighted" };
    const voters = electorate([5, 1, 1, 1]);
    expect(run(weighted, voters, yesNo("ynnn"))).toMatchObject({ outcome: "accepted", counts: { yes: 5, no: 3 } });
    expect(run({ ...weighted, method: "absolute" }, voters, yesNo("-yyy")).outcome).toBe("no_consensus");
    expect(run({ ...weighted, quorum: "1/2" }, voters, yesNo("-yyy")).outcome).toBe("no_quorum");
    expect(run({ ...weighted, quorum: 5 }, voters, yesNo("y---")).outcome).toBe("accepted");
    expect(run({ ...weighted, method: "supermajority", threshold: "3/4" }, voters, yesNo("ynnn")).outcome).toBe("no_consensus");
    expect(run({ ...weighted, method: "supermajority", threshold: "5/8" }, voters, yesNo("ynnn")).outcome).toBe("accepted");
    const plurality: Settings = { algorithm: "weighted", options: ["A", "B"] };
    const ballots = ballotsOf([{ choice: "A" }, { choice: "B" }, { choice: "B" }, { choice: "B" }]);
    expect(run(plurality, voters, ballots)).toMatchObject({ winners: ["A"], counts: { A: 5, B: 3 } });
  });

  test("every outcome follows from the rules as they are written", () => {
    verifies("VOTE-04", "VOTE-05");
    const weights = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 7 });
    const setting = fc.record({
      method: fc.constantFrom("simple" as const, "absolute" as const, "supermajority" as const, "unanimity" as const),
      base: fc.constantFrom("cast" as const, "present" as const, "eligible" as const),
      p: fc.integer({ min: 4, max: 6 }),
      quorum: fc.integer({ min: 0, max: 7 }),
      veto: fc.boolean(),
    });
    fc.assert(
      fc.property(
        weights,
        setting,
        fc.infiniteStream(fc.constantFrom("y", "n", "a", "-")),
        (of, { method, base, p, quorum, veto }, says) => {
          const text = of.map(() => says.next().value ?? "-").join("");
          const sum = (letters: string) =>
            of.reduce((all, weight, at) => all + (letters.includes(text[at] ?? "") ? weight : 0), 0);
          const [y, n, a, all] = [sum("y"), sum("n"), sum("a"), sum("yna-")];
          const wholes = { cast: y + n, present: y + n + a, eligible: all };
          // in the words of the promise, each side by itself
          const wins = (side: number, other: number): boolean => {
            if (method === "simple") return side > other;
            if (method === "absolute") return side >= Math.floor(all / 2) + 1;
            const [top, bottom] = method === "unanimity" ? [1, 1] : [p, 7];
            return side > 0 && bottom * side >= top * wholes[base];
          };
          const expected: Outcome =
            y + n + a < quorum
              ? "no_quorum"
              : veto && text[0] === "n"
                ? "vetoed"
                : wins(y, n)
                  ? "accepted"
                  : wins(n, y)
                    ? "rejected"
                    : method === "simple" && y > 0
                      ? "tied"
                      : "no_consensus";
          const settings: Settings = {
            algorithm: "weighted",
            method,
            ...(method === "supermajority" && { threshold: `${p}/7` }),
            ...((method === "supermajority" || method === "unanimity") && { base }),
            ...(quorum > 0 && quorum <= all && { quorum }),
            ...(veto && { vetoHolders: ["v0"] }),
          };
          fc.pre(quorum <= all);
          expect(run(settings, electorate(of), yesNo(text)).outcome).toBe(expected);
        },
      ),
      { numRuns: 3_000 },
    );
  });
});
