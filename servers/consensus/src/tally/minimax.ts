import { rankingBallot } from "./option-ballot.ts";
import { highestOf, named, optionRule, orderOf } from "./option-rule.ts";
import { duelsOf, duelsStep, isSureOfAllDuels, winningVotes } from "./pairwise.ts";

/** The option whose worst defeat is the smallest, by winning votes (Simpson and Kramer). */
export const minimax = optionRule({
  name: "minimax",
  ballots: rankingBallot,
  isSure: isSureOfAllDuels,
  elect(options, ballots) {
    const duels = duelsOf(options.length, ballots);
    const wins = winningVotes(duels);
    const worst = options.map((_, place) => Math.max(...wins.map((row) => row[place] ?? 0)));
    const mildness = worst.map((votes) => -votes);
    return {
      winners: highestOf(mildness),
      counts: worst,
      order: orderOf(mildness),
      steps: [
        duelsStep(options, duels),
        { rule: "Minimax: the worst defeat of each option; the smallest wins.", counts: named(options, worst) },
      ],
    };
  },
});
