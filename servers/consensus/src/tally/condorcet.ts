import { rankingBallot } from "./option-ballot.ts";
import { optionRule } from "./option-rule.ts";
import { duelsOf, duelsStep, isSureOfAllDuels, winningVotes, winsOf } from "./pairwise.ts";

/** The option that wins its duel with every other. There may be none; then there is no consensus. */
export const condorcet = optionRule({
  name: "condorcet",
  ballots: rankingBallot,
  isSure: isSureOfAllDuels,
  tieBreak: false,
  elect(options, ballots) {
    const duels = duelsOf(options.length, ballots);
    const wins = winsOf(winningVotes(duels));
    const winners = [...wins.keys()].filter((place) => wins[place] === options.length - 1);
    return {
      winners,
      counts: wins,
      steps: [
        duelsStep(options, duels),
        { rule: winners.length > 0 ? "One option wins all its duels." : "No option wins all its duels." },
      ],
    };
  },
});
