/**
 * Random elections against the package `votes`, where that is right. Left out: its Borda of truncated rankings (what is left out gets
 * nothing instead of sharing the average), and its run-off where several tie for last and it drops them all, which may drop a
 * winner. Its ranked pairs and minimax are given the winning votes of each duel, since they count lost duels too; its ranked pairs
 * tell circles apart by Tarjan's `lowlink`, which need not be equal within one, so it is asked where no two duels are equal.
 */
import { seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { Approbation, Borda, FirstPastThePost, InstantRunoff, Minimax, RankedPairs, Schulze, utils } from "votes";
import { verifies } from "../../../test/requirements.ts";
import type { Ballot, Method, Tally } from "../src/tally/index.ts";
import { ballotsOf, electorate, run, type Say } from "./tally-support.ts";

const ELECTIONS = 500;
const SEED = 20_260_101;

interface Election {
  readonly options: string[];
  readonly weights: number[];
  readonly rankings: string[][][];
}

/** Up to 6 options and 12 groups of voters; a third of the elections truncate, a third rank some equally, and many are close. */
function electionOf(seed: number): Election {
  const random = seededRandom(SEED + seed);
  const options = ["A", "B", "C", "D", "E", "F"].slice(0, 2 + random.integer(5));
  const groups = 1 + random.integer(12);
  const [truncates, ties] = [seed % 3 === 1, seed % 3 === 2];
  const rankings = Array.from({ length: groups }, () => {
    const left = [...options];
    const ranks: string[][] = [];
    while (left.length > 0) {
      const [option = ""] = left.splice(random.integer(left.length), 1);
      const equal = ties && ranks.length > 0 && random.integer(4) === 0;
      if (equal) ranks.at(-1)?.push(option);
      else ranks.push([option]);
    }
    return truncates ? ranks.slice(0, 1 + random.integer(ranks.length)) : ranks;
  });
  return { options, weights: rankings.map(() => 1 + random.integer(seed % 2 === 0 ? 3 : 50)), rankings };
}

const elections = Array.from({ length: ELECTIONS }, (_, seed) => ({ seed, ...electionOf(seed) }));

function elect(method: Method, { options, weights }: Election, ballots: readonly Ballot[]): Tally {
  return run({ algorithm: "weighted", method, options }, electorate(weights), ballots);
}

const rankingsOf = ({ rankings }: Election) => ballotsOf(rankings.map((ranking): Say => ({ ranking })));

const theirs = ({ options, weights, rankings }: Election) => ({
  candidates: options,
  ballots: rankings.map((ranking, at) => ({ ranking, weight: weights[at] ?? 0 })),
});

/** Of each duel that is won the winning votes. */
function winningVotes(election: Election) {
  const { candidates, ballots } = theirs(election);
  const { array } = utils.matrixFromBallots(ballots, candidates);
  return { candidates, array: array.map((row, a) => row.map((votes, b) => (votes > (array[b]?.[a] ?? 0) ? votes : 0))) };
}

const places = (order: readonly (readonly string[])[] | undefined) => order?.map((rank) => [...rank].sort());
const nonZero = (counts: Readonly<Record<string, number>>) => Math.max(...Object.values(counts)) > 0;

describe("random elections come out as another implementation has them", () => {
  test("plurality, of first choices", () => {
    verifies("VOTE-07");
    let compared = 0;
    for (const election of elections) {
      if (election.rankings.some(([first]) => first?.length !== 1)) continue;
      const ours = elect("plurality", election, ballotsOf(election.rankings.map(([first]): Say => ({ choice: first?.[0] }))));
      const oracle = new FirstPastThePost(theirs(election));
      expect([election.seed, ours.counts]).toEqual([election.seed, oracle.scores()]);
      expect(places(ours.order)).toEqual(places(oracle.ranking()));
      compared += 1;
    }
    expect(compared).toBeGreaterThan(300);
  });

  test("approval, of all in the first rank", () => {
    verifies("VOTE-07");
    for (const election of elections) {
      const approve = (first: readonly string[] = []): Say => ({
        scores: Object.fromEntries(first.map((option) => [option, 1])),
      });
      const ours = elect("approval", election, ballotsOf(election.rankings.map(([first]) => approve(first))));
      const oracle = new Approbation(theirs(election)).scores();
      expect([election.seed, ours.counts]).toEqual([election.seed, oracle]);
    }
  });

  test("Borda, of rankings that leave nothing out", () => {
    verifies("VOTE-07");
    let compared = 0;
    for (const election of elections) {
      if (election.rankings.some((ranks) => ranks.flat().length < election.options.length)) continue;
      const { counts, scale, order } = elect("borda", election, rankingsOf(election));
      const oracle = new Borda(theirs(election));
      // theirs gives n to 1 points instead of n-1 to 0
      const weight = election.weights.reduce((sum, own) => sum + own, 0);
      const points = Object.fromEntries(
        Object.entries(oracle.scores()).map(([option, score]) => [option, scale * (score - weight)]),
      );
      expect([election.seed, counts]).toEqual([election.seed, points]);
      expect(places(order)).toEqual(places(oracle.ranking()));
      compared += 1;
    }
    expect(compared).toBeGreaterThan(300);
  });

  test("instant run-off, where no two tie for last before the end", () => {
    verifies("VOTE-07");
    let compared = 0;
    for (const election of elections) {
      const { options } = election;
      const oracle = new InstantRunoff(theirs(election));
      const rounds = oracle.computeRounds();
      const dropsTied = rounds.some(
        ({ candidates, roundResult: { eliminated } }) => eliminated.length > 1 && candidates.length > 2,
      );
      const parts = rounds.some(({ roundResult: { scores } }) => Object.values(scores).some((votes) => !Number.isInteger(votes)));
      // equal ranks share a vote, which theirs adds up in floating point
      if (dropsTied || parts) continue;
      const ours = elect("instant_runoff", election, rankingsOf(election));
      expect([election.seed, [...ours.winners].sort()]).toEqual([election.seed, places(oracle.ranking())?.[0]]);
      const firsts = Object.fromEntries(options.map((option) => [option, (ours.counts[option] ?? 0) / ours.scale]));
      expect(firsts).toEqual(rounds[0]?.roundResult.scores);
      compared += 1;
    }
    expect(compared).toBeGreaterThan(200);
  });

  test("Schulze", () => {
    verifies("VOTE-07");
    for (const election of elections) {
      const ours = elect("schulze", election, rankingsOf(election));
      expect([election.seed, ours.counts]).toEqual([election.seed, new Schulze(winningVotes(election)).scores()]);
    }
  });

  test("ranked pairs, where no two duels are equally strong", () => {
    verifies("VOTE-07");
    let compared = 0;
    for (const election of elections) {
      const matrix = winningVotes(election);
      const strengths = matrix.array.flat().filter((votes) => votes > 0);
      if (new Set(strengths).size < strengths.length) continue;
      const ours = elect("ranked_pairs", election, rankingsOf(election));
      const oracle = new RankedPairs(matrix).ranking();
      expect([election.seed, [...ours.winners].sort()]).toEqual([election.seed, places(oracle)?.[0]]);
      compared += 1;
    }
    expect(compared).toBeGreaterThan(100);
  });

  test("minimax", () => {
    verifies("VOTE-07");
    for (const election of elections) {
      const ours = elect("minimax", election, rankingsOf(election));
      const matrix = winningVotes(election);
      const oracle = new Minimax({ ...matrix, variant: Minimax.Variants.WinningVotes });
      expect([election.seed, places(ours.order)]).toEqual([election.seed, places(oracle.ranking())]);
      expect(nonZero(ours.counts)).toBe(Object.values(oracle.scores()).some((score) => score !== 0));
    }
  });
});
