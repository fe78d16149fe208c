import { rankingBallot } from "./option-ballot.ts";
import { optionRule } from "./option-rule.ts";
import { duelsOf, duelsStep, isSureOfAllDuels, layersOf, type Matrix, winningVotes } from "./pairwise.ts";

/**
 * A path of won duels is as strong as its weakest, by winning votes. An option beats another if its strongest path to it is
 * stronger than the strongest back; whoever nothing beats wins (Schulze, "A new monotonic, clone-independent … method", 2011).
 */
export const schulze = optionRule({
  name: "schulze",
  ballots: rankingBallot,
  isSure: isSureOfAllDuels,
  elect(options, ballots) {
    const duels = duelsOf(options.length, ballots);
    const strengths = strongestPaths(winningVotes(duels));
    const strength = (from: number, to: number) => strengths[from]?.[to] ?? 0;
    const beats = (a: number, b: number) => strength(a, b) > strength(b, a);
    const order = layersOf(options.length, beats);
    return {
      winners: order[0] ?? [],
      counts: options.map((_, a) => options.filter((__, b) => beats(a, b)).length),
      order,
      steps: [
        duelsStep(options, duels),
        { rule: "Schulze: the strength of the strongest path from the row to the column.", options, matrix: strengths },
      ],
    };
  },
});

/** Floyd and Warshall over strengths instead of lengths. */
function strongestPaths(wins: Matrix): Matrix {
  const paths = wins.map((row) => [...row]);
  for (const [through, onward] of paths.entries()) {
    for (const [from, row] of paths.entries()) {
      if (from === through) continue;
      const reach = row[through] ?? 0;
      for (const to of row.keys()) {
        if (to !== from && to !== through) row[to] = Math.max(row[to] ?? 0, Math.min(reach, onward[to] ?? 0));
      }
    }
  }
  return paths;
}
