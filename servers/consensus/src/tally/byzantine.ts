/**
 * A decision that Byzantine voters cannot forge while the tally is trusted. Of n voters up to f = floor((n-1)/3) may lie; a choice is
 * decided by q = floor((n+f)/2)+1 equal signed ballots. Any two such sets share more than f voters, so at least one honest one,
 * and an honest voter signs one ballot (Bracha and Toueg 1985; quorums as of Malkhi and Reiter 1998).
 */

import { checkChoice } from "./option-ballot.ts";
import type { Ballot, Electorate, Rule, Settings, Step, Tally } from "./rule.ts";
import { BYZANTINE_VOTERS_MIN, OPTIONS_MAX } from "./rule.ts";
import { checkSettings, optionsOf, refuse } from "./settings.ts";
import { earlyStep, turnoutOf, votersStep, warningsOf } from "./turnout.ts";

export interface ByzantineBounds {
  /** Voters that may lie without harm. */
  readonly faults: number;
  /** Equal signed ballots that decide. */
  readonly needed: number;
}

export function byzantineBounds(voters: number): ByzantineBounds {
  const faults = Math.floor((voters - 1) / 3);
  return { faults, needed: Math.floor((voters + faults) / 2) + 1 };
}

export const byzantine: Rule = {
  name: "byzantine",
  check(settings, electorate) {
    checkSettings("byzantine", { options: { max: OPTIONS_MAX } }, settings, electorate);
    if (settings.method !== undefined) refuse("method", "does not go with algorithm byzantine", "Leave it out.");
    if (electorate.eligible.size < BYZANTINE_VOTERS_MIN) {
      refuse("participants", `must name at least ${BYZANTINE_VOTERS_MIN} voters for algorithm byzantine`, "Name more voters.");
    }
  },
  checkBallot: checkChoice,
  tally: (settings, electorate, ballots) => count(settings, electorate, ballots).tally,
  decided(settings, electorate, ballots) {
    const { tally, remaining, highest, needed } = count(settings, electorate, ballots);
    if (remaining === 0) return tally;
    // Liars that are known stay known, a choice that has enough ballots ends the vote, and one out of reach stays so.
    const certain = tally.outcome !== "no_consensus" || needed === undefined || highest + remaining < needed;
    return certain ? { ...tally, steps: [...tally.steps, earlyStep(tally.turnout)] } : undefined;
  },
};

interface Counted {
  readonly tally: Tally;
  /** Voters who have said nothing yet. */
  readonly remaining: number;
  /** Ballots for the choice that has most. */
  readonly highest: number;
  /** Undefined where no number of ballots decides any more. */
  readonly needed: number | undefined;
}

function count(settings: Settings, { eligible }: Electorate, ballots: readonly Ballot[]): Counted {
  // A voter is a voter: Byzantine bounds are over heads, so weights do not count.
  const heads = new Map([...eligible.keys()].map((voter) => [voter, 1]));
  const turnout = turnoutOf(settings, { eligible: heads }, ballots);
  const options = optionsOf(settings);
  const counts = new Map(options.map((option) => [option, 0]));
  const equivocators: string[] = [];
  for (const { voter, choice, equivocated } of ballots) {
    if (equivocated) equivocators.push(voter);
    else if (choice !== undefined && counts.has(choice)) counts.set(choice, (counts.get(choice) ?? 0) + 1);
  }
  const { faults, needed } = byzantineBounds(heads.size);
  const steps: Step[] = [
    { rule: "Equal ballots are counted, one a voter.", counts: Object.fromEntries(counts) },
    {
      rule: "Among so many voters up to `faults` may lie, and `needed` equal ballots decide.",
      counts: { voters: heads.size, faults, needed },
    },
  ];
  if (equivocators.length > 0) {
    steps.push(votersStep("Signed two different ballots: none of them counts.", equivocators));
  }
  const highest = Math.max(...counts.values());
  const hopeless =
    heads.size < BYZANTINE_VOTERS_MIN
      ? `Fewer than ${BYZANTINE_VOTERS_MIN} voters are left: one that lies could not be outvoted.`
      : equivocators.length > faults
        ? "More voters lied than the rule can bear: nothing can be decided."
        : undefined;
  if (hopeless !== undefined) steps.push({ rule: hopeless });
  const winners = hopeless === undefined && highest >= needed ? options.filter((option) => counts.get(option) === highest) : [];
  if (hopeless === undefined) {
    steps.push({
      rule: winners.length > 0 ? "So many equal ballots were cast." : "No choice has so many equal ballots.",
      options: winners,
    });
  }
  const [winner] = winners;
  return {
    tally: {
      outcome:
        winner === undefined
          ? "no_consensus"
          : settings.options !== undefined
            ? "elected"
            : winner === "yes"
              ? "accepted"
              : "rejected",
      winners,
      counts: Object.fromEntries(counts),
      scale: 1,
      turnout,
      steps,
      warnings: warningsOf(ballots),
    },
    remaining: turnout.eligible - turnout.voted,
    highest,
    needed: hopeless === undefined ? needed : undefined,
  };
}
