/**
 * Decides whether a recorded history of calls could have happened one at a time, each at some moment between its start and
 * its answer (Herlihy and Wing 1990). The way is Lowe's just-in-time linearization ("Testing for linearizability", 2017):
 * walk through starts and answers in order of time, and keep every state that the calls so far allow.
 *
 * Histories of separate objects are checked separately: a history is linearizable if each object's part is.
 */

/** One call. Without `returned` its answer was lost: it took effect at some time after `invoked`, or never. */
export interface Operation<Input, Output> {
  readonly by: string;
  /** By one clock for all, such as `performance.now()`. */
  readonly invoked: number;
  readonly returned?: number;
  readonly input: Input;
  /** Undefined when the answer was lost. */
  readonly output?: Output;
}

/** The object as it behaves when only one call at a time is made. */
export interface SequentialModel<State, Input, Output> {
  readonly initial: State;
  /** The states that this call with this answer may lead to from `state`; none when it cannot have happened there. */
  step(state: State, operation: Operation<Input, Output>): readonly State[];
  /** Equal for states that behave the same. */
  key(state: State): string;
}

export type Verdict<Input, Output> =
  | { readonly linearizable: true }
  | {
      readonly linearizable: false;
      /** The first call whose answer no order explains. */
      readonly culprit: Operation<Input, Output>;
      /** The states that the object could have been in, as keys. */
      readonly states: readonly string[];
      /** The calls that had begun before its answer, the latest last. */
      readonly before: readonly Operation<Input, Output>[];
    };

/** Most states that are kept at one moment; a history that needs more has too many lost answers to be judged. */
const CONFIGURATIONS_MAX = 100_000;
const SHOWN_BEFORE = 12;

/** A state, and which of the calls under way have taken effect in it. */
interface Configuration<State> {
  readonly state: State;
  readonly effective: ReadonlySet<number>;
}

export function checkLinearizable<State, Input, Output>(
  history: readonly Operation<Input, Output>[],
  model: SequentialModel<State, Input, Output>,
): Verdict<Input, Output> {
  const moments = history.flatMap((operation, index) => [
    { at: operation.invoked, starts: true, index },
    ...(operation.returned === undefined ? [] : [{ at: operation.returned, starts: false, index }]),
  ]);
  // at the same moment starts come first: calls that touch count as concurrent
  moments.sort((a, b) => a.at - b.at || Number(b.starts) - Number(a.starts));

  const keyOf = ({ state, effective }: Configuration<State>) => `${[...effective].sort().join(",")}|${model.key(state)}`;
  const start: Configuration<State> = { state: model.initial, effective: new Set() };
  let possible = new Map([[keyOf(start), start]]);
  const underWay = new Set<number>();

  for (const { starts, index } of moments) {
    if (starts) {
      underWay.add(index);
      continue;
    }
    const reached = new Map<string, Configuration<State>>();
    const seen = new Set(possible.keys());
    const open = [...possible.values()];
    for (let next = open.pop(); next; next = open.pop()) {
      if (next.effective.has(index)) {
        const effective = new Set(next.effective);
        effective.delete(index);
        const answered = { state: next.state, effective };
        reached.set(keyOf(answered), answered);
        continue;
      }
      for (const candidate of underWay) {
        const operation = history[candidate];
        if (operation === undefined || next.effective.has(candidate)) continue;
        for (const state of model.step(next.state, operation)) {
          const configuration = { state, effective: new Set(next.effective).add(candidate) };
          const key = keyOf(configuration);
          if (seen.has(key)) continue;
          seen.add(key);
          if (seen.size > CONFIGURATIONS_MAX) throw new Error(`More than ${CONFIGURATIONS_MAX} states to look at`);
          open.push(configuration);
        }
      }
    }
    const culprit = history[index];
    if (reached.size === 0 && culprit !== undefined) {
      const before = history
        .filter((operation) => operation !== culprit && operation.invoked <= (culprit.returned ?? Number.POSITIVE_INFINITY))
        .sort((a, b) => a.invoked - b.invoked)
        .slice(-SHOWN_BEFORE);
      return { linearizable: false, culprit, states: [...possible.values()].map(({ state }) => model.key(state)), before };
    }
    possible = reached;
    underWay.delete(index);
  }
  return { linearizable: true };
}
