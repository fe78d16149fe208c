import { beliefBallot } from "./option-ballot.ts";
import { highestOf, named, optionRule, orderOf, totals, type Verdict } from "./option-rule.ts";
import { CERTAIN } from "./rule.ts";
import { fraction, total } from "./settings.ts";

/**
 * The weighted mean of the probabilities that the voters state (Stone 1961). Which is highest, and whether it reaches the threshold, is
 * decided exactly; only the counts are rounded, to the nearest per mille.
 */
export const linearPool = optionRule({
  name: "linear_pool",
  ballots: beliefBallot,
  threshold: true,
  yesNo: true,
  elect(options, ballots, { threshold }): Verdict {
    const sums = totals(options.length, ballots);
    const all = total(sums);
    const counts = sums.map((sum) => Number((2n * BigInt(sum) * BigInt(CERTAIN) + BigInt(all)) / (2n * BigInt(all))));
    const { numerator, denominator } = fraction("threshold", threshold ?? "1/1000");
    const reaches = (place: number) => BigInt(sums[place] ?? 0) * BigInt(denominator) >= BigInt(all) * BigInt(numerator);
    return {
      winners: highestOf(sums).filter((place) => threshold === undefined || reaches(place)),
      counts,
      scale: CERTAIN,
      order: orderOf(sums),
      steps: [
        {
          rule:
            threshold === undefined
              ? "Linear pool: the mean of the stated probabilities, per mille."
              : `Linear pool: the mean of the stated probabilities, per mille; the highest must reach ${threshold}.`,
          counts: named(options, counts),
        },
      ],
    };
  },
});
