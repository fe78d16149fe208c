import { rankingBallot } from "./option-ballot.ts";
import { optionRule } from "./option-rule.ts";
import { duelsOf, duelsStep, isSureOfAllDuels, layersOf, type Matrix, matrixOf, winningVotes, winsOf } from "./pairwise.ts";

/**
 * Won duels are locked from the strongest to the weakest, by winning votes, except those that close a circle with what is locked;
 * whoever no locked duel is against wins (Tideman 1987). Duels of equal strength are locked together, and of these all that lie
 * on a circle are left out: trying every order of equals is NP-hard (Brill and Fischer 2012), and one order would be chance.
 */
export const rankedPairs = optionRule({
  name: "ranked_pairs",
  ballots: rankingBallot,
  isSure: isSureOfAllDuels,
  elect(options, ballots) {
    const duels = duelsOf(options.length, ballots);
    const wins = winningVotes(duels);
    const locked = lock(wins);
    const order = layersOf(options.length, (a, b) => (locked[a]?.[b] ?? 0) > 0);
    const leftOut = matrixOf(options.length, (row, column) => (wins[row]?.[column] ?? 0) - (locked[row]?.[column] ?? 0));
    return {
      winners: order[0] ?? [],
      counts: winsOf(locked),
      order,
      steps: [
        duelsStep(options, duels),
        { rule: "Ranked pairs: duels that are locked, with their winning votes.", options, matrix: locked },
        ...(leftOut.flat().some((votes) => votes > 0)
          ? [{ rule: "Left out, since they close a circle with duels at least as strong.", options, matrix: leftOut }]
          : []),
      ],
    };
  },
});

function lock(wins: Matrix): Matrix {
  const size = wins.length;
  const strengths = [...new Set(wins.flat())].filter((votes) => votes > 0).sort((a, b) => b - a);
  let locked = matrixOf(size, () => 0);
  for (const strength of strengths) {
    const before = locked;
    const at = (row: number, column: number) => before[row]?.[column] ?? 0;
    const isNew = (row: number, column: number) => wins[row]?.[column] === strength;
    const reaches = reachOf(matrixOf(size, (row, column) => (isNew(row, column) ? strength : at(row, column))));
    locked = matrixOf(size, (row, column) => {
      if (!isNew(row, column)) return at(row, column);
      return reaches[column]?.[row] ? 0 : strength;
    });
  }
  return locked;
}

/** Whether there is a path from the row to the column (Warshall). */
function reachOf(edges: Matrix): boolean[][] {
  const reach = edges.map((row) => row.map((votes) => votes > 0));
  for (const [through, onward] of reach.entries()) {
    for (const row of reach) {
      if (!row[through]) continue;
      for (const [to, there] of onward.entries()) if (there) row[to] = true;
    }
  }
  return reach;
}
