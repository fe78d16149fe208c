/** What came of a vote: written once, by whoever first looks after its end, from rows that no longer change. */
import type { JsonObject } from "@mcp-swarm/core";
import type { Tally } from "./tally/rule.ts";
import type { EndedBecause } from "./vote-record.ts";

/** Voters that a result names of each kind; the counts are of all. */
export const NAMED_MAX = 100;

/** Some voters by name, and how many there are. */
export type Named = { readonly count: number; readonly names: readonly string[] };

/** All of it follows from the record of the vote and its ballots: whoever computes it again gets the same. */
export type Outcome = {
  readonly voteId: string;
  readonly proposalHash: string;
  /** SHA-256 over all rows of the participants, in order of their names: tallying.ts. */
  readonly ballotsHash: string;
  readonly closedAt: number;
  readonly because: EndedBecause;
  readonly tally: Tally;
  /** Participants who neither voted, delegated nor recused themselves. */
  readonly notVoted: Named;
  readonly recused: Named;
  /** Whose vote another cast with its own. */
  readonly delegated: Named;
  /** Whose delegation led in a circle, too far, or to more weight than one may have: they abstain. */
  readonly delegatedInVain: Named;
  /** Sealed ballots that nobody opened: they count as abstentions. */
  readonly notRevealed: Named;
  /** Voters with two different signed ballots: they are out. */
  readonly equivocated: Named;
  /** Ballots whose signature is missing or wrong: they are not counted. */
  readonly invalid: Named;
  /** Of a secured swarm: voters whose ballot or delegation counts without a signature, because their key was elsewhere. */
  readonly unsigned: Named;
  /** What was proven, and what is taken on trust. */
  readonly claim: string;
};

export type ResultRecord = {
  readonly outcome: Outcome;
  /** SHA-256 over the canonical JSON of `outcome`. */
  readonly hash: string;
  /** Who counted, and its signature over the hash; where the swarm is secured. */
  readonly countedBy?: string;
  readonly signature?: string;
};

export function named(all: readonly string[]): Named {
  return { count: all.length, names: all.slice(0, NAMED_MAX) };
}

export const asJson = (outcome: Outcome): JsonObject => outcome as unknown as JsonObject;
