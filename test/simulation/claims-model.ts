/** One task that is claimed and finished, as it behaves when one call at a time is made. */
import type { Operation, SequentialModel } from "../support/linearizability.ts";

export type ClaimInput =
  | { readonly kind: "claim" }
  /** Done, with the token of the claim. */
  | { readonly kind: "finish"; readonly token: number };
export type ClaimOutput =
  | { readonly kind: "claimed"; readonly token: number }
  /** Someone holds it, it is done, or the token is not the last one. */
  | { readonly kind: "refused" }
  | { readonly kind: "finished" };
export type ClaimOperation = Operation<ClaimInput, ClaimOutput>;

interface ClaimState {
  /** Of the last claim. */
  readonly token: number;
  readonly status: "free" | "held" | "done";
}

function answer(state: ClaimState, input: ClaimInput): { output: ClaimOutput; next: ClaimState } {
  if (input.kind === "claim") {
    if (state.status !== "free") return { output: { kind: "refused" }, next: state };
    const token = state.token + 1;
    return { output: { kind: "claimed", token }, next: { token, status: "held" } };
  }
  if (state.status !== "held" || state.token !== input.token) return { output: { kind: "refused" }, next: state };
  return { output: { kind: "finished" }, next: { ...state, status: "done" } };
}

function same(a: ClaimOutput, b: ClaimOutput): boolean {
  return a.kind === b.kind && (a.kind !== "claimed" || b.kind !== "claimed" || a.token === b.token);
}

/** A claim may end at any moment between two calls: its lease runs out, or another resets the task. */
export const claimsModel: SequentialModel<ClaimState, ClaimInput, ClaimOutput> = {
  initial: { token: 0, status: "free" },
  step(state, { input, output }) {
    const froms: ClaimState[] = state.status === "held" ? [state, { ...state, status: "free" }] : [state];
    return froms.flatMap((from) => {
      const made = answer(from, input);
      return output === undefined || same(made.output, output) ? [made.next] : [];
    });
  },
  key: ({ token, status }) => `${token}${status}`,
};
