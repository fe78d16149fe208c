/** Votes, ballots and results as a model reads them: short, with what was left out said. */
import { cut } from "@mcp-swarm/server";
import type * as z from "zod";
import type { BallotRow, Choice } from "../ballot-record.ts";
import type { Named, ResultRecord } from "../result-record.ts";
import type { Step } from "../tally/rule.ts";
import type { ListedVote, VoteView } from "../votes.ts";
import type { ballot, listedVote, result, step, wholeVote } from "./vote-schemas.ts";

const PROPOSAL_PREVIEW_CHARS = 200;
/** At the scale of an answer that is not too long. */
const NAMES = 10;
const STEPS = 20;
const RATIONALE_CHARS = 500;
const SIGNATURE_CHARS = 2_000;

/** What others wrote of a vote, and of a result. */
export const UNTRUSTED_IN_VOTE = ["vote.proposal", "vote.options", "vote.reason", "vote.winners", "vote.yourBallot"];
export const UNTRUSTED_IN_RESULT = ["reason", "result.winners", "result.counts", "result.order", "result.steps"];

type Output<S extends () => z.ZodType> = z.input<ReturnType<S>>;

export function listedView({ record, state, status, own }: ListedVote): Output<typeof listedVote> {
  const { id, proposal, initiator, settings, participants, closesAt } = record;
  const text = typeof proposal === "string" ? proposal : JSON.stringify(proposal);
  return {
    ...{ id, status, proposal: cut(text, PROPOSAL_PREVIEW_CHARS).text, initiator, algorithm: settings.algorithm },
    ...(settings.method === undefined ? {} : { method: settings.method }),
    ...(settings.sealed ? { sealed: true } : {}),
    ...{ participants, closesAt },
    ...(state?.revealUntil === undefined ? {} : { revealUntil: state.revealUntil }),
    you: own,
  };
}

export function wholeView(view: VoteView, scale = 1): Output<typeof wholeVote> {
  const { record, state, result: found, row, weight, settled, waitingFor } = view;
  const { settings, proposal, hash, startedAt } = record;
  const { options, threshold, base, quorum, tieBreak, vetoHolders, revisable, trustNames, revealMs } = settings;
  const tally = found?.outcome.tally;
  const over = state && state.phase !== "revealing" ? state : undefined;
  return {
    ...listedView(view),
    ...{ proposal, hash, startedAt, settled },
    ...defined({
      ...{ threshold, base, quorum, tieBreak, revisable, trustNames, revealMs },
      options: options && [...options],
      vetoHolders: vetoHolders && [...vetoHolders],
      endedAt: over?.at,
      because: over?.because,
      reason: over?.reason === undefined ? undefined : cut(over.reason, RATIONALE_CHARS * scale).text,
      waitingFor: waitingFor?.slice(0, Math.ceil(2 * NAMES * scale)),
      yourWeight: settings.algorithm === "weighted" ? weight : undefined,
      yourBallot: row && ballotView(row, scale / 2),
      outcome: tally?.outcome,
      winners: tally && [...tally.winners],
    }),
  };
}

export function ballotView(row: BallotRow, scale: number): Output<typeof ballot> {
  const { voter, ballot: cast, commitment, revisions, delegated, recused, equivocation } = row;
  const rationale = cast?.rationale === undefined ? undefined : cut(cast.rationale, RATIONALE_CHARS * scale);
  const signed = cast?.signature ?? commitment?.signature ?? delegated?.signature;
  const signature = signed === undefined ? undefined : cut(signed, SIGNATURE_CHARS * scale);
  const view = {
    voter,
    choice: cast && choiceView(cast.choice),
    rationale: rationale?.text,
    rationaleCutChars: rationale?.cutChars,
    at: cast?.at,
    commitment: commitment?.hash,
    committedAt: commitment?.at,
    nonce: commitment?.nonce,
    signature: signature?.text,
    signatureCutChars: signature?.cutChars,
    revisions,
    delegatedTo: delegated?.to,
    recused,
    equivocation: equivocation?.signatures.map((one) => cut(one, SIGNATURE_CHARS * scale).text),
  };
  return defined(view);
}

export function resultView({ outcome, hash, countedBy, signature }: ResultRecord, scale: number): Output<typeof result> {
  const { tally, because, closedAt, claim, proposalHash, ballotsHash, notVoted, ...others } = outcome;
  const { recused, delegated, delegatedInVain, notRevealed, equivocated, invalid, unsigned } = others;
  const few = (all: Named) => (all.count === 0 ? undefined : shortened(all, scale));
  const shown = tally.steps.slice(0, Math.ceil(STEPS * scale));
  const view = {
    outcome: tally.outcome,
    winners: [...tally.winners],
    counts: countsView(tally.counts),
    scale: tally.scale,
    turnout: { ...tally.turnout },
    order: tally.order?.map((place) => [...place]),
    ...{ because, closedAt },
    steps: shown.map((step) => stepView(step, scale)),
    stepsLeftOut: shown.length === tally.steps.length ? undefined : tally.steps.length - shown.length,
    warnings: [...tally.warnings],
    notVoted: shortened(notVoted, scale),
    recused: few(recused),
    delegated: few(delegated),
    delegatedInVain: few(delegatedInVain),
    notRevealed: few(notRevealed),
    equivocated: few(equivocated),
    invalid: few(invalid),
    unsigned: few(unsigned),
    ...{ claim, proposalHash, ballotsHash, hash, countedBy, signature },
  };
  return defined(view);
}

function choiceView({ ranking, scores, ...choice }: Choice) {
  return {
    ...choice,
    ...defined({
      ranking: ranking?.map((place) => [...place]),
      scores: scores && Object.entries(scores).map(([option, score]) => ({ option, score })),
    }),
  };
}

function countsView(counts: Readonly<Record<string, number>>): { of: string; count: number }[] {
  return Object.entries(counts).map(([of, count]) => ({ of, count }));
}

function stepView({ rule, options, voters, counts, matrix }: Step, scale: number): Output<typeof step> {
  const most = Math.ceil(NAMES * scale);
  return defined({
    rule,
    options: options && [...options],
    voters: voters && [...voters.slice(0, most)],
    votersLeftOut: voters && voters.length > most ? voters.length - most : undefined,
    counts: counts && countsView(counts),
    matrix: scale < 1 ? undefined : matrix?.map((row) => [...row]),
  });
}

function shortened({ count, names }: Named, scale: number): { count: number; names: string[] } {
  return { count, names: names.slice(0, Math.ceil(NAMES * scale)) };
}

type Defined<T> = { [Name in keyof T as undefined extends T[Name] ? never : Name]: T[Name] } & {
  [Name in keyof T as undefined extends T[Name] ? Name : never]?: Exclude<T[Name], undefined>;
};

/** Without the members that are undefined. */
function defined<T extends object>(view: T): Defined<T> {
  return Object.fromEntries(Object.entries(view).filter(([, value]) => value !== undefined)) as Defined<T>;
}
