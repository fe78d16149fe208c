/**
 * All keys of one scope as they behave when one call at a time is made: one counter of revisions that each change moves by
 * exactly one, whatever it changes. Stricter than a key by itself: an order of calls that explains it explains every key.
 */
import type { Json } from "@mcp-swarm/core";
import type { SequentialModel } from "./linearizability.ts";

/** `value` is written when `delete` is not given. */
export type SpaceWrite = { key: string } & ({ value: Json } | { delete: true } | { increment: number });
export type SpaceInput =
  | { call: "get"; key: string }
  | { call: "set"; key: string; value: Json; ifRev?: number }
  | { call: "increment"; key: string; by: number }
  | { call: "append"; key: string; item: Json; maxItems: number }
  | { call: "delete"; key: string }
  | { call: "transact"; checks: readonly { key: string; ifRev: number }[]; writes: readonly SpaceWrite[] };
/** `rev` is the revision that was read or made; `value` what was read or came of the change, where the answer says so. */
export type SpaceOutput = { ok: true; rev: number; value?: Json } | { ok: false; code: string };

export interface SpaceState {
  readonly rev: number;
  readonly keys: Readonly<Record<string, { readonly rev: number; readonly value: Json }>>;
}

const same = (one: Json | undefined, other: Json | undefined) => JSON.stringify(one) === JSON.stringify(other);

type Keys = SpaceState["keys"];
type Applied = { keys: Keys } | { refused: string };

/** The keys as a call leaves them, or why it cannot be done. */
function apply({ rev, keys }: SpaceState, input: SpaceInput): Applied {
  const next = rev + 1;
  switch (input.call) {
    case "get":
      return keys[input.key] ? { keys } : { refused: "not_found" };
    case "set":
      if (input.ifRev !== undefined && input.ifRev !== (keys[input.key]?.rev ?? 0)) return { refused: "conflict" };
      return { keys: { ...keys, [input.key]: { rev: next, value: input.value } } };
    case "increment": {
      const value = keys[input.key]?.value ?? 0;
      if (typeof value !== "number") return { refused: "failed_precondition" };
      return { keys: { ...keys, [input.key]: { rev: next, value: value + input.by } } };
    }
    case "append": {
      const value = keys[input.key]?.value ?? [];
      if (!Array.isArray(value)) return { refused: "failed_precondition" };
      return { keys: { ...keys, [input.key]: { rev: next, value: [...value, input.item].slice(-input.maxItems) } } };
    }
    case "delete":
      return keys[input.key] ? { keys: without(keys, input.key) } : { refused: "not_found" };
    case "transact": {
      for (const { key, ifRev } of input.checks) if (ifRev !== (keys[key]?.rev ?? 0)) return { refused: "conflict" };
      let after = keys;
      for (const write of input.writes) {
        if ("delete" in write) after = without(after, write.key);
        else if ("increment" in write) {
          const changed = apply({ rev, keys: after }, { call: "increment", key: write.key, by: write.increment });
          if ("refused" in changed) return changed;
          after = changed.keys;
        } else after = { ...after, [write.key]: { rev: next, value: write.value } };
      }
      return { keys: after };
    }
  }
}

function without(keys: Keys, key: string): Keys {
  const { [key]: _, ...others } = keys;
  return others;
}

/** A transaction that only deletes what is not there changes nothing and takes no revision. */
function changesNothing({ keys }: SpaceState, input: SpaceInput): boolean {
  return input.call === "transact" && input.writes.every((write) => "delete" in write && !keys[write.key]);
}

export const stateSpace: SequentialModel<SpaceState, SpaceInput, SpaceOutput> = {
  initial: { rev: 0, keys: {} },
  key: ({ rev, keys }) => JSON.stringify([rev, Object.entries(keys).sort(([one], [two]) => (one < two ? -1 : 1))]),
  step(state, { input, output }) {
    const applied = apply(state, input);
    if ("refused" in applied) return output === undefined || (!output.ok && output.code === applied.refused) ? [state] : [];
    const { keys } = applied;
    if (output !== undefined && !output.ok) return [];
    const read = "key" in input ? keys[input.key] : undefined;
    if (output?.value !== undefined && !same(output.value, read?.value)) return [];
    if (input.call === "get") return output === undefined || output.rev === read?.rev ? [state] : [];
    const after = changesNothing(state, input) ? state : { rev: state.rev + 1, keys };
    return output === undefined || output.rev === after.rev ? [after] : [];
  },
};
