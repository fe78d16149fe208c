/**
 * Is a history of concurrent operations one that some order of single steps explains? Each operation must take its step
 * between its call and its return (Herlihy & Wing 1990). The search is that of Wing & Gong (1993), with Lowe's memory of the
 * configurations seen (2017). Cut a history by object first: it is linearizable if and only if each object's is.
 */
export interface Operation<I, O> {
  readonly process: string;
  readonly input: I;
  /** What came back; of an operation that never returned, undefined. */
  readonly output: O | undefined;
  /** Any clock that all processes share, or the order of observation. */
  readonly calledAt: number;
  /** Undefined: no answer came, so the step may have happened at any time since, or never. */
  readonly returnedAt: number | undefined;
}

export interface Model<S, I, O> {
  readonly initial: S;
  /**
   * The states in which the step may leave the object; none when this output is impossible in this state. `output` is
   * undefined when no answer came: any that is possible.
   */
  step(state: S, input: I, output: O | undefined): readonly S[];
  /** Equal texts for equal states. */
  key(state: S): string;
}

export type Verdict<I, O> =
  | { readonly linearizable: true }
  | {
      readonly linearizable: false;
      /** The longest order found, and the operations that do not fit behind it. */
      readonly explained: readonly Operation<I, O>[];
      readonly unexplained: readonly Operation<I, O>[];
    };

/** An order of steps, from its end. */
type Step = { readonly index: number; readonly before: Step | undefined; readonly count: number };

/** Most configurations that one search looks at. */
const CONFIGURATIONS_MAX = 2_000_000;

/** @throws Error when the search gives up: the history is too concurrent to decide */
export function checkLinearizable<S, I, O>(history: readonly Operation<I, O>[], model: Model<S, I, O>): Verdict<I, O> {
  const operations = history.toSorted((a, b) => a.calledAt - b.calledAt);
  const seen = new Set<string>();
  let best: Step | undefined;

  /** `low`: all before it took their step; `beyond`: those behind it that did, ascending. */
  type Configuration = { low: number; beyond: readonly number[]; state: S; last: Step | undefined };
  const stack: Configuration[] = [{ low: 0, beyond: [], state: model.initial, last: undefined }];
  for (let at = stack.pop(); at; at = stack.pop()) {
    const { low, beyond, state, last } = at;
    const key = `${low}:${beyond.join(",")}:${model.key(state)}`;
    if (seen.has(key)) continue;
    seen.add(key);
    if (seen.size > CONFIGURATIONS_MAX) throw new Error(`Undecided after ${CONFIGURATIONS_MAX} configurations`);
    if ((last?.count ?? 0) > (best?.count ?? 0)) best = last;

    const stepped = new Set(beyond);
    const open: number[] = [];
    let firstReturn = Number.POSITIVE_INFINITY;
    for (let index = low; index < operations.length; index++) {
      const operation = operations[index];
      if (!operation || stepped.has(index)) continue;
      if (operation.calledAt > firstReturn) break; // called after one returned that has not taken its step
      firstReturn = Math.min(firstReturn, operation.returnedAt ?? Number.POSITIVE_INFINITY);
      open.push(index);
    }
    if (firstReturn === Number.POSITIVE_INFINITY) return { linearizable: true }; // what is left never returned
    for (const index of open.toReversed()) {
      const operation = operations[index];
      if (!operation || operation.calledAt > firstReturn) continue;
      for (const next of model.step(state, operation.input, operation.output)) {
        const step = { index, before: last, count: (last?.count ?? 0) + 1 };
        stack.push({ ...advance(low, [...beyond, index]), state: next, last: step });
      }
    }
  }
  const inOrder = (indices: ReadonlySet<number>) => [...indices].toReversed().flatMap((index) => operations[index] ?? []);
  const explained = new Set<number>();
  for (let step = best; step; step = step.before) explained.add(step.index);
  const others = operations.filter((_, index) => !explained.has(index));
  return { linearizable: false, explained: inOrder(explained), unexplained: others };
}

function advance(low: number, beyond: readonly number[]): { low: number; beyond: readonly number[] } {
  const stepped = new Set(beyond);
  let next = low;
  while (stepped.delete(next)) next++;
  return { low: next, beyond: [...stepped].sort((a, b) => a - b) };
}

// ── claims of one task ──

export type ClaimInput =
  | { readonly kind: "claim" }
  /** `done` with the token of the claim. */
  | { readonly kind: "finish"; readonly token: number };
export type ClaimOutput =
  | { readonly kind: "claimed"; readonly token: number }
  /** Someone holds it, or it is done. */
  | { readonly kind: "refused" }
  | { readonly kind: "finished" };

export interface ClaimState {
  /** Of the last claim. */
  readonly token: number;
  readonly status: "free" | "held" | "done";
}

/**
 * One task that is claimed and finished. With `expires`, a lease may end at any moment between two steps; without, a claim
 * stands until it is finished.
 */
export function claimModel({ expires }: { expires: boolean }): Model<ClaimState, ClaimInput, ClaimOutput> {
  const answer = (state: ClaimState, input: ClaimInput): { output: ClaimOutput; next: ClaimState } => {
    if (input.kind === "claim") {
      if (state.status !== "free") return { output: { kind: "refused" }, next: state };
      const token = state.token + 1;
      return { output: { kind: "claimed", token }, next: { token, status: "held" } };
    }
    if (state.status !== "held" || state.token !== input.token) return { output: { kind: "refused" }, next: state };
    return { output: { kind: "finished" }, next: { ...state, status: "done" } };
  };
  const same = (a: ClaimOutput, b: ClaimOutput) =>
    a.kind === b.kind && (a.kind !== "claimed" || b.kind !== "claimed" || a.token === b.token);
  return {
    initial: { token: 0, status: "free" },
    step(state, input, output) {
      const froms: ClaimState[] = [state];
      if (expires && state.status === "held") froms.push({ ...state, status: "free" });
      return froms.flatMap((from) => {
        const made = answer(from, input);
        return output === undefined || same(made.output, output) ? [made.next] : [];
      });
    },
    key: ({ token, status }) => `${token}${status}`,
  };
}
