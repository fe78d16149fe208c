/** Instant run-off: who has fewest first preferences leaves, until one has more than half. */
import { rankingBallot } from "./option-ballot.ts";
import { optionRule, type Valued, type Verdict } from "./option-rule.ts";
import { RUNOFF_OPTIONS_MAX, type Step } from "./rule.ts";
import { total } from "./settings.ts";

/** Rounds that the steps of a result show; a tie in every round can make 2^RUNOFF_OPTIONS_MAX of them. */
export const ROUNDS_SHOWN_MAX = 30;

/**
 * A ballot counts for the first of its options that remain, in equal parts where several share that rank, and for none when all it
 * names have left. Where several have fewest, each of them leaves in turn, and every option wins that wins in one of these
 * ways ("parallel universes", Conitzer, Rognlie and Xia 2009). Sets of remaining options are met once, whatever way led there.
 */
export const instantRunoff = optionRule({
  name: "instant_runoff",
  ballots: rankingBallot,
  optionsMax: RUNOFF_OPTIONS_MAX,
  isSure(options, ballots, remaining) {
    const { ranked, scale } = rankedBallots(ballots);
    const votes = firstPreferences(options, ranked, 2 ** options - 1, scale);
    return votes.some((own) => 2 * own > total(votes) + remaining * scale);
  },
  elect,
});

/** A ballot as bit sets of options, one a rank. */
interface Ranks {
  weight: number;
  readonly ranks: readonly number[];
}

function elect(options: readonly string[], ballots: readonly Valued[]): Verdict {
  const { ranked, scale } = rankedBallots(ballots);
  const everyone = 2 ** options.length - 1;
  const winners = new Set<number>();
  const steps: Step[] = [];
  const seen = new Set([everyone]);
  const todo = [everyone];
  let rounds = 0;
  for (const remaining of todo) {
    const votes = firstPreferences(options.length, ranked, remaining, scale);
    const round = roundOf(votes, placesIn(remaining));
    rounds += 1;
    if (rounds <= ROUNDS_SHOWN_MAX) steps.push(stepOf(options, votes, placesIn(remaining), round));
    for (const place of round.wins) winners.add(place);
    for (const leaving of round.leave) {
      const next = remaining & ~leaving;
      if (seen.has(next)) continue;
      seen.add(next);
      todo.push(next);
    }
  }
  if (rounds > ROUNDS_SHOWN_MAX) steps.push({ rule: "More rounds follow from the ties; not shown.", counts: { rounds } });
  return {
    winners: [...winners].sort((a, b) => a - b),
    counts: firstPreferences(options.length, ranked, everyone, scale),
    scale,
    steps,
  };
}

interface Round {
  /** Places that win here. */
  readonly wins: readonly number[];
  /** Each a set of options that leave together; several sets are as many ways to go on. */
  readonly leave: readonly number[];
  readonly rule: string;
}

function roundOf(votes: readonly number[], remaining: readonly number[]): Round {
  const votesOf = (place: number) => votes[place] ?? 0;
  const all = total(remaining.map(votesOf));
  if (all === 0) return { wins: remaining, leave: [], rule: "No ballot names any option that remains: all of them win." };
  const majority = remaining.filter((place) => 2 * votesOf(place) > all);
  if (majority.length > 0) return { wins: majority, leave: [], rule: "Has more than half of the ballots that still count." };
  const fewest = Math.min(...remaining.map(votesOf));
  const last = remaining.filter((place) => votesOf(place) === fewest);
  const others = remaining.filter((place) => votesOf(place) > fewest).map(votesOf);
  if (last.length === 1) return { wins: [], leave: last.map(bit), rule: "Has fewest first preferences and leaves." };
  if (others.length > 0 && fewest * last.length < Math.min(...others)) {
    const together = last.reduce((set, place) => set | bit(place), 0);
    return { wins: [], leave: [together], rule: "Have fewest, less than the next even together, and leave whatever the order." };
  }
  return { wins: [], leave: last.map(bit), rule: "Tie for fewest: each of them leaves in turn, and all ways are followed." };
}

function stepOf(options: readonly string[], votes: readonly number[], remaining: readonly number[], round: Round): Step {
  const concerned = round.wins.length > 0 ? round.wins : placesIn(round.leave.reduce((set, leaving) => set | leaving, 0));
  return {
    rule: round.rule,
    options: concerned.map((place) => options[place] ?? ""),
    counts: Object.fromEntries(remaining.map((place) => [options[place] ?? "", votes[place] ?? 0])),
  };
}

function bit(place: number): number {
  return 1 << place;
}

function placesIn(set: number): number[] {
  const places: number[] = [];
  for (let place = 0; set >> place > 0; place++) if (set & bit(place)) places.push(place);
  return places;
}

/** Equal rankings as one, and the number with which votes are multiplied so that any part of one is whole. */
function rankedBallots(ballots: readonly Valued[]): { ranked: Ranks[]; scale: number } {
  const known = new Map<string, Ranks>();
  let scale = 1;
  for (const { weight, worth } of ballots) {
    const key = worth.join();
    const same = known.get(key);
    if (same) {
      same.weight += weight;
      continue;
    }
    const ranks = new Map<number, number>();
    for (const [place, value] of worth.entries()) if (value > 0) ranks.set(value, (ranks.get(value) ?? 0) | bit(place));
    const sorted = [...ranks].sort(([a], [b]) => b - a).map(([, set]) => set);
    for (const set of sorted) for (let size = 2; size <= placesIn(set).length; size++) scale = leastCommonMultiple(scale, size);
    known.set(key, { weight, ranks: sorted });
  }
  return { ranked: [...known.values()], scale };
}

function firstPreferences(options: number, ballots: readonly Ranks[], remaining: number, scale: number): number[] {
  const votes = new Array<number>(options).fill(0);
  for (const { weight, ranks } of ballots) {
    for (const rank of ranks) {
      const first = rank & remaining;
      if (first === 0) continue;
      if ((first & (first - 1)) === 0) {
        const only = 31 - Math.clz32(first);
        votes[only] = (votes[only] ?? 0) + weight * scale;
      } else {
        const places = placesIn(first);
        for (const place of places) votes[place] = (votes[place] ?? 0) + (weight * scale) / places.length;
      }
      break;
    }
  }
  return votes;
}

function leastCommonMultiple(a: number, b: number): number {
  let [larger, smaller] = [a, b];
  while (smaller > 0) [larger, smaller] = [smaller, larger % smaller];
  return (a / larger) * b;
}
