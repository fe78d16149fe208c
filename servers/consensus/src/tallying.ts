/** From the rows of a vote to what its rule counts. Pure but for the checking of signatures. */
import { SwarmError } from "@mcp-swarm/core";
import type { Ballot, BallotRow } from "./ballot-record.ts";
import { hashOf } from "./canonical.ts";
import { type Named, named, type Outcome } from "./result-record.ts";
import { commitmentOf } from "./sealing.ts";
import { ballotPayload, commitmentPayload, delegationPayload, type Signing } from "./signing.ts";
import { ABSTAIN, type Rule, resolveDelegations, ruleOf, type Tally, type Ballot as TallyBallot } from "./tally/index.ts";
import { weightOf } from "./vote-book.ts";
import type { Vote } from "./vote-layer.ts";
import { tallySettings, type VoteRecord, type Voter, type VoteState } from "./vote-record.ts";

/** Signatures that are checked at once. */
const CHECKED_AT_ONCE = 64;

export function ruleFor({ settings }: Pick<VoteRecord, "settings">): Rule {
  return ruleOf(tallySettings(settings));
}

/** Who may vote: the participants who have not recused themselves, each with its weight. */
export function electorateOf(
  { record, roll }: { record: Pick<VoteRecord, "settings">; roll: readonly Voter[] },
  rows: readonly BallotRow[],
): Map<string, number> {
  // the size of a byzantine vote is fixed
  const leaves = record.settings.algorithm !== "byzantine";
  const recused = new Set(rows.filter((row) => leaves && row.recused).map(({ voter }) => voter));
  const weighs = record.settings.algorithm === "weighted";
  return new Map(roll.filter(({ name }) => !recused.has(name)).map(({ name, weight }) => [name, weighs ? weight : 1]));
}

export function tallyBallot(voter: string, { choice: { vote, ...choice } }: Pick<Ballot, "choice">): TallyBallot {
  return { voter, ...(vote === undefined ? {} : { choice: vote }), ...choice };
}

/** The ballots that are in; a voter of two different signed ones is there as such. */
function ballotsIn(rows: readonly BallotRow[], eligible: ReadonlyMap<string, number>): TallyBallot[] {
  return rows.flatMap(({ voter, ballot, commitment, equivocation }): TallyBallot[] => {
    if (!eligible.has(voter)) return [];
    if (equivocation) return [{ voter, equivocated: true }];
    if (ballot) return [tallyBallot(voter, ballot)];
    return commitment ? [{ voter, choice: ABSTAIN }] : []; // sealed and never opened
  });
}

/**
 * The result, once no ballot that may still come can change it; any part of the final ballots will do to say so. A participant who
 * delegated may still vote, so its vote counts as open.
 */
export function decidedBy(vote: Vote, rows: readonly BallotRow[]): Tally | undefined {
  const { settings } = vote.record;
  const eligible = electorateOf(vote, rows);
  if (eligible.size === 0) return undefined;
  return ruleFor(vote.record).decided(tallySettings(settings), { eligible }, ballotsIn(rows, eligible));
}

/** Counts the frozen rows of a vote. */
export async function outcomeOf(vote: Vote, rows: readonly BallotRow[], state: VoteState, signing: Signing): Promise<Outcome> {
  const { record } = vote;
  const { id: voteId, hash: proposalHash } = record;
  const invalid = new Set(await invalidVoters(vote, rows, signing));
  // rows of strangers, which no server wrote, are nothing
  const valid = rows.filter(({ voter }) => !invalid.has(voter) && weightOf(vote, voter) !== undefined);
  const own = { eligible: electorateOf(vote, valid) };
  const voted = new Set(valid.filter(hasVoted).map(nameOf));
  const delegations = new Map(valid.flatMap(({ voter, delegated }) => (delegated ? [[voter, delegated.to]] : [])));
  const { electorate, carried, abstaining } = resolveDelegations(delegations, own, voted, record.settings.delegation);
  const ballots = [...ballotsIn(valid, own.eligible), ...abstaining.map((voter) => ({ voter, choice: ABSTAIN }))];
  const spoken = new Set([...voted, ...carried.keys(), ...abstaining]);
  return {
    ...{ voteId, proposalHash },
    ballotsHash: hashOf([...rows].sort(byVoter)),
    closedAt: state.at,
    because: state.because,
    tally: ruleFor(record).tally(tallySettings(record.settings), electorate, ballots),
    notVoted: named([...own.eligible.keys()].filter((name) => !spoken.has(name))),
    recused: voters(valid, ({ recused }) => recused !== undefined),
    delegated: named([...carried.keys()].sort()),
    delegatedInVain: named(abstaining),
    notRevealed: voters(valid, ({ ballot, commitment, equivocation }) => !!commitment && !ballot && !equivocation),
    equivocated: voters(valid, ({ equivocation }) => equivocation !== undefined),
    invalid: named([...invalid].sort()),
    unsigned: voters(valid, (row) => record.settings.secured === true && isUnsigned(row)),
    claim: claimOf(record),
  };
}

