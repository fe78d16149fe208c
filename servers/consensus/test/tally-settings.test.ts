import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type Electorate, METHODS, OPTIONS_MAX, ruleOf, type Settings, VOTERS_MAX, WEIGHT_MAX } from "../src/tally/index.ts";
import { electorate, evenly, expectRefusal, run, type Say, yesNo } from "./tally-support.ts";

const check =
  (settings: Partial<Settings>, voters: Electorate = evenly(3)) =>
  () =>
    ruleOf({ algorithm: "majority", ...settings }).check({ algorithm: "majority", ...settings }, voters);
const names = (count: number) => Array.from({ length: count }, (_, at) => `option ${at}`);
const OPTIONS = ["A", "B"];

describe("settings that do not fit are refused, naming the field", () => {
  test.each<[string, Partial<Settings>]>([
    ["threshold", { method: "supermajority", threshold: "1/2" }],
    ["threshold", { method: "supermajority", threshold: "0/3" }],
    ["threshold", { method: "supermajority", threshold: "4/3" }],
    ["threshold", { method: "supermajority", threshold: "2001/3000" }],
    ["threshold", { method: "supermajority", threshold: "66%" }],
    ["threshold", { method: "simple", threshold: "2/3" }],
    ["threshold", { method: "borda", options: OPTIONS, threshold: "2/3" }],
    ["threshold", { method: "linear_pool", threshold: "-1/2" }],
    ["base", { method: "absolute", base: "cast" }],
    ["quorum", { quorum: 0 }],
    ["quorum", { quorum: 4 }],
    ["quorum", { quorum: 1.5 }],
    ["quorum", { quorum: "3" }],
    ["quorum", { quorum: "1/0" }],
    ["tieBreak", { tieBreak: "chance" }],
    ["tieBreak", { tieBreak: "chair:v9" }],
    ["tieBreak", { tieBreak: "chair:" }],
    ["tieBreak", { method: "absolute", tieBreak: "status_quo" }],
    ["tieBreak", { method: "condorcet", options: OPTIONS, tieBreak: "status_quo" }],
    ["vetoHolders", { vetoHolders: ["v9"] }],
    ["vetoHolders", { vetoHolders: ["v0", "v0"] }],
    ["vetoHolders", { options: OPTIONS, vetoHolders: ["v0"] }],
    ["options", { method: "schulze" }],
    ["options", { method: "simple", options: OPTIONS }],
    ["options", { options: ["A"] }],
    ["options", { options: ["A", "A"] }],
    ["options", { options: ["A", " "] }],
    ["options", { options: ["A", "abstain"] }],
    ["options", { options: ["A", "__proto__"] }],
    ["options", { options: ["A", "x".repeat(201)] }],
    ["options", { options: names(OPTIONS_MAX + 1) }],
    ["options", { method: "instant_runoff", options: names(13) }],
  ])("%s: %j", (field, settings) => {
    verifies("VOTE-04");
    expectRefusal(check(settings), field);
  });

  test.each<Partial<Settings>>([
    {},
    { quorum: 3, tieBreak: "co_winners", vetoHolders: ["v0", "v2"] },
    { method: "supermajority", threshold: "501/1000", base: "eligible", quorum: "1/1" },
    { options: names(OPTIONS_MAX), tieBreak: "chair:v1" },
    { method: "instant_runoff", options: names(12) },
    { method: "linear_pool", threshold: "1/3" },
    { options: ["constructor", "toString"] },
  ])("taken: %j", (settings) => {
    verifies("VOTE-04");
    expect(check(settings)).not.toThrow();
  });

  test("weights are whole, bounded, and belong to weighted votes alone", () => {
    verifies("VOTE-05");
    for (const weight of [0, -1, 1.5, WEIGHT_MAX + 1, Number.NaN]) {
      expectRefusal(check({ algorithm: "weighted" }, electorate([1, weight])), "weights");
    }
    expectRefusal(check({ algorithm: "majority" }, electorate([1, 2])), "weights");
    expectRefusal(check({ algorithm: "byzantine" }, electorate([1, 1, 1, 2])), "weights");
    expect(check({ algorithm: "weighted", quorum: WEIGHT_MAX + 1 }, electorate([1, WEIGHT_MAX]))).not.toThrow();
  });

  test("there is somebody to vote, and not more than the bound", () => {
    verifies("VOTE-04");
    expectRefusal(check({}, evenly(0)), "participants");
    expectRefusal(check({}, evenly(VOTERS_MAX + 1)), "participants");
    expect(check({}, evenly(VOTERS_MAX))).not.toThrow();
  });
});

