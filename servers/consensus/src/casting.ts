/** What participants do: cast, commit, reveal, delegate, recuse themselves. Each writes its own row and no other. */
import { SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import type { Transaction } from "@mcp-swarm/store";
import { type Ballot, type BallotRow, type Choice, type Commitment, isSettled, REVISIONS_KEPT_MAX } from "./ballot-record.ts";
import { canonicalJson } from "./canonical.ts";
import type { Closing, Counted } from "./closing.ts";
import { commitmentOf, type Nonces, Safe } from "./sealing.ts";
import { ballotPayload, commitmentPayload, delegationPayload, type SignedType, type Signing } from "./signing.ts";
import { ruleFor, tallyBallot } from "./tallying.ts";
import { noSuchVote, type VoteBook, weightOf } from "./vote-book.ts";
import {
  ballotKey,
  countKey,
  countOne,
  noteChange,
  readBallot,
  readState,
  SMALL_VOTE_MAX,
  shardOf,
  stateKey,
  type Vote,
  writeBallot,
} from "./vote-layer.ts";
import { tallySettings } from "./vote-record.ts";

/** A choice as it is said in a call. */
export interface ChoiceInput {
  readonly vote?: string | undefined;
  /** Best first; equal ones at one place. */
  readonly ranking?: readonly (readonly string[])[] | undefined;
  readonly scores?: Readonly<Record<string, number>> | undefined;
  readonly confidence?: number | undefined;
  readonly modelFamily?: string | undefined;
}

interface OfVote {
  readonly voteId: string;
  /** A subagent of the caller. */
  readonly agentId?: string | undefined;
}

export interface CastVote extends OfVote, ChoiceInput {
  readonly rationale?: string | undefined;
  /** Of a sealed vote, instead of all that says something. */
  readonly commitment?: string | undefined;
  /** A compact JWS of the voter's own, where its key is not in this process. */
  readonly signature?: string | undefined;
}

export interface RevealVote extends OfVote, ChoiceInput {
  readonly nonce?: string | undefined;
  readonly rationale?: string | undefined;
}

/** What became of a ballot. `equivocation`: it is the voter's second signed one, so that none of them counts. */
export type CastOutcome = {
  readonly voteId: string;
  readonly voter: string;
  readonly recorded: "cast" | "revised" | "committed" | "revealed" | "equivocation";
  readonly at: number;
  readonly signed: boolean;
};

export type SealedBallot = {
  readonly voteId: string;
  readonly voter: string;
  readonly commitment: string;
  readonly nonce: string;
  /** As it was committed to. */
  readonly choice: Choice;
};

export type DelegationOutcome = {
  readonly voteId: string;
  readonly voter: string;
  readonly to: string | null;
  readonly at: number;
};
export type RecusalOutcome = { readonly voteId: string; readonly voter: string; readonly at: number };

/** The how manieth it was in its part of the counts; 0 where nothing is counted. */
type Nth = { readonly nth: number };

export interface CastingOptions {
  book: VoteBook;
  closing: Closing;
  signing: Signing;
  nonces: Nonces;
  /** Told when the end of a vote could not be written after a ballot was: the next to look writes it. */
  onError: (error: unknown) => void;
}

export class Casting {
  readonly #options: CastingOptions;
  readonly #safe = new Safe<Choice>();

  constructor(options: CastingOptions) {
    this.#options = options;
  }

  /**
   * @throws SwarmError permission_denied (no participant), failed_precondition (closed, recused, sealed), already_exists (a final ballot
   *   is there), invalid_argument (a ballot that the vote's method cannot count)
   */
  async cast(call: Call, input: CastVote): Promise<CastOutcome> {
    const { vote, voter } = await this.#participant(call, input);
    const { record } = vote;
    const sealed = record.settings.sealed === true;
    const of = { record, voter };
    if (sealed !== (input.commitment !== undefined)) throw sealed ? isSealed() : isNotSealed();
    if (input.commitment !== undefined) {
      const { commitment } = input;
      checkOnlyCommitment(input);
      const payload = commitmentPayload(of, commitment);
      const signature = await this.#sign(call, vote, voter, "commitment", payload, input.signature);
      return this.#put(call, vote, voter, "committed", (at) => ({ commitment: { hash: commitment, at, ...maybe(signature) } }));
    }
    const choice = checkedChoice(vote, voter, input);
    const { rationale } = input;
    const payload = ballotPayload(of, choice, rationale);
    const signature = await this.#sign(call, vote, voter, "ballot", payload, input.signature);
    return this.#put(call, vote, voter, "cast", (at) => ({
      ballot: { choice, ...(rationale === undefined ? {} : { rationale }), at, ...maybe(signature) },
    }));
  }

  /**
   * A commitment to a choice and the nonce that opens it. Nothing is written: this process keeps both in its memory, so that its agent may
   * reveal without saying them again.
   */
  async seal(call: Call, input: OfVote & ChoiceInput): Promise<SealedBallot> {
    const { vote, voter } = await this.#participant(call, input);
    if (vote.record.settings.sealed !== true) throw isNotSealed();
    const choice = checkedChoice(vote, voter, input);
    const nonce = this.#options.nonces();
    const voteId = vote.record.id;
    const commitment = commitmentOf({ voteId, voter, choice }, nonce);
    this.#safe.keep(commitment, { choice, nonce });
    return { voteId, voter, commitment, nonce, choice };
  }

  /** @throws SwarmError failed_precondition (too early, too late, nothing committed), invalid_argument (it opens another commitment) */
  async reveal(call: Call, input: RevealVote): Promise<CastOutcome> {
    const { vote, voter } = await this.#participant(call, input);
    const { record } = vote;
    if (record.settings.sealed !== true) throw isNotSealed();
    await this.#options.closing.settle(call.store, vote); // the casting may be over and nobody has said so
    const committed = await this.#rowOf(call, vote, voter);
    const hash = committed?.commitment?.hash;
    const kept = hash === undefined ? undefined : this.#safe.find(hash);
    const said = saysSomething(input);
    const nonce = input.nonce ?? kept?.nonce;
    const choice = said ? checkedChoice(vote, voter, input) : kept?.choice;
    const { rationale } = input;
    const opening =
      choice === undefined || nonce === undefined
        ? undefined
        : { choice, nonce, hash: commitmentOf({ voteId: record.id, voter, choice }, nonce) };
    const payload = choice === undefined ? undefined : ballotPayload({ record, voter }, choice, rationale);
    const signature = payload && (await this.#options.signing.sign("ballot", voter, payload));
    const { nth, ...outcome } = await call.transact(
      (tx): CastOutcome & Nth => {
        const state = readState(tx, record.id);
        if (tx.now >= record.keptUntil) throw noSuchVote(record.id);
        if (!state) throw notYet(record.closesAt);
        if (state.phase !== "revealing" || tx.now >= (state.revealUntil ?? 0)) throw isOver("revealed");
        const row = readBallot(tx, record.id, voter);
        if (!row?.commitment || row.equivocation) throw nothingCommitted();
        if (row.ballot) throw alreadyIn("revealed");
        if (!opening) throw whichChoice();
        if (opening.hash !== row.commitment.hash) throw opensAnother();
        const ballot: Ballot = {
          choice: opening.choice,
          ...(rationale === undefined ? {} : { rationale }),
          at: tx.now,
          ...maybe(signature),
        };
        writeBallot(tx, record, { ...row, ballot, commitment: { ...row.commitment, nonce: opening.nonce } });
        const nth = countOne(tx, record, voter, "revealed");
        return {
          voteId: record.id,
          voter,
          recorded: "revealed",
          at: tx.now,
          signed: row.commitment.signature !== undefined,
          nth,
        };
      },
      { prefetch: { keys: this.#keys(vote, voter) } },
    );
    if (hash !== undefined) this.#safe.forget(hash);
    await this.#follow(call, vote, { shard: shardOf(voter), nth });
    return outcome;
  }

  /** Gives one's vote to another participant, who may pass it on; without `to` takes it back. Frozen at the close. */
  async delegate(
    call: Call,
    input: OfVote & { readonly to?: string | undefined; readonly signature?: string | undefined },
  ): Promise<DelegationOutcome> {
    const { vote, voter } = await this.#participant(call, input);
    const { record } = vote;
    const { to } = input;
    if (record.settings.algorithm === "byzantine") {
      throw new SwarmError("failed_precondition", "In a byzantine vote each participant votes for itself.", {
        hint: "Cast your own ballot, or abstain.",
      });
    }
    if (to === voter || (to !== undefined && weightOf(vote, to) === undefined)) {
      throw new SwarmError("invalid_argument", 'Field "to" must name another participant of the vote.');
    }
    const signature =
      to === undefined
        ? undefined
        : await this.#sign(call, vote, voter, "delegation", delegationPayload({ record, voter }, to), input.signature);
    return call.transact(
      (tx): DelegationOutcome => {
        const row = this.#takePart(tx, vote, voter);
        if (isSettled(row)) throw record.settings.revisable ? staysIn() : alreadyIn("cast");
        const { delegated: _, ...rest } = row;
        writeBallot(tx, record, to === undefined ? rest : { ...rest, delegated: { to, at: tx.now, ...maybe(signature) } });
        return { voteId: record.id, voter, to: to ?? null, at: tx.now };
      },
      { prefetch: { keys: this.#keys(vote, voter) } },
    );
  }

  /** Takes no part, for good: the participant is no longer eligible. Only before it voted. */
  async recuse(call: Call, input: OfVote & { readonly reason: string }): Promise<RecusalOutcome> {
    const { vote, voter } = await this.#participant(call, input);
    const { record } = vote;
    if (record.settings.algorithm === "byzantine") {
      throw new SwarmError(
        "failed_precondition",
        "The size of a byzantine vote is fixed: how many faults it bears depends on it.",
        {
          hint: 'Cast "abstain" instead.',
        },
      );
    }
    const { nth, ...outcome } = await call.transact(
      (tx): RecusalOutcome & Nth => {
        const row = this.#takePart(tx, vote, voter);
        if (isSettled(row)) throw record.settings.revisable ? staysIn() : alreadyIn("cast");
        const { delegated: _, ...rest } = row;
        writeBallot(tx, record, { ...rest, recused: { reason: input.reason, at: tx.now } });
        noteChange(tx, record);
        const nth = countOne(tx, record, voter, "settled");
        return { voteId: record.id, voter, at: tx.now, nth };
      },
      { prefetch: { keys: this.#keys(vote, voter) } },
    );
    await this.#follow(call, vote, { shard: shardOf(voter), nth });
    return outcome;
  }

  async #participant(call: Call, { voteId, agentId }: OfVote): Promise<{ vote: Vote; voter: string }> {
    const voter = speakAs(call.caller, agentId);
    const vote = await this.#options.book.find(call.store, voteId);
    if (weightOf(vote, voter) !== undefined) return { vote, voter };
    throw new SwarmError("permission_denied", `${voter} is no participant of vote ${voteId}.`, {
      hint: "Only those whom the initiator named may take part; get_vote tells whether you are one.",
    });
  }

  /**
   * A signature over what is cast: the voter's own, or one by this process. None when a final ballot is there already and the voter gave
   * none: a server does not make an equivocator of an agent that merely forgot.
   */
  async #sign(
    call: Call,
    vote: Vote,
    voter: string,
    type: SignedType,
    payload: Parameters<Signing["sign"]>[2],
    own: string | undefined,
  ): Promise<string | undefined> {
    const { signing } = this.#options;
    const { settings } = vote.record;
    if (own === undefined && !settings.revisable && signing.secured) {
      const row = await this.#rowOf(call, vote, voter);
      if (row && isSettled(row)) return undefined;
    }
    const signature = await signing.sign(type, voter, payload, own);
    if (signature === undefined && settings.algorithm === "byzantine" && !settings.trustNames) {
      throw new SwarmError(
        "failed_precondition",
        "Ballots of a byzantine vote are signed, and this server has no key of yours.",
        {
          hint: "Sign the ballot with your agent's key and give the compact JWS as signature.",
        },
      );
    }
    return signature;
  }

  async #put(
    call: Call,
    vote: Vote,
    voter: string,
    recorded: "cast" | "committed",
    make: (at: number) => { ballot: Ballot } | { commitment: Commitment },
  ): Promise<CastOutcome> {
    const { record } = vote;
    const { nth, ...outcome } = await call.transact(
      (tx): CastOutcome & Nth => {
        const row = this.#takePart(tx, vote, voter);
        const made = make(tx.now);
        const now = "ballot" in made ? made.ballot : made.commitment;
        const before = row.ballot ?? row.commitment;
        const { delegated: _, ...rest } = row; // an own ballot overrides
        const answer = { voteId: record.id, voter, at: tx.now, signed: now.signature !== undefined, nth: 0 };
        if (before && record.settings.revisable) {
          const revised = [before, ...(row.revised ?? [])].slice(0, REVISIONS_KEPT_MAX);
          writeBallot(tx, record, { ...rest, ...made, revised, revisions: (row.revisions ?? 0) + 1 });
          return { ...answer, recorded: "revised" };
        }
        if (before) {
          const { signature: first } = before;
          const { signature: second } = now;
          const same = saying(before) === saying(now);
          if (same || first === undefined || second === undefined) throw alreadyIn("cast");
          writeBallot(tx, record, { ...row, equivocation: { signatures: [first, second], at: tx.now } });
          noteChange(tx, record);
          return { ...answer, recorded: "equivocation" };
        }
        writeBallot(tx, record, { ...rest, ...made });
        return { ...answer, recorded, nth: countOne(tx, record, voter, "settled") };
      },
      { prefetch: { keys: this.#keys(vote, voter) } },
    );
    await this.#follow(call, vote, { shard: shardOf(voter), nth });
    return outcome;
  }

  /** The participant's row, in a vote that takes ballots from it. */
  #takePart(tx: Transaction, { record }: Vote, voter: string): BallotRow {
    if (tx.now >= record.keptUntil) throw noSuchVote(record.id);
    const state = readState(tx, record.id);
    if (state?.phase === "cancelled") {
      throw new SwarmError("failed_precondition", "The vote was cancelled.", { hint: "Its initiator may begin another." });
    }
    if (state || tx.now >= record.closesAt) throw isOver("taken");
    const row = readBallot(tx, record.id, voter) ?? { voter };
    if (row.recused) {
      throw new SwarmError("failed_precondition", "You have recused yourself from this vote.", {
        hint: "A recusal is for good.",
      });
    }
    if (row.equivocation) {
      throw new SwarmError("failed_precondition", "Two different signed ballots of yours are known: you are out of this vote.");
    }
    return row;
  }

  async #rowOf(call: Call, { record }: Vote, voter: string): Promise<BallotRow | undefined> {
    return (await call.store.get(ballotKey(record.id, voter)))?.value as BallotRow | undefined;
  }

  #keys({ record }: Vote, voter: string): string[] {
    const counted = record.participants > SMALL_VOTE_MAX ? [countKey(record.id, shardOf(voter))] : [];
    return [stateKey(record.id), ballotKey(record.id, voter), ...counted];
  }

  /** The ballot is in, whatever becomes of this. */
  async #follow(call: Call, vote: Vote, counted: Counted): Promise<void> {
    const { closing, onError } = this.#options;
    await closing.follow(call.store, vote, counted).catch(onError);
  }
}

function maybe(signature: string | undefined): { signature?: string } {
  return signature === undefined ? {} : { signature };
}

/** What a ballot or commitment says, without when and by which signature. */
function saying(one: Ballot | Commitment): string {
  return "hash" in one ? one.hash : canonicalJson({ ...one.choice, rationale: one.rationale });
}

function choiceOf({ vote, ranking, scores, confidence, modelFamily }: ChoiceInput): Choice {
  return {
    ...(vote === undefined ? {} : { vote }),
    ...(ranking === undefined ? {} : { ranking }),
    ...(scores === undefined ? {} : { scores }),
    ...(confidence === undefined ? {} : { confidence }),
    ...(modelFamily === undefined ? {} : { modelFamily }),
  };
}

function saysSomething({ vote, ranking, scores }: ChoiceInput): boolean {
  return (vote ?? ranking ?? scores) !== undefined;
}

/** @throws SwarmError invalid_argument when the vote's method cannot count it */
function checkedChoice({ record }: Vote, voter: string, input: ChoiceInput): Choice {
  const choice = choiceOf(input);
  ruleFor(record).checkBallot(tallySettings(record.settings), tallyBallot(voter, { choice }));
  return choice;
}

function checkOnlyCommitment(input: CastVote): void {
  const { rationale, confidence, modelFamily } = input;
  if (!saysSomething(input) && (rationale ?? confidence ?? modelFamily) === undefined) return;
  throw new SwarmError("invalid_argument", "A commitment goes alone: what else you say of your choice would show it.", {
    hint: "Say vote, ranking, scores, confidence and modelFamily to seal_ballot, and the rationale to reveal_vote.",
  });
}

function isSealed(): SwarmError {
  return new SwarmError("failed_precondition", "This vote is sealed: it takes commitments, and choices after the close.", {
    hint: "seal_ballot makes a commitment of your choice and what opens it; cast the commitment, and reveal_vote after the close.",
  });
}

function isNotSealed(): SwarmError {
  return new SwarmError("failed_precondition", "This vote is not sealed.", { hint: "Say your choice to cast_vote." });
}

function isOver(what: "taken" | "revealed"): SwarmError {
  const message =
    what === "taken" ? "The vote is closed: no more ballots are taken." : "The vote is closed: nothing is revealed any more.";
  return new SwarmError("failed_precondition", message, { hint: "get_result tells what came of it." });
}

function alreadyIn(what: "cast" | "revealed"): SwarmError {
  const message = what === "cast" ? "Your ballot is in, and final." : "Your ballot is open already.";
  return new SwarmError("already_exists", message, { hint: "get_vote shows it; get_result tells what comes of the vote." });
}

/** Of a revisable vote. */
function staysIn(): SwarmError {
  return new SwarmError("already_exists", "Your ballot is in: it may be replaced, but not taken back.", {
    hint: "Cast another with cast_vote; abstain leaves the choice to others.",
  });
}

function notYet(closesAt: number): SwarmError {
  return new SwarmError(
    "failed_precondition",
    `Ballots are still taken until ${new Date(closesAt).toISOString()}, or until all are in.`,
    {
      hint: "get_result with waitMs waits; reveal when the vote's status is revealing.",
    },
  );
}

function nothingCommitted(): SwarmError {
  return new SwarmError("failed_precondition", "No commitment of yours counts in this vote.", {
    hint: "Only what was committed before the close can be revealed.",
  });
}

function whichChoice(): SwarmError {
  return new SwarmError("invalid_argument", "This server process does not know what opens your commitment.", {
    hint: "Give the opening that seal_ballot answered.",
  });
}

function opensAnother(): SwarmError {
  return new SwarmError("invalid_argument", "This does not open your commitment.", {
    hint: "Give the opening that seal_ballot answered with the very commitment that you cast.",
  });
}
