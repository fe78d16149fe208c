/** What a ballot says about options, and how much each option is worth to its voter. */
import { type Ballot, CERTAIN, SCORE_MAX, type Settings } from "./rule.ts";
import { ABSTAIN, optionsOf, refuse } from "./settings.ts";

/** A kind of ballot: what it must hold, and what it says. */
export interface BallotKind {
  /** Throws `invalid_argument` naming the field at fault. */
  check(settings: Settings, ballot: Ballot): void;
  /** For each option a whole number, more for what the voter likes more; equal numbers mean equal. Not for who abstains. */
  worth(options: readonly string[], ballot: Ballot): number[];
}

function checkMember(options: readonly string[], field: string, option: string): void {
  if (!options.includes(option))
    refuse(field, "names what is no option of this vote", "Read the vote and use its options as written.");
}

function checkNone(ballot: Ballot, kind: string, fields: readonly ("ranking" | "scores")[]): void {
  for (const field of fields) {
    if (ballot[field] !== undefined) refuse(field, `does not go with ${kind}`, "Leave it out.");
  }
}

/** True for an abstention, after checking that it says nothing else. */
function abstains(ballot: Ballot): boolean {
  if (ballot.choice !== ABSTAIN) return false;
  checkNone(ballot, 'vote "abstain"', ["ranking", "scores"]);
  return true;
}

export function checkChoice(settings: Settings, ballot: Ballot): void {
  if (abstains(ballot)) return;
  checkNone(ballot, "this method", ["ranking", "scores"]);
  const { choice } = ballot;
  if (choice === undefined) refuse("vote", "is missing", "Name the option you choose, or abstain.");
  else checkMember(optionsOf(settings), "vote", choice);
}

/** One option. */
export const choiceBallot: BallotKind = {
  check: checkChoice,
  worth: (options, { choice }) => options.map((option) => (option === choice ? 1 : 0)),
};

/**
 * Options in order, best first, equals together. What is left out is equally last, and worth 0; a ranked option is worth more the
 * earlier it stands. A choice alone ranks that option and no other.
 */
export const rankingBallot: BallotKind = {
  check(settings, ballot) {
    if (abstains(ballot)) return;
    checkNone(ballot, "a method over rankings", ["scores"]);
    const options = optionsOf(settings);
    const { ranking, choice } = ballot;
    if (choice !== undefined) checkMember(options, "vote", choice);
    if (ranking === undefined) {
      if (choice === undefined) refuse("ranking", "is missing", "Rank the options, best first, or abstain.");
      return;
    }
    const ranked = ranking.flat();
    for (const option of ranked) checkMember(options, "ranking", option);
    if (ranked.length === 0 || ranking.some((rank) => rank.length === 0)) {
      refuse("ranking", "holds an empty rank or nothing", "Rank at least one option, or abstain.");
    }
    if (new Set(ranked).size < ranked.length) refuse("ranking", "names an option twice", "Name each option at most once.");
    if (choice !== undefined && !ranking[0]?.includes(choice)) {
      refuse("vote", "is not the first in the ranking", "Leave vote out: the ranking says it.");
    }
  },
  worth(options, { ranking, choice }) {
    const worths = new Map<string, number>();
    const ranks = ranking ?? (choice === undefined ? [] : [[choice]]);
    for (const [at, rank] of ranks.entries()) for (const option of rank) worths.set(option, options.length - at);
    return options.map((option) => worths.get(option) ?? 0);
  },
};

function scoresUpTo(max: number): BallotKind {
  return {
    check(settings, ballot) {
      if (abstains(ballot)) return;
      checkNone(ballot, "a method over scores", ["ranking"]);
      const { scores, choice } = ballot;
      const options = optionsOf(settings);
      if (choice !== undefined) checkMember(options, "vote", choice);
      if (scores === undefined) {
        if (choice === undefined || max > 1) refuse("scores", "is missing", `Give options 0 to ${max}, or abstain.`);
        return;
      }
      const given = Object.entries(scores);
      for (const [option, score] of given) {
        checkMember(options, "scores", option);
        if (!Number.isInteger(score) || score < 0 || score > max) {
          refuse("scores", `must hold whole numbers from 0 to ${max}`, `Give each option 0 to ${max}.`);
        }
      }
      if (given.length === 0) refuse("scores", "is empty", "Give at least one option a score, or abstain.");
      if (choice !== undefined && given.some(([, score]) => score > (scores[choice] ?? 0))) {
        refuse("vote", "has not the highest of the scores", "Leave vote out: the scores say it.");
      }
    },
    worth(options, { scores, choice }) {
      if (scores === undefined) return options.map((option) => (option === choice ? max : 0));
      return options.map((option) => (Object.hasOwn(scores, option) ? (scores[option] ?? 0) : 0));
    },
  };
}

/** A score for each option. */
export const scoreBallot = scoresUpTo(SCORE_MAX);

/** Any number of options: score 1 for each that the voter approves of. A choice alone approves of that option. */
export const approvalBallot = scoresUpTo(1);

/** How probable the voter holds each option, given that the rest is shared by the others equally. */
function probabilities(options: readonly string[], { choice, confidence = 0 }: Ballot, sure: number): number[] {
  const others = options.length - 1;
  const stated = Math.min(Math.max(confidence, CERTAIN - sure), sure);
  return options.map((option) => (option === choice ? stated * others : CERTAIN - stated));
}

function confidenceBallot(sure: number): BallotKind {
  return {
    check(settings, ballot) {
      checkChoice(settings, ballot);
      if (ballot.choice === ABSTAIN) return;
      const { confidence } = ballot;
      if (confidence === undefined || !Number.isInteger(confidence) || confidence < 0 || confidence > CERTAIN) {
        refuse("confidence", "must say how probable it is that your choice is right", "State a confidence, or abstain.");
      }
    },
    worth: (options, ballot) => probabilities(options, ballot, sure),
  };
}

/**
 * An option with the probability, per mille, that it is right; what is left is shared by the others. In units that sum to
 * CERTAIN × (options - 1), so that equal shares are whole.
 */
export const beliefBallot = confidenceBallot(CERTAIN);

/** The same between 1 and 999 per mille: a product would let whoever is certain overrule everyone else. */
export const humbleBeliefBallot = confidenceBallot(CERTAIN - 1);
