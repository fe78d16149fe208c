import { approvalBallot } from "./option-ballot.ts";
import { mostWins, named, optionRule, totals } from "./option-rule.ts";

/** Each ballot approves of any number of options; most approvals win. */
export const approval = optionRule({
  name: "approval",
  ballots: approvalBallot,
  worthMax: 1,
  elect(options, ballots) {
    const approvals = totals(options.length, ballots);
    return mostWins(approvals, [{ rule: "Approval: the option that most approve of.", counts: named(options, approvals) }]);
  },
});
