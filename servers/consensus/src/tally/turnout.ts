/** Who voted, and what follows from that alone under every rule. */
import { assert } from "@mcp-swarm/core";
import type { Ballot, Electorate, Settings, Step, Turnout } from "./rule.ts";
import { ABSTAIN, quorumOf, total } from "./settings.ts";

/** Throws `internal` unless each ballot is that of another eligible voter. */
export function turnoutOf(settings: Settings, { eligible }: Electorate, ballots: readonly Ballot[]): Turnout {
  const seen = new Set<string>();
  let voted = 0;
  let abstained = 0;
  for (const ballot of ballots) {
    const weight = eligible.get(ballot.voter);
    assert(weight !== undefined && !seen.has(ballot.voter), "each ballot is that of another eligible voter");
    seen.add(ballot.voter);
    voted += weight;
    if (ballot.choice === ABSTAIN) abstained += weight;
  }
  const all = total(eligible.values());
  return { eligible: all, voted, abstained, quorum: quorumOf(settings, all) };
}

export function turnoutStep({ eligible, voted, abstained, quorum }: Turnout): Step {
  return {
    rule:
      voted < quorum
        ? "Fewer voted than the quorum asks, abstentions included."
        : "Enough voted for the quorum, abstentions included.",
    counts: { eligible, voted, abstained, quorum },
  };
}

/** Added to a result that stands before all have voted. */
export function earlyStep({ eligible, voted }: Turnout): Step {
  return { rule: "Decided early: no ballot that may still come can change it.", counts: { remaining: eligible - voted } };
}

/** Voters that a step names; how many there are it says. */
const VOTERS_SHOWN_MAX = 100;

/** A step about some voters, the first of them by name. */
export function votersStep(rule: string, voters: readonly string[]): Step {
  return { rule, voters: [...voters].sort().slice(0, VOTERS_SHOWN_MAX), counts: { voters: voters.length } };
}

export const ONE_FAMILY =
  "All ballots come from models of one family. What one of them gets wrong the others are likely to get wrong too: the agreement weighs less than it seems.";

/** Agreement of one model with itself is no second opinion. Silent unless every ballot names its family. */
export function warningsOf(ballots: readonly Ballot[]): string[] {
  const [first, ...others] = ballots;
  const family = first?.modelFamily?.trim().toLowerCase();
  if (!family || others.length === 0) return [];
  return others.every(({ modelFamily }) => modelFamily?.trim().toLowerCase() === family) ? [ONE_FAMILY] : [];
}
