import { describe, expect, test } from "vitest";
import { manualClock } from "../src/index.ts";

describe("a manual clock", () => {
  test("fires timers in order of their time, each at its own, with those that they set", async () => {
    const clock = manualClock(1_000);
    const fired: string[] = [];
    const note = (what: string) => fired.push(`${what} ${clock.now()}`);
    clock.timer(30, () => note("late"));
    clock.timer(10, () => {
      note("early");
      Promise.resolve().then(() => clock.timer(5, () => note("set by early")));
    });
    clock.timer(20, () => note("disposed"))[Symbol.dispose]();
    clock.timer(31, () => note("beyond"));
    await clock.advance(30);
    expect(fired).toEqual(["early 1010", "set by early 1015", "late 1030"]);
    expect(clock.now()).toBe(1_030);
    await clock.advance(1);
    expect(fired.at(-1)).toBe("beyond 1031");
  });
});