describe("ballots that do not fit are refused, naming the field", () => {
  const options = ["A", "B", "C"];
  test.each<[string, Partial<Settings>, Say]>([
    ["vote", {}, {}],
    ["vote", {}, { choice: "maybe" }],
    ["ranking", {}, { choice: "yes", ranking: [["yes"]] }],
    ["scores", {}, { choice: "yes", scores: { yes: 1 } }],
    ["vote", { options }, { choice: "D" }],
    ["vote", { options }, {}],
    ["ranking", { options }, { choice: "A", ranking: [["A"]] }],
    ["vote", { algorithm: "byzantine" }, { choice: "D" }],
    ["scores", { algorithm: "byzantine" }, { choice: "yes", scores: {} }],
    ["ranking", { options, method: "schulze" }, {}],
    ["ranking", { options, method: "schulze" }, { ranking: [] }],
    ["ranking", { options, method: "schulze" }, { ranking: [["A"], []] }],
    ["ranking", { options, method: "schulze" }, { ranking: [["A"], ["A"]] }],
    ["ranking", { options, method: "schulze" }, { ranking: [["A", "D"]] }],
    ["ranking", { options, method: "schulze" }, { choice: "abstain", ranking: [["A"]] }],
    ["scores", { options, method: "schulze" }, { ranking: [["A"]], scores: { A: 1 } }],
    ["vote", { options, method: "schulze" }, { choice: "B", ranking: [["A"], ["B"]] }],
    ["vote", { options, method: "schulze" }, { choice: "D" }],
    ["scores", { options, method: "score" }, {}],
    ["scores", { options, method: "score" }, { choice: "A" }],
    ["scores", { options, method: "score" }, { scores: {} }],
    ["scores", { options, method: "score" }, { scores: { A: 6 } }],
    ["scores", { options, method: "score" }, { scores: { A: -1 } }],
    ["scores", { options, method: "score" }, { scores: { A: 0.5 } }],
    ["scores", { options, method: "score" }, { scores: { D: 1 } }],
    ["scores", { options, method: "approval" }, { scores: { A: 2 } }],
    ["scores", { options, method: "score" }, { choice: "abstain", scores: { A: 1 } }],
    ["ranking", { options, method: "star" }, { scores: { A: 1 }, ranking: [["A"]] }],
    ["vote", { options, method: "star" }, { choice: "B", scores: { A: 3, B: 2 } }],
    ["confidence", { options, method: "linear_pool" }, { choice: "A" }],
    ["confidence", { options, method: "linear_pool" }, { choice: "A", confidence: 1_001 }],
    ["confidence", { options, method: "logarithmic_pool" }, { choice: "A", confidence: 0.9 }],
    ["confidence", { options, method: "logarithmic_pool" }, { choice: "A", confidence: -1 }],
  ])("%s: %j %j", (field, more, say) => {
    verifies("VOTE-07");
    const settings: Settings = { algorithm: "majority", ...more };
    expectRefusal(() => ruleOf(settings).checkBallot(settings, { ...say, voter: "v0" }), field);
  });

  test("under every method a voter may abstain, and a choice alone is a ballot where it can be one", () => {
    verifies("VOTE-07");
    for (const method of METHODS) {
      const settings: Settings = { algorithm: "majority", method, ...(!METHODS.slice(0, 4).includes(method) && { options }) };
      expect(() => ruleOf(settings).checkBallot(settings, { voter: "v0", choice: "abstain" })).not.toThrow();
      expect(run(settings, evenly(2), [{ voter: "v0", choice: "abstain" }])).toMatchObject({
        outcome: "no_consensus",
        turnout: { eligible: 2, voted: 1, abstained: 1 },
      });
    }
    for (const method of ["plurality", "approval", "borda", "instant_runoff", "schulze"] as const) {
      expect(run({ algorithm: "majority", method, options }, evenly(1), [{ voter: "v0", choice: "B" }])).toMatchObject({
        winners: ["B"],
      });
    }
  });

  test("options called like members of every object are options like others", () => {
    verifies("VOTE-07");
    const odd = ["constructor", "toString", "valueOf"];
    const says: Say[] = [{ scores: { toString: 5 } }, { scores: { toString: 3, valueOf: 1 } }];
    const ballots = says.map((say, at) => ({ ...say, voter: `v${at}` }));
    expect(run({ algorithm: "majority", method: "score", options: odd }, evenly(2), ballots)).toMatchObject({
      winners: ["toString"],
      counts: { constructor: 0, toString: 8, valueOf: 1 },
    });
  });

  test("a ballot of a stranger or a second one of a voter is a mistake of ours and never counted", () => {
    verifies("VOTE-04");
    const settings: Settings = { algorithm: "majority" };
    const tally = (text: string, voters: number) => () => ruleOf(settings).tally(settings, evenly(voters), yesNo(text));
    expect(tally("yy", 1)).toThrow(expect.objectContaining({ code: "internal" }));
    const twice = [...yesNo("y"), ...yesNo("y")];
    expect(() => ruleOf(settings).tally(settings, evenly(2), twice)).toThrow(expect.objectContaining({ code: "internal" }));
  });
});
