import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkLinearizable, type Operation, type SequentialModel } from "./linearizability.ts";

type Input = { write: number } | { swap: [from: number, to: number] } | "read";
type Output = number | boolean | "ok";
type Call = Operation<Input, Output>;

/** A register that is read, written and compared-and-swapped. */
const register: SequentialModel<number, Input, Output> = {
  initial: 0,
  key: String,
  step(value, { input, output }) {
    if (input === "read") return output === undefined || output === value ? [value] : [];
    if ("write" in input) return [input.write];
    const [from, to] = input.swap;
    const swapped = value === from;
    if (output !== undefined && output !== swapped) return [];
    return [swapped ? to : value];
  },
};

const call = (invoked: number, returned: number | undefined, input: Input, output?: Output): Call => ({
  by: `caller-${invoked}`,
  invoked,
  input,
  ...(returned === undefined ? {} : { returned }),
  ...(output === undefined ? {} : { output }),
});
const linearizable = (history: Call[]) => checkLinearizable(history, register).linearizable;

describe("a history is linearizable", () => {
  test("when a read sees the write before it", () => {
    expect(linearizable([call(0, 1, { write: 1 }, "ok"), call(2, 3, "read", 1)])).toBe(true);
  });

  test("when a read beside a write sees either value", () => {
    for (const seen of [0, 1]) expect(linearizable([call(0, 10, { write: 1 }, "ok"), call(2, 3, "read", seen)])).toBe(true);
  });

  test("when a write whose answer was lost shows late, or never", () => {
    const lost = call(0, undefined, { write: 1 });
    expect(linearizable([lost, call(2, 3, "read", 0), call(4, 5, "read", 1)])).toBe(true);
    expect(linearizable([lost, call(2, 3, "read", 0), call(4, 5, "read", 0)])).toBe(true);
  });
});

describe("a history is not linearizable", () => {
  test("when a read misses a write that was answered before it began; the read is named", () => {
    const stale = call(2, 3, "read", 0);
    const verdict = checkLinearizable([call(0, 1, { write: 1 }, "ok"), stale], register);
    expect(verdict).toMatchObject({ linearizable: false, culprit: stale, states: ["1"] });
  });

  test("when two swaps from the same value both succeed", () => {
    const history = [call(0, 10, { swap: [0, 1] }, true), call(1, 9, { swap: [0, 2] }, true)];
    expect(linearizable(history)).toBe(false);
    expect(linearizable([history[0] as Call, call(1, 9, { swap: [0, 2] }, false)])).toBe(true);
  });

  test("when the new value was read and then the old one", () => {
    const write = call(0, 10, { write: 1 }, "ok");
    expect(linearizable([write, call(2, 3, "read", 1), call(4, 5, "read", 0)])).toBe(false);
    expect(linearizable([write, call(2, 3, "read", 0), call(4, 5, "read", 1)])).toBe(true);
  });

  test("when a lost write shows and then is gone", () => {
    const lost = call(0, undefined, { write: 1 });
    expect(linearizable([lost, call(2, 3, "read", 1), call(4, 5, "read", 0)])).toBe(false);
  });
});

const inputs = fc.oneof(
  fc.constant<Input>("read"),
  fc.record({ write: fc.integer({ min: 0, max: 2 }) }),
  fc.record({ swap: fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 })) }),
);

test("every history made by a real register is accepted, and agrees with trying all orders when an answer is changed", () => {
  const steps = fc.array(fc.record({ input: inputs, before: fc.nat(6), after: fc.nat(6) }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(steps, fc.nat(5), fc.integer({ min: 0, max: 2 }), (made, changed, to) => {
      let value = 0;
      const history = made.map(({ input, before, after }, at): Call => {
        let output: Output = "ok";
        if (input === "read") output = value;
        else if ("write" in input) value = input.write;
        else {
          output = value === input.swap[0];
          if (output) value = input.swap[1];
        }
        return call(at * 4 - before, at * 4 + 1 + after, input, output);
      });
      expect(linearizable(history)).toBe(true);
      const broken = history.map((one, at) => (at === changed && one.input === "read" ? { ...one, output: to } : one));
      expect(linearizable(broken)).toBe(someOrderExplains(broken, 0));
    }),
  );
});

/** By trying all orders that keep the order of calls that do not overlap. */
function someOrderExplains(left: readonly Call[], value: number): boolean {
  if (left.length === 0) return true;
  const firstAnswer = Math.min(...left.map(({ returned }) => returned ?? Number.POSITIVE_INFINITY));
  return left.some((next) => {
    if (next.invoked > firstAnswer) return false;
    const rest = left.filter((one) => one !== next);
    return register.step(value, next).some((after) => someOrderExplains(rest, after));
  });
}
