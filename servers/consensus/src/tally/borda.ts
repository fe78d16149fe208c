import { rankingBallot } from "./option-ballot.ts";
import { mostWins, named, optionRule, orderOf, totals, type Valued } from "./option-rule.ts";

/**
 * n-1 points for the first of n options down to 0 for the last; options in one rank, and those left out, share the average of
 * their places. Counted in halves, so that averages are whole.
 */
export const borda = optionRule({
  name: "borda",
  ballots: rankingBallot,
  isSure(options, ballots, remaining) {
    const [first = 0, second = 0] = totals(options, ballots.map(halfPoints)).sort((a, b) => b - a);
    return first - second > remaining * 2 * (options - 1);
  },
  elect(options, ballots) {
    const points = totals(options.length, ballots.map(halfPoints));
    return { ...mostWins(points, [{ rule: "Borda: points by rank, in halves.", counts: named(options, points) }]), scale: 2 };
  },
});

function halfPoints({ weight, worth }: Valued): Valued {
  const points = new Array<number>(worth.length).fill(0);
  let before = 0;
  for (const rank of orderOf(worth)) {
    const last = before + rank.length - 1;
    for (const place of rank) points[place] = 2 * (worth.length - 1) - before - last;
    before += rank.length;
  }
  return { weight, worth: points };
}
