/** What all methods over yes and no have in common: quorum first, then vetoes, then what a side needs, then ties. */
import type { Ballot, Electorate, Method, Outcome, Rule, Settings, Step, Tally, Turnout } from "./rule.ts";
import { ABSTAIN, checkSettings, refuse, type Takes, tieBreakOf, YES_NO } from "./settings.ts";
import { earlyStep, turnoutOf, turnoutStep, votersStep, warningsOf } from "./turnout.ts";

/** Weights, as one side sees them. */
export interface Sides {
  readonly other: number;
  /** Yes and no together. */
  readonly cast: number;
  /** Yes, no and abstentions. */
  readonly present: number;
  readonly eligible: number;
}

export interface YesNoMethod {
  readonly name: Method;
  readonly takes: Omit<Takes, "options" | "quorum" | "vetoHolders">;
  /** A sentence that says what a side needs. */
  says(settings: Settings): string;
  /** The weight that a side needs to win; more than half of something, so that never both have it. */
  needed(settings: Settings, sides: Sides): number;
  check?(settings: Settings): void;
}

/** All that the outcome depends on. */
interface Count {
  readonly turnout: Turnout;
  readonly yes: number;
  readonly no: number;
  readonly vetoes: readonly string[];
  /** What the chair said, where there is one and voted. */
  readonly chair: string | undefined;
}

interface Settled {
  readonly outcome: Outcome;
  readonly winners: readonly string[];
  readonly steps: readonly Step[];
}

/** A side wins when it has what the method asks: yes is then accepted, no rejected. If neither has, there is no consensus. */
export function yesNoRule(method: YesNoMethod): Rule {
  const { name } = method;
  const takes = { ...method.takes, quorum: true, vetoHolders: true };

  function settle(settings: Settings, { turnout, yes, no, vetoes, chair }: Count): Settled {
    const { voted, abstained, eligible, quorum } = turnout;
    const steps: Step[] = [
      { rule: "Ballots are counted by weight.", counts: { yes, no, abstain: abstained } },
      turnoutStep(turnout),
    ];
    if (voted < quorum) return { outcome: "no_quorum", winners: [], steps };
    if (vetoes.length > 0) {
      steps.push(votersStep("A holder of a veto said no.", vetoes));
      return { outcome: "vetoed", winners: [], steps };
    }
    if (yes + no === 0) {
      steps.push({ rule: "Nobody said yes or no." });
      return { outcome: "no_consensus", winners: [], steps };
    }
    const sides = { cast: yes + no, present: voted, eligible };
    const needed = {
      yes: method.needed(settings, { ...sides, other: no }),
      no: method.needed(settings, { ...sides, other: yes }),
    };
    steps.push({ rule: method.says(settings), counts: needed });
    if (yes >= needed.yes) return { outcome: "accepted", winners: ["yes"], steps };
    if (no >= needed.no) return { outcome: "rejected", winners: ["no"], steps };
    if (!takes.tieBreak) return { outcome: "no_consensus", winners: [], steps };
    const tieBreak = tieBreakOf(settings);
    if (tieBreak.kind === "status_quo") {
      steps.push({ rule: "A tie, and as declared it leaves things as they are." });
      return { outcome: "rejected", winners: ["no"], steps };
    }
    if (tieBreak.kind === "chair" && (chair === "yes" || chair === "no")) {
      steps.push({ rule: "A tie, and as declared the chair's ballot decides it.", voters: [tieBreak.voter] });
      return { outcome: chair === "yes" ? "accepted" : "rejected", winners: [chair], steps };
    }
    steps.push({ rule: "A tie, and nothing that was declared decides it." });
    return { outcome: "tied", winners: YES_NO, steps };
  }

  function tallyOf(settings: Settings, count: Count, ballots: readonly Ballot[], more: readonly Step[] = []): Tally {
    const { outcome, winners, steps } = settle(settings, count);
    return {
      outcome,
      winners,
      counts: { yes: count.yes, no: count.no },
      scale: 1,
      turnout: count.turnout,
      steps: [...steps, ...more],
      warnings: warningsOf(ballots),
    };
  }

  return {
    name,
    check(settings, electorate) {
      checkSettings(name, takes, settings, electorate);
      method.check?.(settings);
    },
    checkBallot: (_, ballot) => checkYesNo(ballot),
    tally: (settings, electorate, ballots) => tallyOf(settings, countOf(settings, electorate, ballots), ballots),
    decided(settings, electorate, ballots) {
      const count = countOf(settings, electorate, ballots);
      const { turnout } = count;
      const remaining = turnout.eligible - turnout.voted;
      if (remaining === 0) return tallyOf(settings, count, ballots);
      // Each side's weight counts for it and against the other, so what can happen lies between these and what is now. A chair
      // who has not voted needs no look: a tie that it would decide differs from the rest already.
      const voters = new Set(ballots.map(({ voter }) => voter));
      const vetoesLeft = (settings.vetoHolders ?? []).filter((holder) => electorate.eligible.has(holder) && !voters.has(holder));
      const full = { ...turnout, voted: turnout.eligible };
      const ends: Count[] = [
        { ...count, turnout: full, yes: count.yes + remaining },
        { ...count, turnout: full, no: count.no + remaining, vetoes: [...count.vetoes, ...vetoesLeft] },
        { ...count, turnout: { ...full, abstained: turnout.abstained + remaining } },
      ];
      const now = settle(settings, count);
      if (ends.some((end) => !sameResult(settle(settings, end), now))) return undefined;
      return tallyOf(settings, count, ballots, [earlyStep(turnout)]);
    },
  };
}

export function sameResult(a: Pick<Settled, "outcome" | "winners">, b: Pick<Settled, "outcome" | "winners">): boolean {
  return (
    a.outcome === b.outcome && a.winners.length === b.winners.length && a.winners.every((winner, at) => winner === b.winners[at])
  );
}

function countOf(settings: Settings, electorate: Electorate, ballots: readonly Ballot[]): Count {
  const turnout = turnoutOf(settings, electorate, ballots);
  const weights = { yes: 0, no: 0 };
  const holders = new Set(settings.vetoHolders);
  const tieBreak = tieBreakOf(settings);
  const vetoes: string[] = [];
  let chair: string | undefined;
  for (const { voter, choice, equivocated } of ballots) {
    if (equivocated) continue;
    if (choice === "yes" || choice === "no") weights[choice] += electorate.eligible.get(voter) ?? 0;
    if (choice === "no" && holders.has(voter)) vetoes.push(voter);
    if (tieBreak.kind === "chair" && tieBreak.voter === voter) chair = choice;
  }
  return { turnout, ...weights, vetoes, chair };
}

function checkYesNo({ choice, ranking, scores }: Ballot): void {
  if (ranking !== undefined) refuse("ranking", "does not go with a vote over yes and no", "Give vote alone.");
  if (scores !== undefined) refuse("scores", "does not go with a vote over yes and no", "Give vote alone.");
  if (choice !== "yes" && choice !== "no" && choice !== ABSTAIN) {
    refuse("vote", "must be yes, no or abstain", "Vote yes, no or abstain.");
  }
}
