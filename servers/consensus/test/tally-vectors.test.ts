import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Ballot, Method, Tally } from "../src/tally/index.ts";
import { ballotsOf, evenly, ranked, ranking, run, type Say } from "./tally-support.ts";

interface RankedElection {
  readonly ballots: readonly [number, string][];
  readonly bordaScores?: Readonly<Record<string, number>>;
  readonly schulzeOrder?: string;
  readonly rankedPairsOrder?: string;
  readonly schulzeStrengths?: Readonly<Record<string, number>>;
  readonly irvFinal?: Readonly<Record<string, number>>;
  readonly irvTiedLastInRound2?: readonly string[];
  readonly afterMoving10FromBCAtoABC?: string;
  readonly [method: string]: unknown;
}
interface ScoredElection {
  readonly ballots: readonly [number, Readonly<Record<string, number>>][];
  readonly scores?: Readonly<Record<string, number>>;
  readonly starRunoff?: Readonly<Record<string, number>>;
  readonly [method: string]: unknown;
}
const { ranked: rankedElections, scored } = JSON.parse(
  readFileSync(join(import.meta.dirname, "vectors", "elections.json"), "utf8"),
) as {
  ranked: Record<string, RankedElection>;
  scored: Record<string, ScoredElection> & { about: never };
};
const scoredElections = Object.entries(scored).filter(([name]) => name !== "about");

const RANKED: Readonly<Record<string, Method>> = {
  irv: "instant_runoff",
  borda: "borda",
  condorcet: "condorcet",
  schulze: "schulze",
  rankedPairs: "ranked_pairs",
  minimax: "minimax",
};
/** Members of an election that are looked at beside the winners. */
const DETAILS = [
  "ballots",
  "bordaScores",
  "schulzeOrder",
  "rankedPairsOrder",
  "schulzeStrengths",
  "irvFinal",
  "irvTiedLastInRound2",
  "afterMoving10FromBCAtoABC",
];

function elect(method: Method, options: readonly string[], ballots: readonly Ballot[]): Tally {
  return run({ algorithm: "majority", method, options }, evenly(ballots.length), ballots);
}

function expectWinners({ outcome, winners }: Tally, expected: unknown): void {
  const names = expected === "-" ? [] : [expected].flat();
  expect([...winners].sort()).toEqual(names);
  expect(outcome).toBe(["no_consensus", "elected"][names.length] ?? "tied");
}

function stepOf({ steps }: Tally, words: string) {
  const found = steps.find(({ rule }) => rule.includes(words));
  if (!found) throw new Error(`No step says "${words}": ${JSON.stringify(steps)}`);
  return found;
}

describe("elections with known outcomes", () => {
  test.each(Object.entries(rankedElections))("ranked: %s", (_, election) => {
    verifies("VOTE-07");
    const ballots = ranked(election.ballots.map(([count, text]) => [count, ranking(text)]));
    const options = [...new Set(election.ballots.flatMap(([, text]) => [...text]))].sort();
    const unknown = Object.keys(election).filter(
      (member) => !(member in RANKED) && member !== "plurality" && !DETAILS.includes(member),
    );
    expect(unknown).toEqual([]);

    const tallies = new Map(Object.entries(RANKED).map(([member, method]) => [member, elect(method, options, ballots)] as const));
    const tallyOf = (member: string): Tally => tallies.get(member) ?? expect.fail(member);
    for (const member of Object.keys(RANKED)) if (member in election) expectWinners(tallyOf(member), election[member]);
    const firsts = ballotsOf(ballots.map(({ ranking: ranks }): Say => ({ choice: ranks?.[0]?.[0] })));
    if ("plurality" in election) expectWinners(elect("plurality", options, firsts), election.plurality);

    for (const [option, points] of Object.entries(election.bordaScores ?? {})) {
      const { counts, scale } = tallyOf("borda");
      expect([option, (counts[option] ?? Number.NaN) / scale]).toEqual([option, points]);
    }
    if (election.schulzeOrder) expect(tallyOf("schulze").order).toEqual(ranking(election.schulzeOrder));
    if (election.rankedPairsOrder) expect(tallyOf("rankedPairs").order).toEqual(ranking(election.rankedPairsOrder));
    for (const [pair, strength] of Object.entries(election.schulzeStrengths ?? {})) {
      const { matrix } = stepOf(tallyOf("schulze"), "strongest path");
      const [from = "", to = ""] = pair;
      expect([pair, matrix?.[options.indexOf(from)]?.[options.indexOf(to)]]).toEqual([pair, strength]);
    }
    if (election.irvFinal) expect(stepOf(tallyOf("irv"), "more than half").counts).toEqual(election.irvFinal);
    if (election.irvTiedLastInRound2) {
      const rounds = tallyOf("irv").steps.filter(({ counts }) => counts && !("quorum" in counts));
      expect(rounds[1]).toMatchObject({ rule: expect.stringContaining("Tie for fewest"), options: election.irvTiedLastInRound2 });
    }
    const moved = election.afterMoving10FromBCAtoABC;
    if (moved) {
      const groups = election.ballots.map(([count, text]): [number, string[][]] => [
        count + ({ ABC: 10, BCA: -10 }[text] ?? 0),
        ranking(text),
      ]);
      expectWinners(elect("instant_runoff", options, ranked(groups)), moved);
    }
  });

  test.each(scoredElections)("scored: %s", (_, election) => {
    verifies("VOTE-07");
    const options = [...new Set(election.ballots.flatMap(([, scores]) => Object.keys(scores)))].sort();
    const say = (of: (scores: Readonly<Record<string, number>>) => Say) =>
      ballotsOf(election.ballots.flatMap(([count, scores]) => new Array<Say>(count).fill(of(scores))));
    const scores = say((given) => ({ scores: given }));
    const score = elect("score", options, scores);
    expectWinners(score, election.score);
    if (election.scores) expect(score.counts).toEqual(election.scores);
    const star = elect("star", options, scores);
    expectWinners(star, election.star);
    if (election.starRunoff) expect(stepOf(star, "Runoff").counts).toEqual(election.starRunoff);
    const approves = (given: Readonly<Record<string, number>>) =>
      Object.fromEntries(Object.entries(given).map(([option, points]) => [option, points >= 4 ? 1 : 0]));
    expectWinners(
      elect(
        "approval",
        options,
        say((given) => ({ scores: approves(given) })),
      ),
      election.approval,
    );
  });
});
