import { describe, expect, it } from "vitest";
import { newId, systemRandom } from "../src/index.ts";

describe("ids and chance", () => {
  it("makes ten thousand ids that are all different and all plain", () => {
    const ids = Array.from({ length: 10_000 }, () => newId("task"));
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^task-[0-9b-df-hj-np-tv-z]{12}$/);
  });

  it("draws whole numbers below the bound, each about equally often", () => {
    const DRAWS = 64_000;
    const counts = Array.from({ length: 64 }, () => 0);
    for (let draw = 0; draw < DRAWS; draw++) {
      const number = systemRandom.integer(64);
      counts[number] = (counts[number] ?? 0) + 1;
    }
    expect(counts).toHaveLength(64);
    // 1,000 each with a spread of 32: 300 off is more than nine spreads, which does not happen by chance
    for (const count of counts) expect(Math.abs(count - DRAWS / 64)).toBeLessThan(300);
  });

  it("draws up to the largest bound", () => {
    const numbers = Array.from({ length: 1_000 }, () => systemRandom.integer(2 ** 32));
    expect(numbers.every((number) => Number.isInteger(number) && number >= 0 && number < 2 ** 32)).toBe(true);
    expect(new Set(numbers).size).toBeGreaterThan(990);
  });
});
