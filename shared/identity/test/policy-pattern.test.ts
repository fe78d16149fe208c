import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Pattern } from "../src/policy/pattern.ts";

const texts = fc.string({ unit: fc.constantFrom("a", "b", "/"), maxLength: 8 });
const patterns = fc.string({ unit: fc.constantFrom("a", "b", "/", "*", "*"), maxLength: 7 });

/** The same by trying everything. */
function matchesSlowly(pattern: string, text: string): boolean {
  if (pattern === "") return text === "";
  if (pattern[0] === "*") {
    return matchesSlowly(pattern.slice(1), text) || (text !== "" && matchesSlowly(pattern, text.slice(1)));
  }
  return pattern[0] === text[0] && text !== "" && matchesSlowly(pattern.slice(1), text.slice(1));
}

test("a pattern matches exactly what trying every reading of its wildcards matches", () => {
  verifies("SEC-04");
  fc.assert(
    fc.property(patterns, texts, (pattern, text) => {
      expect(new Pattern(pattern).matches(text)).toBe(matchesSlowly(pattern, text));
    }),
    { numRuns: 20_000 },
  );
});

/** All texts of up to so many characters. */
function upTo(length: number): string[] {
  return length === 0 ? [""] : upTo(length - 1).flatMap((text) => [text, ...["a", "b"].map((end) => text + end)]);
}

test("a pattern reaches into a stem exactly when it matches a text that begins with it", () => {
  verifies("SEC-04");
  const ends = [...new Set(upTo(4))];
  const small = fc.string({ unit: fc.constantFrom("a", "b", "*"), maxLength: 4 });
  const stems = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 4 });
  fc.assert(
    fc.property(small, stems, (pattern, stem) => {
      const compiled = new Pattern(pattern);
      expect(compiled.reachesInto(stem)).toBe(ends.some((end) => compiled.matches(stem + end)));
    }),
    { numRuns: 5_000 },
  );
});

test("a pattern that matches a stem with its star covers whatever begins with the stem", () => {
  verifies("SEC-04");
  fc.assert(
    fc.property(patterns, texts, texts, (pattern, stem, end) => {
      const compiled = new Pattern(pattern);
      fc.pre(compiled.matches(`${stem}*`));
      expect(compiled.matches(stem + end)).toBe(true);
      expect(compiled.reachesInto(stem)).toBe(true);
    }),
    { numRuns: 5_000 },
  );
});

test("no pattern goes back over a text: many wildcards look at each character a bounded number of times", () => {
  verifies("SEC-04");
  // what a matcher that backtracks tries here has more than 10^30 combinations: it would not end within the test's time
  const text = "a".repeat(100_000);
  expect(new Pattern(`${"a*".repeat(127)}b`).matches(text)).toBe(false);
  expect(new Pattern(`*${"a*".repeat(120)}b*`).matches(text)).toBe(false);
  expect(new Pattern(`*${"a".repeat(200)}b*`).matches(text)).toBe(false);
  expect(new Pattern(`*${"a*".repeat(120)}`).matches(text)).toBe(true);
});
