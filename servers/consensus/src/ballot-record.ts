/** What one participant did in a vote: one row for each, so that no two voters ever write the same. */

/** What a ballot says. One of the first three, whichever the vote asks for. */
export type Choice = {
  /** `yes`, `no`, `abstain`, or one of the options. */
  readonly vote?: string;
  /** Best first; options in one list are equal; options left out come after all that are named. */
  readonly ranking?: readonly (readonly string[])[];
  /** Option → whole number. */
  readonly scores?: Readonly<Record<string, number>>;
  /** How sure the voter is, in per mille. */
  readonly confidence?: number;
  /** The family of models that the voter is of, as it says. */
  readonly modelFamily?: string;
};

export type Ballot = {
  readonly choice: Choice;
  readonly rationale?: string;
  /** When it was cast, by the store's clock; of a sealed one when it was revealed. */
  readonly at: number;
  /** A compact JWS by the voter's key over what signing.ts says. */
  readonly signature?: string;
};

export type Commitment = {
  /** SHA-256: sealing.ts. */
  readonly hash: string;
  readonly at: number;
  readonly signature?: string;
  /** Known once it was revealed. */
  readonly nonce?: string;
};

/** Earlier ballots or commitments of a revisable vote that are kept, the newest first. */
export const REVISIONS_KEPT_MAX = 10;

export type BallotRow = {
  readonly voter: string;
  readonly ballot?: Ballot;
  /** Of a sealed vote. */
  readonly commitment?: Commitment;
  /** Of a revisable vote: what was replaced. */
  readonly revised?: readonly (Ballot | Commitment)[];
  /** How often it was replaced. */
  readonly revisions?: number;
  readonly recused?: { readonly reason: string; readonly at: number };
  readonly delegated?: { readonly to: string; readonly at: number; readonly signature?: string };
  /** Two different ballots, or commitments, that the voter signed: it is out. */
  readonly equivocation?: { readonly signatures: readonly [string, string]; readonly at: number };
};

/** Whether the participant has said what it had to say, and can say nothing more in a vote that is not revisable. */
export function isSettled({ ballot, commitment, recused, equivocation }: BallotRow): boolean {
  return (ballot ?? commitment ?? recused ?? equivocation) !== undefined;
}