/** What the result is worth, in words. */
export function claimOf({ settings }: Pick<VoteRecord, "settings">): string {
  if (settings.algorithm === "byzantine") {
    return settings.trustNames
      ? "Names are taken on trust: nothing proves that different voters are different agents, so no faulty voter is outvoted for certain."
      : "Byzantine voters, a trusted tally: up to f voters may lie in any way, each ballot is signed by its voter, and whoever keeps the store counts honestly.";
  }
  return settings.secured
    ? "Ballots are signed with their voters' keys, but for those named under unsigned: that these are theirs the store alone says."
    : "Voters' names are taken on trust: the swarm is open.";
}

/** Those whose signature is missing where it must be, or wrong; and commitments that were opened to something else. */
async function invalidVoters(vote: Vote, rows: readonly BallotRow[], signing: Signing): Promise<string[]> {
  const found: string[] = [];
  for (let at = 0; at < rows.length; at += CHECKED_AT_ONCE) {
    const some = rows.slice(at, at + CHECKED_AT_ONCE);
    const good = await Promise.all(some.map((row) => isValid(vote, row, signing)));
    found.push(...some.filter((_, index) => !good[index]).map(nameOf));
  }
  return found;
}

async function isValid({ record }: Vote, row: BallotRow, signing: Signing): Promise<boolean> {
  const { voter, ballot, commitment, delegated, equivocation } = row;
  if (ballot && !isCountable(record, voter, ballot)) return false;
  if (ballot && commitment) {
    const sealed = { voteId: record.id, voter, choice: ballot.choice };
    if (commitment.nonce === undefined || commitmentOf(sealed, commitment.nonce) !== commitment.hash) return false;
  }
  if (!signing.secured) return true;
  const of = { record, voter };
  if (equivocation) return signing.provesTwo(of, equivocation.signatures);
  const must = record.settings.algorithm === "byzantine" && !record.settings.trustNames;
  const checks: Promise<boolean>[] = [];
  const check = (type: "ballot" | "commitment" | "delegation", payload: ReturnType<typeof ballotPayload>, signature?: string) => {
    if (signature !== undefined) checks.push(signing.proves(type, voter, payload, signature));
    else if (must) checks.push(Promise.resolve(false));
  };
  if (commitment) check("commitment", commitmentPayload(of, commitment.hash), commitment.signature);
  else if (ballot) check("ballot", ballotPayload(of, ballot.choice, ballot.rationale), ballot.signature);
  if (delegated && !ballot && !commitment) check("delegation", delegationPayload(of, delegated.to), delegated.signature);
  return (await Promise.all(checks)).every((good) => good);
}

/** Whether no key of the voter's says what counts of its row. */
function isUnsigned({ ballot, commitment, delegated, equivocation }: BallotRow): boolean {
  const said = commitment ?? ballot ?? delegated;
  return said !== undefined && said.signature === undefined && !equivocation;
}

/** Whether the vote's method can count it: of rows that no server wrote nobody knows. */
function isCountable({ settings }: VoteRecord, voter: string, ballot: Ballot): boolean {
  try {
    ruleFor({ settings }).checkBallot(tallySettings(settings), tallyBallot(voter, ballot));
    return true;
  } catch (error) {
    if (error instanceof SwarmError && error.code === "invalid_argument") return false;
    throw error;
  }
}

const hasVoted = ({ ballot, commitment, equivocation }: BallotRow): boolean =>
  (ballot ?? commitment ?? equivocation) !== undefined;
const nameOf = ({ voter }: BallotRow): string => voter;
const byVoter = (a: BallotRow, b: BallotRow): number => (a.voter < b.voter ? -1 : 1);

/** Rows whose signatures hold. */
export async function validRows(vote: Vote, rows: readonly BallotRow[], signing: Signing): Promise<BallotRow[]> {
  const invalid = new Set(await invalidVoters(vote, rows, signing));
  return rows.filter(({ voter }) => !invalid.has(voter));
}

function voters(rows: readonly BallotRow[], which: (row: BallotRow) => boolean): Named {
  return named(rows.filter(which).map(nameOf).sort());
}
