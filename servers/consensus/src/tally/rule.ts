/**
 * What a rule of voting is: settings, an electorate and ballots go in, a result with its steps comes out. Rules are pure and
 * count in whole numbers; no result depends on the order of ballots or options, and none is left to chance.
 */

/** Most options of a vote, and of one by a method whose exact treatment of ties looks at every set of options that may remain. */
export const OPTIONS_MAX = 20;
export const RUNOFF_OPTIONS_MAX = 12;
/** Longest name of an option, in characters. */
export const OPTION_MAX = 200;
/** Most voters of one vote, and the largest weight of each: together they keep every sum of a tally an exact integer. */
export const VOTERS_MAX = 10_000;
export const WEIGHT_MAX = 1_000_000;
/** Scores run from 0 to this, as in STAR voting. */
export const SCORE_MAX = 5;
/** Confidence is stated per mille. */
export const CERTAIN = 1_000;
/** Largest numerator and denominator of a threshold or quorum. */
export const FRACTION_MAX = 1_000;
/** Fewest voters among which one Byzantine voter can be outvoted. */
export const BYZANTINE_VOTERS_MIN = 4;

/**
 * How ballots count. majority: each voter once. weighted: by the initiator's integer weights. byzantine: decided by so many equal
 * signed ballots that a third of the voters cannot have forged the decision.
 */
export const ALGORITHMS = ["majority", "weighted", "byzantine"] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** Methods over yes and no, then those over options. An algorithm "byzantine" has none. */
export const YES_NO_METHODS = ["simple", "absolute", "supermajority", "unanimity"] as const;
export const OPTION_METHODS = [
  "plurality",
  "approval",
  "score",
  "star",
  "borda",
  "instant_runoff",
  "condorcet",
  "schulze",
  "ranked_pairs",
  "minimax",
  "linear_pool",
  "logarithmic_pool",
] as const;
export const METHODS = [...YES_NO_METHODS, ...OPTION_METHODS] as const;
export type Method = (typeof METHODS)[number];

/** What a threshold is a share of: yes and no; these and abstentions; all who may vote. */
export const BASES = ["cast", "present", "eligible"] as const;
export type Base = (typeof BASES)[number];

/** What is declared when a vote begins and concerns its tally. All of it is JSON. */
export interface Settings {
  readonly algorithm: Algorithm;
  /** Default: "simple" over yes and no, "plurality" over options. */
  readonly method?: Method | undefined;
  /** Absent: the vote is over yes and no. */
  readonly options?: readonly string[] | undefined;
  /** A fraction as text, `2/3`: what a supermajority or an opinion pool must reach. */
  readonly threshold?: string | undefined;
  /** What the threshold is a share of. Default "cast". */
  readonly base?: Base | undefined;
  /** How many must vote, abstentions included: a number (of voters; of weight when weighted), or a fraction of the eligible, `1/2`. */
  readonly quorum?: number | string | undefined;
  /** `co_winners` (default), `status_quo` (a tie leaves things as they are) or `chair:<voter>` (that voter's ballot decides a tie). */
  readonly tieBreak?: string | undefined;
  /** Whose "no" alone ends it; over yes and no only. */
  readonly vetoHolders?: readonly string[] | undefined;
}

/** Who may vote, and the weight of each: 1 unless weighted. Delegated weight has moved already (`delegation.ts`). */
export interface Electorate {
  readonly eligible: ReadonlyMap<string, number>;
}

/** What one voter said. Which members count depends on the method (`Rule.checkBallot`); `choice: "abstain"` always may stand. */
export interface Ballot {
  readonly voter: string;
  /** "yes", "no", an option, or "abstain". */
  readonly choice?: string | undefined;
  /** Best first; options in one rank are equal, those left out are equally last. */
  readonly ranking?: readonly (readonly string[])[] | undefined;
  /** From 0 to SCORE_MAX (0 or 1 for approval); options left out have 0. */
  readonly scores?: Readonly<Record<string, number>> | undefined;
  /** Per mille, that the choice is right. Used by the opinion pools alone. */
  readonly confidence?: number | undefined;
  readonly modelFamily?: string | undefined;
  /** Two different signed ballots of this voter are known: it voted, and none of them counts. Needs no other member. */
  readonly equivocated?: boolean | undefined;
}

export type Outcome =
  /** Yes won, or no. */
  | "accepted"
  | "rejected"
  /** One option won. */
  | "elected"
  /** Several did, and nothing that was declared decides between them. */
  | "tied"
  | "no_quorum"
  | "vetoed"
  /** Neither side reached what is needed, no option beats all others, or nobody said more than "abstain". */
  | "no_consensus";

/** One step of a tally. `rule` is a sentence of ours; options and voters, in any member, are what others wrote. */
export interface Step {
  readonly rule: string;
  readonly options?: readonly string[];
  readonly voters?: readonly string[];
  readonly counts?: Readonly<Record<string, number>>;
  /** A row and a column for each of `options`. */
  readonly matrix?: readonly (readonly number[])[];
}

/** Weights of who may vote, who did (abstentions included), who abstained, and how much the quorum asks. */
export interface Turnout {
  readonly eligible: number;
  readonly voted: number;
  readonly abstained: number;
  readonly quorum: number;
}

export interface Tally {
  readonly outcome: Outcome;
  /** The option elected, or all that tie; "yes" or "no" where the vote was over these and one of them won. */
  readonly winners: readonly string[];
  /** What each choice has, by the method's own measure, times `scale`. */
  readonly counts: Readonly<Record<string, number>>;
  /** What `counts` are multiplied with to be whole: 2 for Borda (halves), 1000 for pools (per mille), mostly 1. */
  readonly scale: number;
  readonly turnout: Turnout;
  /** All options, best first, equals together; where the method ranks them. */
  readonly order?: readonly (readonly string[])[];
  readonly steps: readonly Step[];
  readonly warnings: readonly string[];
}

export interface Rule {
  readonly name: Method | "byzantine";
  /** Throws `invalid_argument` naming the field that does not fit the method or the electorate. */
  check(settings: Settings, electorate: Electorate): void;
  /** Throws `invalid_argument` naming what a ballot lacks or has too much. */
  checkBallot(settings: Settings, ballot: Ballot): void;
  /** One ballot of a voter at most, and of the eligible alone; each has passed `checkBallot`. */
  tally(settings: Settings, electorate: Electorate, ballots: readonly Ballot[]): Tally;
  /**
   * The result, once no ballot that may still come can change its outcome or winners; undefined before. All `ballots` must be
   * final. Exact (it says so as soon as it is so) over yes and no, byzantine, plurality, approval and score; the other methods
   * say so where one option's lead is plain, and opinion pools wait until all have voted. Whoever is eligible and has not voted, delegators too, counts as free to vote anything or nothing.
   */
  decided(settings: Settings, electorate: Electorate, ballots: readonly Ballot[]): Tally | undefined;
}
