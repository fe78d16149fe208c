import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BackoffPolicy, backoffDelay, checkBackoff } from "../src/index.ts";

const policy: BackoffPolicy = { initialMs: 100, factor: 2, maxMs: 1_000 };

describe("back-off", () => {
  test("doubles from the first wait and stays at the longest", () => {
    expect([1, 2, 3, 4, 5, 6, 1_000_000].map((attempt) => backoffDelay(policy, attempt))).toEqual([
      100, 200, 400, 800, 1_000, 1_000, 1_000,
    ]);
  });

  test("chance takes away at most the jitter's part", () => {
    fc.assert(
      fc.property(
        fc.nat(60),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (n, chance, jitter) => {
          const full = backoffDelay(policy, n);
          const delay = backoffDelay({ ...policy, jitter }, n, chance);
          expect(delay).toBeLessThanOrEqual(full);
          expect(delay).toBeGreaterThanOrEqual(Math.floor(full * (1 - jitter)));
        },
      ),
    );
  });

  test("a wait of nothing stays nothing", () => {
    expect(backoffDelay({ initialMs: 0, factor: 10, maxMs: 0 }, 400)).toBe(0);
  });

  test.each<Partial<BackoffPolicy>>([
    { initialMs: -1 },
    { initialMs: 1.5 },
    { initialMs: Number.NaN },
    { initialMs: 2_000 },
    { maxMs: Number.POSITIVE_INFINITY },
    { factor: 0.5 },
    { factor: 11 },
    { factor: Number.NaN },
    { jitter: 1.1 },
    { jitter: -0.1 },
  ])("%j is refused", (bad) => {
    expect(() => checkBackoff({ ...policy, ...bad })).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });
});
