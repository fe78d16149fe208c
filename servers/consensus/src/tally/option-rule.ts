/** What all methods over options have in common: quorum first, then the method, then ties. */
import type { BallotKind } from "./option-ballot.ts";
import type { Ballot, Electorate, Method, Outcome, Rule, Settings, Step, Tally, Turnout } from "./rule.ts";
import { OPTIONS_MAX } from "./rule.ts";
import { ABSTAIN, checkSettings, optionsOf, refuse, type TieBreak, tieBreakOf } from "./settings.ts";
import { earlyStep, turnoutOf, turnoutStep, warningsOf } from "./turnout.ts";
import { sameResult } from "./yes-no.ts";

/** A ballot as a method sees it: what each option, by its place among the options, is worth to a voter of this weight. */
export interface Valued {
  readonly weight: number;
  readonly worth: readonly number[];
}

/** What a method says of ballots that name at least one choice. Options are named by their place. */
export interface Verdict {
  /** In ascending order; none where the method itself finds no winner. */
  readonly winners: readonly number[];
  readonly counts: readonly number[];
  readonly scale?: number;
  readonly order?: readonly (readonly number[])[];
  readonly steps: readonly Step[];
}

export interface OptionMethod {
  readonly name: Method;
  readonly ballots: BallotKind;
  readonly optionsMax?: number;
  /** It has a threshold (the default is none), and takes yes and no where no options are declared. */
  readonly threshold?: boolean;
  readonly yesNo?: boolean;
  /** False where a tie cannot be. */
  readonly tieBreak?: boolean;
  elect(options: readonly string[], ballots: readonly Valued[], settings: Settings): Verdict;
  /** For methods that add up worths and nothing else: the most that one ballot can give to an option. */
  readonly worthMax?: number;
  /** For the others: whether one option wins alone, whatever `remaining` weight of ballots still says. May miss that. */
  isSure?(options: number, ballots: readonly Valued[], remaining: number): boolean;
}

/** All that the outcome depends on. */
interface Poll {
  readonly turnout: Turnout;
  readonly ballots: readonly Valued[];
  /** What the options are worth to the chair, where there is one and chose. */
  readonly chair: readonly number[] | undefined;
}

type Result = Pick<Tally, "outcome" | "winners" | "counts" | "scale" | "order" | "steps">;

