import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ClaimInput,
  type ClaimOutput,
  type ClaimState,
  checkLinearizable,
  claimModel,
  type Model,
  type Operation,
} from "./linearizability.ts";

type RegisterInput = { readonly write: number } | "read";
/** A register that holds one number. */
const register: Model<number, RegisterInput, number> = {
  initial: 0,
  step: (state, input, output) => {
    if (input === "read") return output === undefined || output === state ? [state] : [];
    return [input.write];
  },
  key: String,
};

const operation = <I, O>(input: I, output: O | undefined, calledAt: number, returnedAt: number | undefined): Operation<I, O> => ({
  process: `at-${calledAt}`,
  input,
  output,
  calledAt,
  returnedAt,
});

describe("a register", () => {
  test("a read beside a write may see it or not", () => {
    for (const seen of [0, 1]) {
      const history = [
        operation<RegisterInput, number>({ write: 1 }, 1, 0, 10),
        operation<RegisterInput, number>("read", seen, 1, 9),
      ];
      expect(checkLinearizable(history, register)).toEqual({ linearizable: true });
    }
  });

  test("a read after a write that returned must see it", () => {
    const history = [operation<RegisterInput, number>({ write: 1 }, 1, 0, 1), operation<RegisterInput, number>("read", 0, 2, 3)];
    expect(checkLinearizable(history, register)).toMatchObject({ linearizable: false, unexplained: [{ input: "read" }] });
  });

  test("two reads do not see a write come and go", () => {
    const history = [
      operation<RegisterInput, number>({ write: 1 }, 1, 0, 10),
      operation<RegisterInput, number>("read", 1, 1, 2),
      operation<RegisterInput, number>("read", 0, 3, 4),
    ];
    expect(checkLinearizable(history, register).linearizable).toBe(false);
  });

  test("a write that never returned may have happened late, or never", () => {
    const write = operation<RegisterInput, number>({ write: 1 }, undefined, 0, undefined);
    const reads = (...seen: number[]) =>
      seen.map((value, at) => operation<RegisterInput, number>("read", value, 10 * at + 1, 10 * at + 2));
    expect(checkLinearizable([write, ...reads(0, 0)], register).linearizable).toBe(true);
    expect(checkLinearizable([write, ...reads(0, 1, 1)], register).linearizable).toBe(true);
    expect(checkLinearizable([write, ...reads(0, 1, 0)], register).linearizable).toBe(false);
  });
});

describe("claims", () => {
  const claim = (output: ClaimOutput | undefined, calledAt: number, returnedAt?: number) =>
    operation<ClaimInput, ClaimOutput>({ kind: "claim" }, output, calledAt, returnedAt);
  const finish = (token: number, output: ClaimOutput | undefined, calledAt: number, returnedAt?: number) =>
    operation<ClaimInput, ClaimOutput>({ kind: "finish", token }, output, calledAt, returnedAt);
  const claimed = (token: number): ClaimOutput => ({ kind: "claimed", token });
  const refused: ClaimOutput = { kind: "refused" };
  const finished: ClaimOutput = { kind: "finished" };
  const verdict = (history: Operation<ClaimInput, ClaimOutput>[], expires: boolean) =>
    checkLinearizable(history, claimModel({ expires })).linearizable;

  test("one of two winners is one too many, unless the first one's lease may have ended", () => {
    const history = [claim(claimed(1), 0, 5), claim(claimed(2), 1, 6)];
    expect(verdict(history, false)).toBe(false);
    expect(verdict(history, true)).toBe(true);
  });

  test("the same token twice, or a smaller one later, is never right", () => {
    expect(verdict([claim(claimed(1), 0, 5), claim(claimed(1), 1, 6)], true)).toBe(false);
    expect(verdict([claim(claimed(2), 0, 1), claim(claimed(1), 2, 3)], true)).toBe(false);
  });

  test("a holder that was taken over cannot finish", () => {
    const taken = [claim(claimed(1), 0, 1), claim(claimed(2), 2, 3)];
    expect(verdict([...taken, finish(1, finished, 4, 5)], true)).toBe(false);
    expect(verdict([...taken, finish(1, refused, 4, 5), finish(2, finished, 6, 7)], true)).toBe(true);
  });

  test("a claim whose answer was lost explains why the next is refused", () => {
    expect(verdict([claim(undefined, 0), claim(refused, 10, 11)], false)).toBe(true);
    expect(verdict([claim(refused, 10, 11)], false)).toBe(false);
  });
});

test("it agrees with trying every order, on small random histories", () => {
  const model = claimModel({ expires: true });
  const operations = fc.array(
    fc.record({
      input: fc.oneof(
        fc.constant<ClaimInput>({ kind: "claim" }),
        fc.integer({ min: 1, max: 2 }).map((token): ClaimInput => ({ kind: "finish", token })),
      ),
      output: fc.oneof(
        fc.constantFrom<ClaimOutput>(
          { kind: "refused" },
          { kind: "finished" },
          { kind: "claimed", token: 1 },
          { kind: "claimed", token: 2 },
        ),
        fc.constant(undefined),
      ),
      calledAt: fc.integer({ min: 0, max: 20 }),
      lasts: fc.integer({ min: 1, max: 12 }),
    }),
    { minLength: 1, maxLength: 5 },
  );
  let positive = 0;
  fc.assert(
    fc.property(operations, (drawn) => {
      const history = drawn.map(({ input, output, calledAt, lasts }, at) =>
        operation(input, output, calledAt * 10 + at, output === undefined ? undefined : (calledAt + lasts) * 10 + at),
      );
      const expected = anyOrderFits(history, model.initial, model);
      if (expected) positive++;
      expect(checkLinearizable(history, model).linearizable).toBe(expected);
    }),
    { numRuns: 3_000 },
  );
  expect(positive).toBeGreaterThan(50);
});

/** By definition: some order that respects real time, of all that returned and any of the others. */
function anyOrderFits(
  left: readonly Operation<ClaimInput, ClaimOutput>[],
  state: ClaimState,
  model: Model<ClaimState, ClaimInput, ClaimOutput>,
): boolean {
  if (left.every(({ returnedAt }) => returnedAt === undefined)) return true;
  return left.some((next) => {
    if (left.some((other) => other !== next && other.returnedAt !== undefined && other.returnedAt < next.calledAt)) return false;
    const rest = left.filter((other) => other !== next);
    return model.step(state, next.input, next.output).some((after) => anyOrderFits(rest, after, model));
  });
}

test("a long history of few processes is decided quickly", () => {
  const history: Operation<RegisterInput, number>[] = [];
  let value = 0;
  for (let at = 0; at < 5_000; at++) {
    // three overlapping operations at any time; each takes its step at its call
    const input: RegisterInput = at % 2 === 0 ? { write: at } : "read";
    if (input !== "read") value = input.write;
    history.push(operation(input, value, at * 10, at * 10 + 25));
  }
  expect(checkLinearizable(history, register).linearizable).toBe(true);
});
