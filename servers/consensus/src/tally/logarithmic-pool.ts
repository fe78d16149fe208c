import { humbleBeliefBallot } from "./option-ballot.ts";
import { highestOf, named, optionRule, orderOf, type Valued, type Verdict } from "./option-rule.ts";
import { CERTAIN } from "./rule.ts";
import { fraction, total } from "./settings.ts";

/** Logarithms are whole numbers of this part of one. */
const LOG_UNIT = 1e12;
/** Probabilities are compared with the threshold as whole numbers of this part of one. */
const SHARE_UNIT = 1e9;

/**
 * The weighted geometric mean of the probabilities that the voters state, made to sum to one (Genest and Zidek 1986). Who has the
 * highest is decided by sums of logarithms in whole units of 1e-12, each number's being the sum of its prime factors': equal
 * products are thus equal exactly, and only products closer than the rounding may be told apart the wrong way. The threshold is
 * compared at 1e-9, the counts are rounded to the nearest per mille.
 */
export const logarithmicPool = optionRule({
  name: "logarithmic_pool",
  ballots: humbleBeliefBallot,
  threshold: true,
  yesNo: true,
  elect(options, ballots, { threshold }): Verdict {
    const logs = options.map((_, place) => logOfProduct(place, ballots));
    const sorted = ascending(logs);
    const ranks = logs.map((log) => sorted.indexOf(log));
    const shares = sharesOf(logs, total(ballots.map(({ weight }) => weight)));
    const counts = shares.map((share) => Math.round(share * CERTAIN));
    const least = threshold === undefined ? { numerator: 0, denominator: 1 } : fraction("threshold", threshold);
    const reaches = (place: number) =>
      Math.round((shares[place] ?? 0) * SHARE_UNIT) * least.denominator >= SHARE_UNIT * least.numerator;
    return {
      winners: highestOf(ranks).filter(reaches),
      counts,
      scale: CERTAIN,
      order: orderOf(ranks),
      steps: [
        {
          rule:
            threshold === undefined
              ? "Logarithmic pool: the geometric mean of the stated probabilities, per mille; 0 and 1000 were taken as 1 and 999."
              : `Logarithmic pool: the geometric mean of the stated probabilities, per mille; 0 and 1000 were taken as 1 and 999; the highest must reach ${threshold}.`,
          counts: named(options, counts),
        },
      ],
    };
  },
});

/** Of the product of what all ballots give the option, each to the power of its weight. */
function logOfProduct(place: number, ballots: readonly Valued[]): bigint {
  const weights = new Map<number, number>();
  for (const { weight, worth } of ballots) {
    const value = worth[place] ?? 1;
    weights.set(value, (weights.get(value) ?? 0) + weight);
  }
  let log = 0n;
  for (const [value, weight] of weights) log += BigInt(weight) * logOf(value);
  return log;
}

/** Of a whole number from 1 up to CERTAIN times the number of options. */
function logOf(value: number): bigint {
  let log = 0n;
  let left = value;
  for (let factor = 2; left > 1; factor++) {
    if (factor * factor > left) factor = left;
    while (left % factor === 0) {
      log += BigInt(Math.round(Math.log(factor) * LOG_UNIT));
      left /= factor;
    }
  }
  return log;
}

function ascending(numbers: readonly bigint[]): bigint[] {
  return [...numbers].sort((a, b) => (a < b ? -1 : Number(a > b)));
}

function sharesOf(logs: readonly bigint[], weight: number): number[] {
  const highest = ascending(logs).at(-1) ?? 0n;
  const means = logs.map((log) => Math.exp(Number(log - highest) / LOG_UNIT / weight));
  const all = total(means);
  return means.map((mean) => mean / all);
}