export function optionRule(method: OptionMethod): Rule {
  const { name } = method;
  const takes = {
    options: { max: method.optionsMax ?? OPTIONS_MAX },
    quorum: true,
    tieBreak: method.tieBreak ?? true,
    threshold: method.threshold ?? false,
  };

  function settle(settings: Settings, { turnout, ballots, chair }: Poll): Result {
    const options = optionsOf(settings);
    const named = (places: readonly number[]) => places.map((place) => options[place] ?? "");
    const verdict: Verdict =
      ballots.length === 0
        ? { winners: [], counts: options.map(() => 0), steps: [{ rule: "Nobody chose." }] }
        : method.elect(options, ballots, settings);
    const steps = [turnoutStep(turnout), ...verdict.steps];
    const result = {
      counts: Object.fromEntries(options.map((option, place) => [option, verdict.counts[place] ?? 0])),
      scale: verdict.scale ?? 1,
      ...(verdict.order && { order: verdict.order.map(named) }),
      steps,
    };
    const end = (outcome: Outcome, winners: readonly string[]): Result => ({ ...result, outcome, winners });
    const elected = (winner: string): Result => {
      if (settings.options !== undefined) return end("elected", [winner]);
      return end(winner === "yes" ? "accepted" : "rejected", [winner]);
    };
    if (turnout.voted < turnout.quorum) return end("no_quorum", []);
    const [winner, ...equals] = named(verdict.winners);
    if (winner === undefined) return end("no_consensus", []);
    if (equals.length === 0) return elected(winner);
    const tieBreak = tieBreakOf(settings);
    if (tieBreak.kind === "status_quo") {
      steps.push({ rule: "A tie, and as declared it leaves things as they are.", options: [winner, ...equals] });
      return end("rejected", settings.options === undefined ? ["no"] : []);
    }
    const favourite = tieBreak.kind === "chair" && chair ? favouriteOf(chair, verdict.winners) : undefined;
    const [chosen] = favourite === undefined ? [] : named([favourite]);
    if (tieBreak.kind === "chair" && chosen !== undefined) {
      steps.push({ rule: "A tie, and as declared the chair's ballot decides it.", options: [chosen], voters: [tieBreak.voter] });
      return elected(chosen);
    }
    steps.push({ rule: "A tie, and nothing that was declared decides it.", options: [winner, ...equals] });
    return end("tied", [winner, ...equals]);
  }

  function tallyOf(settings: Settings, poll: Poll, ballots: readonly Ballot[], more: readonly Step[] = []): Tally {
    const result = settle(settings, poll);
    return { ...result, turnout: poll.turnout, steps: [...result.steps, ...more], warnings: warningsOf(ballots) };
  }

  function pollOf(settings: Settings, electorate: Electorate, ballots: readonly Ballot[]): Poll {
    const options = optionsOf(settings);
    const turnout = turnoutOf(settings, electorate, ballots);
    const tieBreak = tieBreakOf(settings);
    const valued: Valued[] = [];
    let chair: readonly number[] | undefined;
    for (const ballot of ballots) {
      if (ballot.choice === ABSTAIN || ballot.equivocated) continue;
      const worth = method.ballots.worth(options, ballot);
      valued.push({ weight: electorate.eligible.get(ballot.voter) ?? 0, worth });
      if (isChair(tieBreak, ballot.voter)) chair = worth;
    }
    return { turnout, ballots: valued, chair };
  }

  return {
    name,
    check(settings, electorate) {
      if (settings.options === undefined && !method.yesNo) {
        refuse("options", `is missing for method ${name}`, "Name the options that are voted on.");
      }
      checkSettings(name, takes, settings, electorate);
    },
    checkBallot: (settings, ballot) => method.ballots.check(settings, ballot),
    tally: (settings, electorate, ballots) => tallyOf(settings, pollOf(settings, electorate, ballots), ballots),
    decided(settings, electorate, ballots) {
      const poll = pollOf(settings, electorate, ballots);
      const { turnout } = poll;
      const remaining = turnout.eligible - turnout.voted;
      if (remaining === 0) return tallyOf(settings, poll, ballots);
      const outOfReach = turnout.eligible < turnout.quorum;
      if (!outOfReach && !isCertain(settings, poll)) return undefined;
      return tallyOf(settings, poll, ballots, [earlyStep(turnout)]);
    },
  };

  /**
   * Whether all that can still come agrees with what is: it lies between nothing, abstentions, and all for one option. A chair who has not
   * voted needs no look: a tie that it would decide differs from the rest already.
   */
  function isCertain(settings: Settings, poll: Poll): boolean {
    const { worthMax } = method;
    const { turnout } = poll;
    if (turnout.voted < turnout.quorum) return false;
    const options = optionsOf(settings);
    const remaining = turnout.eligible - turnout.voted;
    if (worthMax === undefined) return method.isSure?.(options.length, poll.ballots, remaining) ?? false;
    // Where worths are only added up, many ballots are one whose worths are their sums.
    const sums: Valued = { weight: 1, worth: totals(options.length, poll.ballots) };
    const soFar = poll.ballots.length === 0 ? [] : [sums];
    const full = { ...turnout, voted: turnout.eligible };
    const now = settle(settings, { ...poll, ballots: soFar });
    const ends: Poll[] = [{ ...poll, turnout: full, ballots: soFar }];
    for (const place of options.keys()) {
      const worth = options.map((_, at) => (at === place ? worthMax : 0));
      ends.push({ ...poll, turnout: full, ballots: [...soFar, { weight: remaining, worth }] });
    }
    return ends.every((end) => sameResult(settle(settings, end), now));
  }
}

function isChair(tieBreak: TieBreak, voter: string): boolean {
  return tieBreak.kind === "chair" && tieBreak.voter === voter;
}

/** The one of these places that is worth most; undefined where several are. */
function favouriteOf(worth: readonly number[], places: readonly number[]): number | undefined {
  const [first, ...others] = highestOf(places.map((place) => worth[place] ?? 0));
  return others.length === 0 && first !== undefined ? places[first] : undefined;
}

/** The worth of each option, summed over ballots by weight. */
export function totals(options: number, ballots: readonly Valued[]): number[] {
  const sums = new Array<number>(options).fill(0);
  for (const { weight, worth } of ballots) {
    for (let place = 0; place < options; place++) sums[place] = (sums[place] ?? 0) + weight * (worth[place] ?? 0);
  }
  return sums;
}

/** The places of the largest numbers. */
export function highestOf(numbers: readonly number[]): number[] {
  const most = Math.max(...numbers);
  return [...numbers.keys()].filter((place) => numbers[place] === most);
}

/** Places by falling number, equals together. */
export function orderOf(numbers: readonly number[]): number[][] {
  const places = [...numbers.keys()].sort((a, b) => (numbers[b] ?? 0) - (numbers[a] ?? 0) || a - b);
  const order: number[][] = [];
  let last: number | undefined;
  for (const place of places) {
    if (numbers[place] === last) order.at(-1)?.push(place);
    else order.push([place]);
    last = numbers[place];
  }
  return order;
}

/** The verdict that the highest number wins. Nobody wins with nothing. */
export function mostWins(numbers: readonly number[], steps: readonly Step[]): Verdict {
  const winners = highestOf(numbers).filter((place) => (numbers[place] ?? 0) > 0);
  return { winners, counts: numbers, order: orderOf(numbers), steps };
}

export function named(options: readonly string[], numbers: readonly number[]): Record<string, number> {
  return Object.fromEntries(options.map((option, place) => [option, numbers[place] ?? 0]));
}
