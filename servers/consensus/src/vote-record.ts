/** A vote: what is decided on, by whom and how. Written once; its hash stands for all of it. */
import { type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import { checkAgentId } from "@mcp-swarm/identity";
import { hashOf } from "./canonical.ts";
import type { Algorithm, Base, Method, Settings } from "./tally/rule.ts";

/** Most participants of a vote. */
export const PARTICIPANTS_MAX = 10_000;
/** Longest proposal, in bytes of JSON. */
export const PROPOSAL_BYTES_MAX = 8_192;
/** Longest options, all together, in bytes of JSON: answers name them several times. */
export const OPTIONS_BYTES_MAX = 2_048;
/** Most agents that can each veto. */
export const VETO_HOLDERS_MAX = 20;
/** How long ballots are taken, in ms. */
export const TIMEOUT_MS_MIN = 1_000;
export const TIMEOUT_MS_DEFAULT = 300_000;
export const TIMEOUT_MS_MAX = 30 * 24 * 3_600_000;
/** How long sealed ballots may be revealed after the casting, in ms. */
export const REVEAL_MS_MIN = 1_000;
export const REVEAL_MS_DEFAULT = 60_000;
export const REVEAL_MS_MAX = 7 * 24 * 3_600_000;

/** Longest chain of delegations. */
const DELEGATION_DEPTH_MAX = 5;

/** One participant's delegations give it at most half of all weight, rounded up. */
export function delegationCaps(roll: readonly Voter[]): VoteSettings["delegation"] {
  const all = roll.reduce((sum, { weight }) => sum + weight, 0);
  return { depthMax: DELEGATION_DEPTH_MAX, weightMax: Math.ceil(all / 2) };
}

/** All that a vote is held by. What its tally needs is in tally/rule.ts. */
export type VoteSettings = {
  readonly algorithm: Algorithm;
  readonly method?: Method;
  readonly options?: readonly string[];
  readonly threshold?: string;
  readonly base?: Base;
  readonly quorum?: number | string;
  readonly tieBreak?: string;
  readonly vetoHolders?: readonly string[];
  /** Commitments first, choices after the close. */
  readonly sealed?: boolean;
  /** Of a sealed vote. */
  readonly revealMs?: number;
  /** A ballot may be replaced until the close. */
  readonly revisable?: boolean;
  /** A byzantine vote whose names and ballots nothing proves. */
  readonly trustNames?: boolean;
  /** It was begun in a secured swarm: its voters are proven. */
  readonly secured?: boolean;
  /** How far a delegation may lead, and the most weight that one participant votes with. */
  readonly delegation: { readonly depthMax: number; readonly weightMax: number };
};

/** The settings as the tally reads them. */
export const tallySettings = (settings: VoteSettings): Settings => settings;

export type Voter = { readonly name: string; readonly weight: number };

export type VoteRecord = {
  readonly id: string;
  /** SHA-256 in hex over the canonical JSON of `hashed`. */
  readonly hash: string;
  readonly proposal: Json;
  readonly initiator: string;
  readonly settings: VoteSettings;
  /** How many; who they are stands in the roll. */
  readonly participants: number;
  /** The first name in each row of the roll. */
  readonly rollStarts: readonly string[];
  readonly startedAt: number;
  readonly timeoutMs: number;
  /** Ballots and commitments are taken before. */
  readonly closesAt: number;
  /** When all rows of the vote are forgotten. */
  readonly keptUntil: number;
};

/** Why no more ballots are taken. */
export type EndedBecause = "deadline" | "decided" | "all_voted" | "all_revealed" | "cancelled";

/** Absent while ballots are taken. */
export type VoteState = {
  /** `revealing`: commitments of a sealed vote are opened. `closed`: nothing is taken any more. */
  readonly phase: "revealing" | "closed" | "cancelled";
  readonly at: number;
  readonly because: EndedBecause;
  /** Of a sealed vote, from the end of its casting on. */
  readonly revealUntil?: number;
  /** The initiator's words, of a cancelled one. */
  readonly reason?: string;
};

export type VoteStatus = "open" | "revealing" | "closed" | "cancelled";

/** Where a vote is at `now`. `overdue`: a deadline has passed, and nobody has written that yet. */
export function statusAt(
  record: VoteRecord,
  state: VoteState | undefined,
  now: number,
): { status: VoteStatus; overdue: boolean } {
  if (!state) return { status: "open", overdue: now >= record.closesAt };
  if (state.phase !== "revealing") return { status: state.phase, overdue: false };
  return { status: "revealing", overdue: now >= (state.revealUntil ?? 0) };
}

/** All that the voters are asked, in the form that is hashed: nothing of it can change under them. */
export function hashed(record: Omit<VoteRecord, "hash">, roll: readonly Voter[]): JsonObject {
  const { id, proposal, initiator, settings, startedAt, timeoutMs } = record;
  const voters = roll.map(({ name, weight }): Json => [name, weight]);
  return { version: 1, id, proposal, initiator, settings, startedAt, timeoutMs, voters };
}

export function proposalHash(record: Omit<VoteRecord, "hash">, roll: readonly Voter[]): string {
  return hashOf(hashed(record, roll));
}

/** Each once, in order of their names. @throws SwarmError invalid_argument */
export function checkRoll(participants: readonly string[], weights: Readonly<Record<string, number>> | undefined): Voter[] {
  const names = [...new Set(participants.map(checkAgentId))].sort(byName);
  if (names.length !== participants.length) {
    throw new SwarmError("invalid_argument", 'Field "participants" names an agent twice.', { hint: "Name each agent once." });
  }
  if (names.length === 0 || names.length > PARTICIPANTS_MAX) {
    throw new SwarmError("invalid_argument", `Field "participants" must name 1 to ${PARTICIPANTS_MAX} agents.`);
  }
  const given = new Map(Object.entries(weights ?? {}));
  const roll = names.map((name) => ({ name, weight: given.get(name) ?? 1 }));
  for (const name of names) given.delete(name);
  if (given.size > 0) {
    throw new SwarmError("invalid_argument", 'Field "weights" names an agent that is no participant.', {
      hint: "Give weights to participants only; who has none counts once.",
    });
  }
  return roll;
}

function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** @throws SwarmError invalid_argument */
export function checkSizes({ proposal, options = [] }: { proposal: Json; options?: readonly string[] | undefined }): void {
  checkBytes("proposal", proposal, PROPOSAL_BYTES_MAX);
  checkBytes("options", options, OPTIONS_BYTES_MAX);
}

function checkBytes(field: string, value: Json, max: number): void {
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes <= max) return;
  throw new SwarmError("invalid_argument", `Field "${field}" has ${bytes} bytes of JSON; at most ${max} are taken.`, {
    hint: "Put the long part into shared state or a file, and name it here.",
  });
}
