/**
 * Where leaders are kept. A leader is a candidate like others, the one that its group's record points at: it leads for as long
 * as its candidacy lasts, so a renewal writes the candidate's own row and nothing that all share.
 *
 * | key | value | why |
 * |---|---|---|
 * | `leader/at/<group>` | GroupRecord | who leads, since when, in which term; stays for its term |
 * | `leader/candidate/<group>/<ticket>` | Candidate (expires) | a lease that the candidate's process renews; in the order in which they came |
 * | `leader/due/<ms>/<group>` | {id} | when to look whether the leader is still there; moved when looked at, not when renewed |
 */
import { DueIndex } from "@mcp-swarm/coordination";
import { SwarmError } from "@mcp-swarm/core";
import { type KeyRange, ordered, prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";

/** Most candidates of one group. */
export const CANDIDATES_MAX = 200;

/** Most tickets that a group remembers as given up. */
export const RESIGNED_MAX = 32;

export type Candidate = {
  readonly ticket: number;
  readonly agentId: string;
  readonly processId?: string;
  readonly since: number;
  /** What it tells of itself. */
  readonly info?: string;
  /** A later call was answered with this candidacy: a call that is given up after it does not withdraw it. */
  readonly askedAgain?: true;
};

export type GroupRecord = {
  readonly group: string;
  /** Rises with each change of the leader: the fencing token of what it does as leader. */
  readonly term: number;
  /** The last ticket given out. */
  readonly ticket: number;
  /** Whose candidacy leads while it lasts, and since when. */
  readonly leader?: { readonly ticket: number; readonly since: number };
  /** The last tickets that were given up: their processes may not know yet, and renew them no more. */
  readonly resigned?: readonly number[];
  /** Where the group stands in the due index. */
  readonly dueAt?: number;
};

export type Leader = Candidate & { readonly term: number; readonly leadsSince: number; readonly leaseExpiresAt: number };

export const leadersDue = new DueIndex("leader/due/");

export const groupKey = (group: string): string => `leader/at/${segment(group)}`;
export const candidateKey = (group: string, ticket: number): string => `leader/candidate/${segment(group)}/${ordered(ticket)}`;
export const candidatesOf = (group: string, limit: number): KeyRange => prefixRange(`leader/candidate/${segment(group)}/`, limit);

export function readGroup(tx: Pick<Transaction, "get">, group: string): GroupRecord {
  return (tx.get(groupKey(group))?.value as GroupRecord | undefined) ?? { group, term: 0, ticket: 0 };
}

/** Who leads at this moment; nobody once the leader's lease has run out, however lately. */
export function readLeader(tx: Pick<Transaction, "get">, group: string): Leader | undefined {
  const record = readGroup(tx, group);
  return record.leader && leaderOf(record, tx.get(candidateKey(group, record.leader.ticket)));
}

/** Most times that a leader is read anew because it changed meanwhile. */
const FIND_TRIES_MAX = 8;

/** `readLeader` outside a transaction. @throws SwarmError unavailable when it changes faster than it can be read */
export async function findLeader(store: Pick<Store, "getMany">, group: string): Promise<Leader | undefined> {
  let [entry] = await store.getMany([groupKey(group)]);
  for (let tries = 0; tries < FIND_TRIES_MAX; tries++) {
    const record = entry?.value as GroupRecord | undefined;
    if (!record?.leader) return undefined;
    const [again, row] = await store.getMany([groupKey(group), candidateKey(group, record.leader.ticket)]);
    if (again?.rev === entry?.rev) return leaderOf(record, row);
    entry = again;
  }
  throw new SwarmError("unavailable", `The leader of group ${group} changes too fast to be told.`);
}

function leaderOf(record: GroupRecord, row: { value: unknown; expiresAt?: number } | undefined): Leader | undefined {
  if (!row || !record.leader) return undefined;
  const candidate = row.value as Candidate;
  return { ...candidate, term: record.term, leadsSince: record.leader.since, leaseExpiresAt: row.expiresAt ?? 0 };
}
