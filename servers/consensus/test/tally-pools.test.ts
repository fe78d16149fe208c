import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { METHODS, type Method, type Settings } from "../src/tally/index.ts";
import { ONE_FAMILY } from "../src/tally/turnout.ts";
import { ballotsOf, electorate, evenly, ranking, run, type Say } from "./tally-support.ts";

const OPTIONS = ["A", "B", "C"];
/** "A900": for A with 900 per mille. */
function says(text: string): Say[] {
  const names: Readonly<Record<string, string>> = { y: "yes", n: "no" };
  return text.split(" ").map((word) => ({ choice: names[word[0] ?? ""] ?? word[0], confidence: Number(word.slice(1)) }));
}
function pool(method: Method, text: string, more: Partial<Settings> = {}) {
  const stated = says(text);
  return run({ algorithm: "majority", method, ...more }, evenly(stated.length), ballotsOf(stated));
}

describe("opinion pools", () => {
  test("the linear pool is the mean of the stated probabilities, what is left shared by the other options", () => {
    verifies("VOTE-12");
    // A: 900 200 150, B: 50 600 150, C: 50 200 700
    const tally = pool("linear_pool", "A900 B600 C700", { options: OPTIONS });
    expect(tally).toMatchObject({ outcome: "elected", winners: ["A"], counts: { A: 417, B: 267, C: 317 }, scale: 1_000 });
    expect(tally.order).toEqual([["A"], ["C"], ["B"]]);
    expect(pool("linear_pool", "y900 n600")).toMatchObject({
      outcome: "accepted",
      winners: ["yes"],
      counts: { yes: 650, no: 350 },
    });
    expect(pool("linear_pool", "y600 n900")).toMatchObject({ outcome: "rejected", winners: ["no"] });
  });

  test("a confidence below one half speaks for the other side", () => {
    verifies("VOTE-12");
    expect(pool("linear_pool", "y100")).toMatchObject({ outcome: "rejected", winners: ["no"], counts: { yes: 100, no: 900 } });
    expect(pool("logarithmic_pool", "y100")).toMatchObject({ outcome: "rejected", winners: ["no"] });
  });

  test("the logarithmic pool is the geometric mean of the stated probabilities, made to sum to one", () => {
    verifies("VOTE-12");
    // odds 9 and 1/4: the root of 9/4 is 3/2, so 60% to 40%
    expect(pool("logarithmic_pool", "y900 n800")).toMatchObject({ outcome: "accepted", counts: { yes: 600, no: 400 } });
    // whoever agrees makes nobody surer than they were
    expect(pool("logarithmic_pool", "y700 y700 y700")).toMatchObject({ counts: { yes: 700, no: 300 } });
  });

  test("the two differ: certainty weighs more in the logarithmic pool", () => {
    verifies("VOTE-12");
    const text = "y990 n700 n700";
    expect(pool("linear_pool", text)).toMatchObject({ outcome: "accepted" });
    expect(pool("logarithmic_pool", text)).toMatchObject({ outcome: "accepted" });
    const three = "y990 n700 n700 n700 n700";
    expect(pool("linear_pool", three)).toMatchObject({ outcome: "rejected", counts: { yes: 438, no: 562 } });
    expect(pool("logarithmic_pool", three)).toMatchObject({ outcome: "accepted" });
  });

  test("certainty is taken as 999 per mille in the logarithmic pool, so that no one voter overrules all", () => {
    verifies("VOTE-12");
    expect(pool("logarithmic_pool", "y1000 n999")).toMatchObject({ outcome: "tied", winners: ["yes", "no"] });
    expect(pool("logarithmic_pool", "y1000 n990 n990")).toMatchObject({ outcome: "rejected" });
    expect(pool("logarithmic_pool", "y0 n0")).toMatchObject({ outcome: "tied" });
  });

  test.each(["linear_pool", "logarithmic_pool"] as const)("%s: equal opinions tie exactly, and weights count", (method) => {
    verifies("VOTE-12");
    expect(pool(method, "A700 B700", { options: OPTIONS })).toMatchObject({ outcome: "tied", winners: ["A", "B"] });
    expect(pool(method, "A700 B700", { options: OPTIONS, tieBreak: "chair:v1" })).toMatchObject({
      outcome: "elected",
      winners: ["B"],
    });
    expect(
      run({ algorithm: "weighted", method, options: OPTIONS }, electorate([1, 2]), ballotsOf(says("A700 B700"))),
    ).toMatchObject({ winners: ["B"] });
  });

  test("products that are equal by other factors tie in the logarithmic pool", () => {
    verifies("VOTE-12");
    // 900 · 250 · 250 = 100 · 750 · 750
    expect(pool("logarithmic_pool", "y900 n750 n750")).toMatchObject({ outcome: "tied", counts: { yes: 500, no: 500 } });
    expect(pool("logarithmic_pool", "y900 n750 n751")).toMatchObject({ outcome: "rejected" });
    // two for yes against two for no, whose odds multiply to the same by other numbers
    const pairs = new Map<number, [number, number]>();
    const level: string[] = [];
    for (let a = 501; a < 1_000; a++) {
      for (let b = 501; b <= a; b++) {
        const odds = (a * b) / ((1_000 - a) * (1_000 - b)); // equal fractions are rounded equally
        const other = pairs.get(odds);
        if (other) level.push(`y${a} y${b} n${other[0]} n${other[1]}`);
        else pairs.set(odds, [a, b]);
      }
    }
    expect(level.length).toBeGreaterThan(50);
    for (const text of level) expect([text, pool("logarithmic_pool", text).outcome]).toEqual([text, "tied"]);
    const weighted: Settings = { algorithm: "weighted", method: "logarithmic_pool" };
    expect(run(weighted, electorate([1_000, 2_000]), ballotsOf(says("y900 n750")))).toMatchObject({ outcome: "tied" });
  });

  test("three options share a geometric mean too", () => {
    verifies("VOTE-12");
    // A: 500 · 500 · 250, B: 250 · 250 · 500, C: 250 · 250 · 250, which is 4 to 2 to 1 under the cube root
    const tally = pool("logarithmic_pool", "A500 A500 B500", { options: OPTIONS });
    expect(tally).toMatchObject({ winners: ["A"], counts: { A: 413, B: 327, C: 260 }, order: [["A"], ["B"], ["C"]] });
  });

  test("what is highest must reach the threshold, where one is declared", () => {
    verifies("VOTE-12");
    for (const method of ["linear_pool", "logarithmic_pool"] as const) {
      expect(pool(method, "y800 y800", { threshold: "4/5" })).toMatchObject({ outcome: "accepted" });
      expect(pool(method, "y800 y799", { threshold: "4/5" })).toMatchObject({ outcome: "no_consensus", winners: [] });
      expect(pool(method, "n800 n800", { threshold: "4/5" })).toMatchObject({ outcome: "rejected" });
    }
  });

  test("the logarithmic pool agrees with products computed exactly", () => {
    verifies("VOTE-12");
    const opinion = fc.record({ choice: fc.constantFrom(...OPTIONS), confidence: fc.integer({ min: 1, max: 999 }) });
    fc.assert(
      fc.property(fc.array(opinion, { minLength: 1, maxLength: 8 }), (stated) => {
        const product = (option: string) =>
          stated.reduce(
            (all, { choice, confidence }) => all * BigInt(choice === option ? 2 * confidence : 1_000 - confidence),
            1n,
          );
        const products = OPTIONS.map(product);
        const isMost = (one: bigint | undefined) => one !== undefined && products.every((other) => one >= other);
        const tally = run(
          { algorithm: "majority", method: "logarithmic_pool", options: OPTIONS },
          evenly(stated.length),
          ballotsOf(stated),
        );
        expect(tally.winners).toEqual(OPTIONS.filter((_, at) => isMost(products[at])));
        const roots = products.map((one) => Number(one) ** (1 / stated.length));
        const all = roots.reduce((sum, root) => sum + root, 0);
        for (const [at, option] of OPTIONS.entries()) {
          expect(Math.abs((tally.counts[option] ?? 0) - (1_000 * (roots[at] ?? 0)) / all)).toBeLessThanOrEqual(0.51);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("confidence and model families elsewhere", () => {
  test("confidence changes nothing under any other method", () => {
    verifies("VOTE-12");
    const of = (method: Method): Say[] => {
      if (["simple", "absolute", "supermajority", "unanimity"].includes(method))
        return [{ choice: "yes" }, { choice: "no" }, { choice: "no" }];
      if (method === "plurality") return [{ choice: "A" }, { choice: "B" }, { choice: "B" }];
      if (["approval", "score", "star"].includes(method))
        return [{ scores: { A: 1 } }, { scores: { B: 1 } }, { scores: { B: 1, A: 1 } }];
      return ["AB", "BC", "BA"].map((text) => ({ ranking: ranking(text) }));
    };
    for (const method of METHODS.filter((name) => !name.endsWith("_pool"))) {
      const options = of(method)[0]?.choice === "yes" ? {} : { options: OPTIONS };
      const tally = (confidences: (number | undefined)[]) =>
        run(
          { algorithm: "majority", method, ...options },
          evenly(3),
          ballotsOf(of(method).map((say, at) => ({ ...say, confidence: confidences[at] }))),
        );
      expect(tally([1_000, 1, 1])).toEqual(tally([undefined, undefined, undefined]));
    }
  });

  test("all ballots of one model family are warned of, under every rule; unknown ones or two families are not", () => {
    verifies("VOTE-12");
    const of = (families: readonly (string | undefined)[], settings: Settings, choice: string) =>
      run(settings, evenly(4), ballotsOf(families.map((modelFamily): Say => ({ choice, confidence: 800, modelFamily }))))
        .warnings;
    const rules: [Settings, string][] = [
      [{ algorithm: "majority" }, "yes"],
      [{ algorithm: "byzantine" }, "yes"],
      [{ algorithm: "majority", options: OPTIONS }, "A"],
      [{ algorithm: "majority", options: OPTIONS, method: "linear_pool" }, "A"],
    ];
    for (const [settings, choice] of rules) {
      expect(of(["x", "X", " x"], settings, choice)).toEqual([ONE_FAMILY]);
      expect(of(["x", "x", "y"], settings, choice)).toEqual([]);
      expect(of(["x", undefined, "x"], settings, choice)).toEqual([]);
      expect(of(["x"], settings, choice)).toEqual([]);
      expect(of([], settings, choice)).toEqual([]);
    }
  });
});
