/**
 * Where votes are kept. All rows of a vote expire together, `keptUntil` of its record.
 *
 * | key | value | why |
 * |---|---|---|
 * | `vote/<id>` | VoteRecord | proposal, settings and their hash; written once |
 * | `vote-roll/<id>/<n>` | {voters} | the participants with their weights in order of their names, ROLL_CHUNK to a row; written once |
 * | `ballot/<id>/<voter>` | BallotRow | what one participant did: nobody else writes it |
 * | `vote-state/<id>` | VoteState | absent while ballots are taken; every ballot reads it, so that none is taken after it is written |
 * | `vote-change/<id>` | {changes} | rewritten by what changes the electorate (recusals, equivocation): an early end that was reckoned before is off |
 * | `vote-count/<id>/<shard>` | Counts | of a vote with many participants: how many have voted and revealed, in parts, so that no key is hot |
 * | `vote-result/<id>` | ResultRecord | written once, from rows that no longer change |
 * | `vote-active/<dueAt>/<id>` | {id, refs} | until the result: in order of the next deadline |
 * | `vote-mine/<agent>/<closesAt>/<id>` | {id, refs} | the same for each participant, where they are few |
 * | `vote-ended/<endedAt>/<id>` | {id, refs} | votes with a result, and cancelled ones |
 */
import { createHash } from "node:crypto";
import { DueIndex } from "@mcp-swarm/coordination";
import type { JsonObject } from "@mcp-swarm/core";
import { type Entry, ordered, prefixRange, SCAN_LIMIT_MAX, type Store, segment, type Transaction } from "@mcp-swarm/store";
import type { BallotRow } from "./ballot-record.ts";
import type { ResultRecord } from "./result-record.ts";
import type { VoteRecord, Voter, VoteState } from "./vote-record.ts";

/** Participants in one row of the roll. */
export const ROLL_CHUNK = 200;
/** Up to so many participants each has an index of its own of its votes, and each ballot is followed by a look at all. */
export const SMALL_VOTE_MAX = 200;
/** Parts of the count of a larger vote. */
export const COUNT_SHARDS = 32;

export const voteKey = (id: string): string => `vote/${segment(id)}`;
export const rollKey = (id: string, chunk: number): string => `vote-roll/${segment(id)}/${ordered(chunk)}`;
export const ballotPrefix = (id: string): string => `ballot/${segment(id)}/`;
export const ballotKey = (id: string, voter: string): string => `${ballotPrefix(id)}${segment(voter)}`;
export const stateKey = (id: string): string => `vote-state/${segment(id)}`;
export const changeKey = (id: string): string => `vote-change/${segment(id)}`;
export const resultKey = (id: string): string => `vote-result/${segment(id)}`;
export const countKey = (id: string, shard: number): string => `vote-count/${segment(id)}/${ordered(shard)}`;

export const activeVotes = new DueIndex("vote-active/");
export const endedVotes = new DueIndex("vote-ended/");
export const votesOf = (agentId: string): DueIndex => new DueIndex(`vote-mine/${segment(agentId)}/`);

/** A vote as its process knows it: what never changes. */
export interface Vote {
  readonly record: VoteRecord;
  /** In order of their names. */
  readonly roll: readonly Voter[];
}

/** Options that make a row end with its vote. */
export function untilForgotten({ keptUntil }: Pick<VoteRecord, "keptUntil">, now: number): { ttlMs: number } {
  return { ttlMs: Math.max(0, keptUntil - now) };
}

export function rollChunks(roll: readonly Voter[]): Voter[][] {
  const chunks: Voter[][] = [];
  for (let at = 0; at < roll.length; at += ROLL_CHUNK) chunks.push(roll.slice(at, at + ROLL_CHUNK));
  return chunks;
}

export async function readVote(store: Pick<Store, "get" | "getMany">, id: string): Promise<Vote | undefined> {
  const record = (await store.get(voteKey(id)))?.value as VoteRecord | undefined;
  if (!record) return undefined;
  const chunks = await store.getMany(record.rollStarts.map((_, chunk) => rollKey(id, chunk)));
  return { record, roll: chunks.flatMap(votersIn) };
}

/** Votes that are there, each with the weight of one agent in it: less is read of each than its whole roll. */
export async function readForAgent(
  store: Pick<Store, "getMany">,
  ids: readonly string[],
  agentId: string,
): Promise<Map<string, { record: VoteRecord; weight: number | undefined }>> {
  if (ids.length === 0) return new Map();
  const records = (await store.getMany(ids.map(voteKey))).flatMap((entry) => (entry ? [entry.value as VoteRecord] : []));
  const chunks = await store.getMany(records.map(({ id, rollStarts }) => rollKey(id, chunkOf(rollStarts, agentId))));
  return new Map(
    records.map((record, at) => [
      record.id,
      { record, weight: votersIn(chunks[at]).find(({ name }) => name === agentId)?.weight },
    ]),
  );
}

function votersIn(entry: Entry | undefined): readonly Voter[] {
  return (entry?.value as { voters: Voter[] } | undefined)?.voters ?? [];
}

