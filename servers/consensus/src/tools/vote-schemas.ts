/** The fields that the tools of this server share. */
import { SwarmError } from "@mcp-swarm/core";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { SIGNATURE_MAX } from "../signing.ts";
import { ALGORITHMS, BASES, CERTAIN, METHODS, OPTION_MAX, OPTIONS_MAX, type Outcome, SCORE_MAX } from "../tally/rule.ts";

const { shared, text, label, agentId, whole } = fields;

const OUTCOMES = [
  "accepted",
  "rejected",
  "elected",
  "tied",
  "no_quorum",
  "vetoed",
  "no_consensus",
] as const satisfies readonly Outcome[];

export const RATIONALE_MAX = 1_000;
/** Longest opening of a sealed ballot, in characters. */
const OPENING_MAX = 8_192;
const HEX_64 = /^[0-9a-f]{64}$/;

export const voteId = shared(() => fields.id());
export const subagent = shared(() => agentId().exactOptional().describe("Your subagent"));
export const option = shared(() => text(OPTION_MAX));
export const hex = shared(() => z.string().regex(HEX_64));
export const rationale = shared(() => text(RATIONALE_MAX).exactOptional());
export const signature = shared(() => text(SIGNATURE_MAX).exactOptional().describe("If your key is elsewhere"));

/** What a ballot says. */
export const choice = shared(() => ({
  vote: option().exactOptional().describe("yes, no, abstain, option"),
  ranking: z.array(z.array(option()).max(OPTIONS_MAX)).max(OPTIONS_MAX).exactOptional().describe("Best first; equals together"),
  scores: z.record(option(), whole(0, SCORE_MAX)).exactOptional().describe("By option"),
  confidence: whole(0, CERTAIN).exactOptional().describe("Per mille"),
  modelFamily: label().exactOptional(),
}));

/** What opens a sealed ballot: the nonce, and the choice that was committed to. */
const opened = shared(() => z.strictObject({ nonce: hex(), ...choice() }));
export const opening = shared(() => text(OPENING_MAX));

/** @throws SwarmError invalid_argument */
export function readOpening(written: string) {
  const parsed = opened().safeParse(parsedJson(written));
  if (parsed.success) return parsed.data;
  throw new SwarmError("invalid_argument", 'Field "opening" is no opening of a ballot.', {
    hint: "Give the text that seal_ballot answered, as it stands; or JSON with nonce and what you cast.",
  });
}

function parsedJson(written: string): unknown {
  try {
    return JSON.parse(written);
  } catch {
    return undefined; // no JSON is no opening
  }
}

export const algorithm = shared(() => z.enum(ALGORITHMS));
export const method = shared(() => z.enum(METHODS));
export const base = shared(() => z.enum(BASES));

const status = shared(() => z.enum(["open", "revealing", "closed", "cancelled"]));
const own = shared(() => z.enum(["to_cast", "cast", "committed", "to_reveal", "delegated", "recused", "equivocated", "none"]));

/** What a list shows of a vote. */
export const listedVote = shared(() =>
  z.object({
    id: z.string(),
    status: status(),
    proposal: z.string(),
    initiator: z.string(),
    algorithm: algorithm(),
    method: method().exactOptional(),
    sealed: z.boolean().exactOptional(),
    participants: z.number(),
    closesAt: z.number(),
    revealUntil: z.number().exactOptional(),
    you: own(),
  }),
);

const said = shared(() =>
  z.object({
    vote: z.string().exactOptional(),
    ranking: z.array(z.array(z.string())).exactOptional(),
    scores: z.array(z.object({ option: z.string(), score: z.number() })).exactOptional(),
    confidence: z.number().exactOptional(),
    modelFamily: z.string().exactOptional(),
  }),
);

export const ballot = shared(() =>
  z.object({
    voter: z.string(),
    choice: said().exactOptional(),
    rationale: z.string().exactOptional(),
    rationaleCutChars: z.number().exactOptional(),
    at: z.number().exactOptional(),
    commitment: z.string().exactOptional(),
    committedAt: z.number().exactOptional(),
    nonce: z.string().exactOptional(),
    signature: z.string().exactOptional(),
    signatureCutChars: z.number().exactOptional(),
    revisions: z.number().exactOptional(),
    delegatedTo: z.string().exactOptional(),
    recused: z.object({ reason: z.string(), at: z.number() }).exactOptional(),
    equivocation: z.array(z.string()).exactOptional(),
  }),
);

export const wholeVote = shared(() =>
  z.object({
    ...listedVote().shape,
    proposal: fields.json(),
    hash: z.string(),
    options: z.array(z.string()).exactOptional(),
    threshold: z.string().exactOptional(),
    base: base().exactOptional(),
    quorum: z.union([z.number(), z.string()]).exactOptional(),
    tieBreak: z.string().exactOptional(),
    vetoHolders: z.array(z.string()).exactOptional(),
    revisable: z.boolean().exactOptional(),
    trustNames: z.boolean().exactOptional(),
    revealMs: z.number().exactOptional(),
    startedAt: z.number(),
    endedAt: z.number().exactOptional(),
    because: z.string().exactOptional(),
    reason: z.string().exactOptional(),
    settled: z.number(),
    waitingFor: z.array(z.string()).exactOptional(),
    yourWeight: z.number().exactOptional(),
    yourBallot: ballot().exactOptional(),
    outcome: z.enum(OUTCOMES).exactOptional(),
    winners: z.array(z.string()).exactOptional(),
  }),
);

const named = shared(() => z.object({ count: z.number(), names: z.array(z.string()) }));

/** A list, not an object: what others wrote stands where an answer can say so. */
const counts = shared(() => z.array(z.object({ of: z.string(), count: z.number() })));

export const step = shared(() =>
  z.object({
    rule: z.string(),
    options: z.array(z.string()).exactOptional(),
    voters: z.array(z.string()).exactOptional(),
    votersLeftOut: z.number().exactOptional(),
    counts: counts().exactOptional(),
    matrix: z.array(z.array(z.number())).exactOptional(),
  }),
);

export const result = shared(() =>
  z.object({
    outcome: z.enum(OUTCOMES),
    winners: z.array(z.string()),
    counts: counts(),
    scale: z.number(),
    turnout: z.object({ eligible: z.number(), voted: z.number(), abstained: z.number(), quorum: z.number() }),
    order: z.array(z.array(z.string())).exactOptional(),
    because: z.string(),
    closedAt: z.number(),
    steps: z.array(step()),
    stepsLeftOut: z.number().exactOptional(),
    warnings: z.array(z.string()),
    notVoted: named(),
    recused: named().exactOptional(),
    delegated: named().exactOptional(),
    delegatedInVain: named().exactOptional(),
    notRevealed: named().exactOptional(),
    equivocated: named().exactOptional(),
    invalid: named().exactOptional(),
    unsigned: named().exactOptional(),
    claim: z.string(),
    proposalHash: z.string(),
    ballotsHash: z.string(),
    hash: z.string(),
    countedBy: z.string().exactOptional(),
    signature: z.string().exactOptional(),
  }),
);

export const castBallot = shared(() =>
  z.object({
    voteId: z.string(),
    voter: z.string(),
    recorded: z.enum(["cast", "revised", "committed", "revealed", "equivocation"]),
    at: z.number(),
    signed: z.boolean(),
  }),
);
