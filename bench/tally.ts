/** How long counting a large vote takes: each rule over 10,000 random ballots. */
import { seededRandom } from "@mcp-swarm/core";
import {
  type Ballot,
  type Electorate,
  METHODS,
  OPTION_METHODS,
  ruleOf,
  SCORE_MAX,
  type Settings,
} from "../servers/consensus/src/tally/index.ts";
import type { Options, Row } from "./row.ts";
import { median } from "./stats.ts";

const VOTERS = 10_000;
const OPTIONS = Array.from({ length: 10 }, (_, at) => `option-${at}`);
/** So many options tie in every round of the run-off: all 4,095 sets of them are counted. */
const TIED_OPTIONS = Array.from({ length: 12 }, (_, at) => `option-${at}`);
const MS_MAX = 1_000;

export async function tally({ quick }: Options): Promise<Row[]> {
  const rounds = quick ? 3 : 9;
  const electorate: Electorate = { eligible: new Map(Array.from({ length: VOTERS }, (_, at) => [`agent-${at}`, 1])) };
  const rows: Row[] = [];
  for (const settings of [...METHODS.map(settingsOf), { algorithm: "byzantine" } as const]) {
    rows.push(measure(settings, electorate, ballotsFor(settings, electorate), rounds));
  }
  const tied: Settings = { algorithm: "majority", method: "instant_runoff", options: TIED_OPTIONS };
  rows.push({
    ...measure(tied, electorate, tiedBallots(), rounds),
    note: `${TIED_OPTIONS.length} options that tie in every round`,
  });
  return rows;
}

function measure(settings: Settings, electorate: Electorate, ballots: readonly Ballot[], rounds: number): Row {
  const rule = ruleOf(settings);
  rule.check(settings, electorate);
  for (const ballot of ballots) rule.checkBallot(settings, ballot);
  const times: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    const { turnout, outcome } = rule.tally(settings, electorate, ballots);
    times.push(performance.now() - start);
    if (turnout.voted !== ballots.length || outcome === "no_quorum")
      throw new Error(`${rule.name} counted ${turnout.voted} ballots`);
  }
  const ms = median(times.slice(1)); // the first time warms up
  return {
    what: `${VOTERS.toLocaleString("en-US")} ballots, ${rule.name}`,
    subject: `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`,
    goal: { atMost: MS_MAX, value: ms },
  };
}

function settingsOf(method: (typeof METHODS)[number]): Settings {
  const overOptions = (OPTION_METHODS as readonly string[]).includes(method);
  return { algorithm: "majority", method, ...(overOptions && { options: OPTIONS }) };
}

function ballotsFor({ method, options = ["yes", "no", "abstain"] }: Settings, { eligible }: Electorate): Ballot[] {
  const random = seededRandom(1);
  const scoreMax = method === "approval" ? 1 : SCORE_MAX;
  return [...eligible.keys()].map((voter): Ballot => {
    if (method === "approval" || method === "score" || method === "star") {
      return { voter, scores: Object.fromEntries(options.map((option) => [option, random.integer(scoreMax + 1)])) };
    }
    const left = [...options];
    const order = options.map(() => left.splice(random.integer(left.length), 1));
    const [[choice] = []] = order;
    const isRanked = ["borda", "instant_runoff", "condorcet", "schulze", "ranked_pairs", "minimax"].includes(method ?? "");
    return isRanked ? { voter, ranking: order } : { voter, choice, confidence: random.integer(1_001) };
  });
}

/** Each names one option and no more, all options equally often: whatever has left, those that remain tie. */
function tiedBallots(): Ballot[] {
  return Array.from({ length: VOTERS - (VOTERS % TIED_OPTIONS.length) }, (_, at) => ({
    voter: `agent-${at}`,
    ranking: [[TIED_OPTIONS[at % TIED_OPTIONS.length] ?? ""]],
  }));
}