/** Where a participant of this name would be. */
function chunkOf(rollStarts: readonly string[], name: string): number {
  return Math.max(
    0,
    rollStarts.findLastIndex((start) => start <= name),
  );
}

export const readState = (tx: Pick<Transaction, "get">, id: string): VoteState | undefined =>
  tx.get(stateKey(id))?.value as VoteState | undefined;

export const readBallot = (tx: Pick<Transaction, "get">, id: string, voter: string): BallotRow | undefined =>
  tx.get(ballotKey(id, voter))?.value as BallotRow | undefined;

export function writeBallot(tx: Transaction, record: VoteRecord, row: BallotRow): void {
  tx.put(ballotKey(record.id, row.voter), row, untilForgotten(record, tx.now));
}

/**
 * All rows of a vote in order of their keys, page by page: of a vote that still runs, each page is of its own moment. A row that does not
 * stand where its voter's belongs is none: a copy does not make a second ballot.
 */
export async function readBallots(store: Pick<Store, "scan">, id: string): Promise<BallotRow[]> {
  const rows: BallotRow[] = [];
  let after: string | undefined;
  for (;;) {
    const page = await store.scan(prefixRange(ballotPrefix(id), SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    for (const { key, value } of page) {
      const row = value as BallotRow;
      if (key === ballotKey(id, row.voter)) rows.push(row);
    }
    after = page.at(-1)?.key;
    if (page.length < SCAN_LIMIT_MAX) return rows;
  }
}

/** Of a large vote. `settled`: participants who have voted, committed or recused themselves. `revealed`: commitments that are open. */
export type Counts = { readonly settled: number; readonly revealed: number };

/** The part of the counts that a participant is counted in: those who vote at once seldom share one, whatever process they vote through. */
export function shardOf(voter: string): number {
  return (createHash("sha256").update(voter).digest()[0] ?? 0) % COUNT_SHARDS;
}

/** Notes that a participant of a large vote has settled, or revealed. Answers how many there are in its part now; 0 in a small vote. */
export function countOne(tx: Transaction, record: VoteRecord, voter: string, what: keyof Counts): number {
  if (record.participants <= SMALL_VOTE_MAX) return 0;
  const key = countKey(record.id, shardOf(voter));
  const before = (tx.get(key)?.value as Counts | undefined) ?? { settled: 0, revealed: 0 };
  const after: Counts = { ...before, [what]: before[what] + 1 };
  tx.put(key, after, untilForgotten(record, tx.now));
  return after[what];
}

export async function countsOf(store: Pick<Store, "getMany">, id: string): Promise<Counts> {
  const rows = await store.getMany(Array.from({ length: COUNT_SHARDS }, (_, shard) => countKey(id, shard)));
  const counts = rows.flatMap((row) => (row ? [row.value as Counts] : []));
  const sum = (what: keyof Counts) => counts.reduce((total, one) => total + one[what], 0);
  return { settled: sum("settled"), revealed: sum("revealed") };
}

export function noteChange(tx: Transaction, record: VoteRecord): void {
  const key = changeKey(record.id);
  tx.put(key, { changes: changesIn(tx.get(key)) + 1 }, untilForgotten(record, tx.now));
}

/** How often the electorate changed. */
export function changesIn(entry: Entry | undefined): number {
  return (entry?.value as { changes: number } | undefined)?.changes ?? 0;
}

export function readResult(tx: Pick<Transaction, "get">, id: string): ResultRecord | undefined {
  return tx.get(resultKey(id))?.value as ResultRecord | undefined;
}

/** The vote in the lists of those that run. */
export function listActive(tx: Transaction, { record, roll }: Vote): void {
  const ttl = untilForgotten(record, tx.now);
  const pointer = pointerTo(record.id);
  tx.put(activeVotes.key(record.closesAt, record.id), pointer, ttl);
  if (roll.length > SMALL_VOTE_MAX) return;
  for (const { name } of roll) tx.put(votesOf(name).key(record.closesAt, record.id), pointer, ttl);
}

/** Its next deadline is another. */
export function moveActive(tx: Transaction, record: VoteRecord, dueAt: number): void {
  activeVotes.remove(tx, record.closesAt, record.id);
  tx.put(activeVotes.key(dueAt, record.id), pointerTo(record.id), untilForgotten(record, tx.now));
}

/** Out of those lists, into that of the ended ones. */
export function listEnded(tx: Transaction, { record, roll }: Vote, state: VoteState | undefined, endedAt: number): void {
  activeVotes.remove(tx, record.closesAt, record.id);
  if (state?.revealUntil !== undefined) activeVotes.remove(tx, state.revealUntil, record.id);
  if (roll.length <= SMALL_VOTE_MAX) for (const { name } of roll) votesOf(name).remove(tx, record.closesAt, record.id);
  tx.put(endedVotes.key(endedAt, record.id), pointerTo(record.id), untilForgotten(record, tx.now));
}

function pointerTo(id: string): JsonObject {
  return { id, refs: [voteKey(id)] };
}
