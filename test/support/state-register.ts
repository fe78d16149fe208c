/** One key of shared state as it behaves when only one call at a time is made: for histories of many. */
import type { Json } from "@mcp-swarm/core";
import type { SequentialModel } from "./linearizability.ts";

export type RegisterInput =
  | { call: "get" }
  | { call: "set"; value: Json; ifRev?: number }
  | { call: "increment"; by: number }
  | { call: "delete" };
/** `rev` is the revision that was read or made; `value` what was read, or what a count came to. */
export type RegisterOutput = { ok: true; rev: number; value?: Json } | { ok: false; code: string };

interface State {
  /** 0 when there is no value. */
  readonly rev: number;
  readonly value: Json;
  /** The highest revision it ever had: a deletion has one too. */
  readonly highest: number;
}

export const register: SequentialModel<State, RegisterInput, RegisterOutput> = {
  initial: { rev: 0, value: null, highest: 0 },
  key: (state) => JSON.stringify(state),
  step(state, { input, output }) {
    if (output === undefined) throw new Error("Nobody is killed in these histories");
    const moved = (value: Json): State[] =>
      output.ok && output.rev > state.highest ? [{ rev: output.rev, value, highest: output.rev }] : [];
    const refused = (code: string, when: boolean): State[] => (!output.ok && output.code === code && when ? [state] : []);
    switch (input.call) {
      case "get":
        if (!output.ok) return refused("not_found", state.rev === 0);
        return output.rev === state.rev && JSON.stringify(output.value) === JSON.stringify(state.value) ? [state] : [];
      case "set":
        if (!output.ok) return refused("conflict", input.ifRev !== undefined && input.ifRev !== state.rev);
        return input.ifRev === undefined || input.ifRev === state.rev ? moved(input.value) : [];
      case "increment": {
        const fits = state.rev === 0 || typeof state.value === "number";
        if (!output.ok) return refused("failed_precondition", !fits);
        const sum = (state.rev === 0 ? 0 : (state.value as number)) + input.by;
        return fits && output.value === sum ? moved(sum) : [];
      }
      case "delete":
        if (!output.ok) return refused("not_found", state.rev === 0);
        if (state.rev === 0 || output.rev <= state.highest) return [];
        return [{ rev: 0, value: null, highest: output.rev }];
    }
  },
};
