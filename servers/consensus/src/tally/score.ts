import { scoreBallot } from "./option-ballot.ts";
import { mostWins, named, optionRule, totals } from "./option-rule.ts";
import { SCORE_MAX } from "./rule.ts";

/** Each ballot scores each option; the highest sum wins. */
export const score = optionRule({
  name: "score",
  ballots: scoreBallot,
  worthMax: SCORE_MAX,
  elect(options, ballots) {
    const sums = totals(options.length, ballots);
    return mostWins(sums, [{ rule: "Score: the option with the highest sum.", counts: named(options, sums) }]);
  },
});
