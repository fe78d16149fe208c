import { choiceBallot } from "./option-ballot.ts";
import { mostWins, named, optionRule, totals } from "./option-rule.ts";

/** One option a ballot; most ballots win. */
export const plurality = optionRule({
  name: "plurality",
  ballots: choiceBallot,
  yesNo: true,
  worthMax: 1,
  elect(options, ballots) {
    const votes = totals(options.length, ballots);
    return mostWins(votes, [{ rule: "Plurality: the option that most chose.", counts: named(options, votes) }]);
  },
});
