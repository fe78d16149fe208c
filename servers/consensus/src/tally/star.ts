/** Score, then automatic runoff (equal.vote). */
import { scoreBallot } from "./option-ballot.ts";
import { highestOf, named, optionRule, totals, type Valued, type Verdict } from "./option-rule.ts";
import { duelsOf, sureWinnerOfDuels } from "./pairwise.ts";
import { SCORE_MAX, type Step } from "./rule.ts";

/**
 * Of the two options with the highest sums that one wins which more ballots score higher; if as many do, the one with the higher
 * sum. Where equal sums leave open who the two are, every pair that may be has its runoff, and all their winners win.
 */
export const star = optionRule({
  name: "star",
  ballots: scoreBallot,
  isSure(options, ballots, remaining) {
    // one that wins every runoff, and whom no two can pass in the sums
    const winner = sureWinnerOfDuels(options, ballots, remaining);
    if (winner === undefined) return false;
    const sums = totals(options, ballots);
    const rivals = sums.filter((sum, place) => place !== winner && sum + remaining * SCORE_MAX >= (sums[winner] ?? 0));
    return rivals.length <= 1;
  },
  elect,
});

function elect(options: readonly string[], ballots: readonly Valued[]): Verdict {
  const sums = totals(options.length, ballots);
  const steps: Step[] = [{ rule: "STAR: scores are summed; the two highest go into a runoff.", counts: named(options, sums) }];
  if (Math.max(...sums) === 0) return { winners: [], counts: sums, steps };
  const duels = duelsOf(options.length, ballots);
  const winners = new Set<number>();
  const pairs = finalists(sums);
  for (const [a, b] of pairs) {
    const forA = duels[a]?.[b] ?? 0;
    const forB = duels[b]?.[a] ?? 0;
    const lead = forA - forB || (sums[a] ?? 0) - (sums[b] ?? 0);
    if (lead >= 0) winners.add(a);
    if (lead <= 0) winners.add(b);
  }
  const inRunoff = [...new Set(pairs.flat())].sort((a, b) => a - b);
  const [first, second] = inRunoff;
  if (pairs.length === 1 && first !== undefined && second !== undefined) {
    steps.push({
      rule: "Runoff: how many ballots score the one higher than the other.",
      counts: { [options[first] ?? ""]: duels[first]?.[second] ?? 0, [options[second] ?? ""]: duels[second]?.[first] ?? 0 },
    });
  } else {
    steps.push({
      rule: "Equal sums leave open who is in the runoff, so each pair that may be has one: how many score the row above the column.",
      options: inRunoff.map((place) => options[place] ?? ""),
      matrix: inRunoff.map((row) => inRunoff.map((column) => duels[row]?.[column] ?? 0)),
    });
  }
  return { winners: [...winners].sort((a, b) => a - b), counts: sums, steps };
}

/** Each pair of places that can be the two highest, whatever way equal sums are told apart. */
function finalists(sums: readonly number[]): [number, number][] {
  const firsts = highestOf(sums);
  const [first] = firsts;
  if (firsts.length === 1 && first !== undefined) {
    const rest = sums.map((sum, place) => (place === first ? -1 : sum));
    return highestOf(rest).map((second) => [first, second]);
  }
  return firsts.flatMap((a, at) => firsts.slice(at + 1).map((b): [number, number] => [a, b]));
}
