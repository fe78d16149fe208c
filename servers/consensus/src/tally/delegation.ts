/** Delegated votes: who has not voted may have another vote with their weight too, directly or through others. */
import { assert } from "@mcp-swarm/core";
import type { Electorate } from "./rule.ts";

export interface DelegationCaps {
  /** Most delegations from a voter to who votes for them; 1 means that what was delegated cannot be delegated on. */
  readonly depthMax: number;
  /** Most weight that one voter votes with, their own included (which always counts). */
  readonly weightMax: number;
}

/** Why a delegation carried nothing. Of these, `no_ballot` is no vote at all; the others abstain. */
export type Uncarried = "no_ballot" | "cycle" | "too_deep" | "over_weight";

export interface Delegated {
  /** The same voters, the weight of each delegator moved to who votes for them; the sum stays. */
  readonly electorate: Electorate;
  /** Who was carried, and by whose ballot. */
  readonly carried: ReadonlyMap<string, string>;
  readonly uncarried: ReadonlyMap<string, Uncarried>;
  /** Delegators who are counted as abstaining, in order of their ids: a cycle, too long a chain, too much weight. */
  readonly abstaining: readonly string[];
}

/**
 * Follows each delegation to the first voter on its way who cast a ballot. An own ballot overrides one's delegation. Where a voter would
 * vote with more than `weightMax`, the nearest delegators are carried first, those equally near in the order of their ids, each
 * whole or not at all. Delegations of or to those who may not vote count as none.
 */
export function resolveDelegations(
  delegations: ReadonlyMap<string, string>,
  { eligible }: Electorate,
  cast: ReadonlySet<string>,
  { depthMax, weightMax }: DelegationCaps,
): Delegated {
  assert(depthMax >= 1, "a delegation may have a depth of one");
  const uncarried = new Map<string, Uncarried>();
  const reached: { voter: string; by: string; depth: number }[] = [];
  for (const voter of eligible.keys()) {
    if (cast.has(voter) || !delegations.has(voter)) continue;
    const end = follow(voter, delegations, eligible, cast, depthMax);
    if (typeof end === "string") uncarried.set(voter, end);
    else reached.push({ voter, ...end });
  }
  reached.sort((a, b) => a.depth - b.depth || (a.voter < b.voter ? -1 : 1));
  const weights = new Map(eligible);
  const carried = new Map<string, string>();
  for (const { voter, by } of reached) {
    const own = eligible.get(voter) ?? 0;
    const together = (weights.get(by) ?? 0) + own;
    if (together > weightMax) {
      uncarried.set(voter, "over_weight");
      continue;
    }
    weights.set(by, together);
    weights.set(voter, 0);
    carried.set(voter, by);
  }
  const abstaining = [...uncarried].filter(([, why]) => why !== "no_ballot").map(([voter]) => voter);
  return { electorate: { eligible: weights }, carried, uncarried, abstaining: abstaining.sort() };
}

/** Looks no further than `depthMax` delegations: a longer chain is too deep, wherever it leads. */
function follow(
  voter: string,
  delegations: ReadonlyMap<string, string>,
  eligible: ReadonlyMap<string, number>,
  cast: ReadonlySet<string>,
  depthMax: number,
): { by: string; depth: number } | Exclude<Uncarried, "over_weight"> {
  const met = new Set([voter]);
  let at = voter;
  for (let depth = 1; depth <= depthMax; depth++) {
    const next = delegations.get(at);
    if (next === undefined || !eligible.has(next)) return "no_ballot";
    if (cast.has(next)) return { by: next, depth };
    if (met.has(next)) return "cycle";
    met.add(next);
    at = next;
  }
  return "too_deep";
}
