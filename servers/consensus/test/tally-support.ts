/** Small elections for tests: voters v0, v1 … and ballots as short text. */
import { expect } from "vitest";
import { type Ballot, type Electorate, ruleOf, type Settings, type Tally } from "../src/tally/index.ts";

export type Say = Omit<Ballot, "voter">;

export function voterNames(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `v${at}`);
}

export function electorate(weights: readonly number[]): Electorate {
  return { eligible: new Map(weights.map((weight, at) => [`v${at}`, weight])) };
}

export function evenly(count: number): Electorate {
  return electorate(new Array<number>(count).fill(1));
}

/** What v0, v1 … say; undefined for who says nothing. */
export function ballotsOf(says: readonly (Say | undefined)[]): Ballot[] {
  return says.flatMap((say, at) => (say ? [{ ...say, voter: `v${at}` }] : []));
}

/** y, n, a and - for yes, no, abstain and no ballot. */
export function yesNo(text: string): Ballot[] {
  const choices: Readonly<Record<string, string>> = { y: "yes", n: "no", a: "abstain" };
  return ballotsOf([...text].map((letter) => (letter === "-" ? undefined : { choice: choices[letter] })));
}

/** Checks settings and ballots as the server does, then tallies. */
export function run(settings: Settings, voters: Electorate, ballots: readonly Ballot[]): Tally {
  const rule = ruleOf(settings);
  rule.check(settings, voters);
  for (const ballot of ballots) rule.checkBallot(settings, ballot);
  return rule.tally(settings, voters, ballots);
}

/** One letter an option, best first: "AB" over ["A", "B", "C"] leaves C out. */
export function ranking(text: string): string[][] {
  return [...text].map((letter) => [letter]);
}

/** Rankings by many: each said by so many voters. */
export function ranked(groups: readonly (readonly [count: number, ranking: string[][]])[]): Ballot[] {
  return ballotsOf(groups.flatMap(([count, ranks]) => new Array<Say>(count).fill({ ranking: ranks })));
}

export function expectRefusal(work: () => unknown, field: string): void {
  expect(work).toThrow(expect.objectContaining({ code: "invalid_argument", message: expect.stringContaining(`"${field}"`) }));
}
