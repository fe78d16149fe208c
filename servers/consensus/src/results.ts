/** What came of votes: waited for, read ballot by ballot, and computed again. */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { type Json, PAGE_DEFAULT, SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";
import type { BallotRow } from "./ballot-record.ts";
import { hashOf } from "./canonical.ts";
import { type Closing, endsAs, type Waiting } from "./closing.ts";
import { asJson, type ResultRecord } from "./result-record.ts";
import { resultPayload, type Signing } from "./signing.ts";
import { outcomeOf } from "./tallying.ts";
import { noSuchVote, type VoteBook } from "./vote-book.ts";
import { ballotPrefix, readBallots, readVote, type Vote } from "./vote-layer.ts";
import { proposalHash, statusAt, type VoteRecord, type VoteState, type VoteStatus } from "./vote-record.ts";

export interface ResultsOptions {
  book: VoteBook;
  closing: Closing;
  signing: Signing;
}

export type FoundResult = {
  readonly record: VoteRecord;
  readonly state: VoteState | undefined;
  readonly status: VoteStatus;
  readonly result: ResultRecord | undefined;
};

/** One thing that `verify` looked at. */
export type Check = { readonly what: "proposal" | "ballots" | "end" | "tally" | "record" | "signature"; readonly ok: boolean };

export type Verified = {
  readonly voteId: string;
  readonly verified: boolean;
  readonly checks: readonly Check[];
  /** Path of the first member that comes out otherwise than the record says. */
  readonly difference?: string;
};

export class Results {
  readonly #options: ResultsOptions;

  constructor(options: ResultsOptions) {
    this.#options = options;
  }

  /** The result; without one where the vote is, once `waitMs` is over or there is something to reveal. */
  async get(call: Call, input: { readonly voteId: string }, waiting: Waiting = { waitMs: 0 }): Promise<FoundResult> {
    const { book, closing } = this.#options;
    const vote = await book.find(call.store, input.voteId);
    const { state, result, now } = await closing.wait(call.store, vote, call.caller.agentId, waiting);
    return { record: vote.record, state, result, status: statusAt(vote.record, state, now).status };
  }

  /** What the participants did, in order of their names as keys. Choices are shown once the vote is closed, and never before. */
  async ballots(
    call: Call,
    input: { readonly voteId: string; readonly limit?: number | undefined; readonly cursor?: string | undefined },
  ): Promise<{ rows: BallotRow[]; nextCursor?: string }> {
    const { store, caller } = call;
    const { book, closing } = this.#options;
    const { limit = PAGE_DEFAULT } = input;
    const vote = await book.find(store, input.voteId);
    const { id } = vote.record;
    const { result } = await closing.settle(store, vote);
    const scope = { list: `ballots\0${id}`, prefix: ballotPrefix(id) };
    const after = input.cursor === undefined ? {} : { after: decodeCursor(scope, input.cursor) };
    const page = await store.scan(prefixRange(scope.prefix, limit, after));
    const rows = page.map(({ value }) => value as BallotRow);
    const last = page.length === limit ? page.at(-1)?.key : undefined;
    return {
      rows: result ? rows : rows.map((row) => withoutChoice(row, caller.agentId)),
      ...(last === undefined ? {} : { nextCursor: encodeCursor(scope, last) }),
    };
  }

  /**
   * Computes the result again from what the store holds, and compares.
   * @throws SwarmError failed_precondition while there is none
   */
  async verify(call: Call, input: { readonly voteId: string }): Promise<Verified> {
    const { store } = call;
    const { closing, signing } = this.#options;
    const vote = await readVote(store, input.voteId); // not as this process remembers it
    if (!vote) throw noSuchVote(input.voteId);
    const { record } = vote;
    const { state, result } = await closing.settle(store, vote);
    if (!result) {
      throw new SwarmError("failed_precondition", "The vote has no result to verify.", {
        hint: "get_result with waitMs waits for it; a cancelled vote has none.",
      });
    }
    const { outcome, signature, countedBy } = result;
    // a result without a state says itself how the vote ended, which proves nothing
    const end: VoteState = state ?? { phase: "closed", at: outcome.closedAt, because: outcome.because };
    const rows = await readBallots(store, record.id);
    const again = await outcomeOf(vote, rows, end, signing);
    const stored = asJson(outcome);
    const difference = firstDifference(stored, asJson(again));
    const checks: Check[] = [
      { what: "proposal", ok: isAsHashed(vote) && outcome.proposalHash === record.hash },
      { what: "ballots", ok: again.ballotsHash === outcome.ballotsHash && again.invalid.count === 0 },
      { what: "end", ok: state !== undefined && (await endsAs(vote, rows, end, signing)) },
      { what: "tally", ok: difference === undefined },
      { what: "record", ok: hashOf(stored) === result.hash },
    ];
    if (signature !== undefined && countedBy !== undefined) {
      const ok = await signing.proves("vote-result", countedBy, resultPayload(record, result.hash), signature);
      checks.push({ what: "signature", ok });
    }
    const verified = checks.every(({ ok }) => ok);
    return { voteId: record.id, verified, checks, ...(difference === undefined ? {} : { difference }) };
  }
}

/** Whether the vote is what its hash stands for; its deadline follows from that. */
function isAsHashed({ record, roll }: Vote): boolean {
  return proposalHash(record, roll) === record.hash && record.closesAt === record.startedAt + record.timeoutMs;
}

/** Whether a participant has done something, and what it did that shows no choice. Its own row is shown whole, but to others. */
function withoutChoice(row: BallotRow, reader: string): BallotRow {
  if (row.voter === reader) return row;
  const { ballot, commitment, revised: _, ...rest } = row;
  return {
    ...rest,
    ...(ballot ? { ballot: { choice: {}, at: ballot.at } } : {}),
    ...(commitment ? { commitment: { hash: commitment.hash, at: commitment.at } } : {}),
  };
}

/** The path of the first member in which two values differ, in the order of the members' names; undefined when they are equal. */
export function firstDifference(one: Json | undefined, other: Json | undefined, path = ""): string | undefined {
  if (one === other) return undefined;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return path;
  const [ones, others] = [new Map(Object.entries(one)), new Map(Object.entries(other))];
  for (const name of [...new Set([...ones.keys(), ...others.keys()])].sort()) {
    const found = firstDifference(ones.get(name), others.get(name), path === "" ? name : `${path}.${name}`);
    if (found !== undefined) return found;
  }
  return undefined;
}
