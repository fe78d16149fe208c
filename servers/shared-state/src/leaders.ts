/** Leaders: one of many candidates, for as long as it lives. */
import { dueJob, HELD_LEASES_MAX, type Holdings, type LeaseKeeper, type MaintenanceJob, waitFor } from "@mcp-swarm/coordination";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import type { Store, Transaction } from "@mcp-swarm/store";
import {
  CANDIDATES_MAX,
  type Candidate,
  candidateKey,
  candidatesOf,
  findLeader,
  type GroupRecord,
  groupKey,
  type Leader,
  leadersDue,
  RESIGNED_MAX,
  readGroup,
  readLeader,
} from "./leader-layer.ts";
import { LOCK_NAME } from "./lock-record.ts";
import type { Waiting } from "./locks.ts";

/** Longest text that a candidate tells of itself, in characters. */
export const CANDIDATE_INFO_MAX = 200;
/** How long a candidacy lives of a caller without a process, which renews it by calling again; ms. */
export const REMOTE_CANDIDACY_MS = 300_000;
/** Candidates that `get` names. */
const NAMED_MAX = 20;
const DUE_BATCH_MAX = 50;
/** A candidate that waits looks again at least so often: a leader that dies does so without a commit. */
const LOOK_AGAIN_MS = 1_000;

/** A leader as others are told of it. */
export type LeaderView = {
  readonly group: string;
  readonly agentId: string;
  readonly term: number;
  /** When it began to lead. */
  readonly sinceAt: number;
  readonly leaseExpiresAt: number;
  /** It is the agent that asks, through the process that it asks by. */
  readonly you: boolean;
  readonly info?: string;
};

export interface Elect {
  readonly group: string;
  readonly candidateInfo?: string | undefined;
  /** A subagent of the caller. */
  readonly agentId?: string | undefined;
}

export interface LeadersOptions {
  clock: Clock;
  keeper: LeaseKeeper;
  /** `SWARM_LEASE_MS`. */
  leaseMs: number;
  remoteLeaseMs?: number | undefined;
}

/** `fresh`: it was none before the call. */
type Joined = { readonly candidate: Candidate; readonly fresh: boolean };

export class Leaders {
  readonly #options: LeadersOptions;
  readonly #holdings: Holdings;
  /** Of this process: id of the lease → the candidacy, to be written anew even when its row is gone. */
  readonly #candidacies = new Map<string, { group: string; candidate: Candidate }>();

  constructor(options: LeadersOptions) {
    this.#options = options;
    this.#holdings = options.keeper.keep({
      name: "candidacies",
      renew: (tx, lease, expiresAt) => {
        const mine = this.#candidacies.get(lease.id);
        if (!mine || readGroup(tx, mine.group).resigned?.includes(lease.token)) return false;
        const { group, candidate } = mine;
        putCandidate(tx, group, candidate, expiresAt - tx.now);
        // a process that slept past its lease is a candidate again, and the only one when all slept
        if (!readLeader(tx, group)) promote(tx, group);
        return true;
      },
      onLost: ({ id }) => void this.#candidacies.delete(id),
      release: (tx, lease) => {
        const mine = this.#candidacies.get(lease.id);
        if (mine) resign(tx, mine.group, [mine.candidate.ticket]);
      },
    });
  }

  /**
   * The agent is a candidate from now on, as long as its process lives and until it resigns; the first candidate leads. A
   * caller without a process stays one by calling again. Answers who leads, after at most `waitMs` for the caller itself.
   * @throws SwarmError invalid_argument, limit_exceeded
   */
  async elect(call: Call, input: Elect, waiting: Waiting = { waitMs: 0 }): Promise<{ leader: LeaderView; candidates: number }> {
    const { store, caller } = call;
    const group = checkGroup(input.group);
    const agentId = speakAs(caller, input.agentId);
    const { processId } = caller;
    if (processId !== undefined) this.#checkRoom();
    const leaseMs = processId === undefined ? (this.#options.remoteLeaseMs ?? REMOTE_CANDIDACY_MS) : this.#options.leaseMs;
    const joined = await call.transact(
      (tx): Joined => {
        const rows = candidatesIn(tx, group);
        const known = rows.find((one) => one.agentId === agentId && one.processId === processId);
        if (!known && rows.length >= CANDIDATES_MAX) throw full(group);
        const record = readGroup(tx, group);
        const candidate: Candidate = {
          ticket: known?.ticket ?? record.ticket + 1,
          agentId,
          ...(processId === undefined ? {} : { processId }),
          since: known?.since ?? tx.now,
          ...infoOf(input.candidateInfo ?? known?.info),
          ...(known ? { askedAgain: true } : {}),
        };
        if (!known) tx.put(groupKey(group), { ...record, ticket: candidate.ticket });
        putCandidate(tx, group, candidate, leaseMs);
        if (!readLeader(tx, group)) promote(tx, group);
        return { candidate, fresh: known === undefined };
      },
      { prefetch: { keys: [groupKey(group)], ranges: [candidatesOf(group, CANDIDATES_MAX)] } },
    );
    const { ticket } = joined.candidate;
    try {
      this.#keep(call, group, joined.candidate);
      await waitFor({
        store,
        clock: this.#options.clock,
        prefixes: [groupKey(group)],
        ...waiting,
        attempt: async () => {
          const leader = await this.#current(store, group);
          if (leader?.ticket === ticket || waiting.waitMs === 0) return { value: true };
          const leaseLeft = leader ? leader.leaseExpiresAt - (await store.now()) : 0;
          return { againInMs: Math.min(Math.max(0, leaseLeft), LOOK_AGAIN_MS) };
        },
      });
      waiting.signal?.throwIfAborted();
    } catch (error) {
      // a candidacy that nobody hears of, or that nothing renews, is none
      const kept = waiting.signal?.aborted !== true && this.#candidacies.has(leaseId(group, ticket));
      if (joined.fresh && !kept) await this.#withdrawUnlessAskedAgain(store, group, ticket);
      throw error;
    }
    const leader = await this.#current(store, group);
    if (!leader) throw lapsed(group);
    const candidates = await store.scan(candidatesOf(group, CANDIDATES_MAX));
    return { leader: viewOf(group, leader, joined.candidate), candidates: candidates.length };
  }

  /** Who leads at this moment, and who would. A leader whose lease ran out is none. */
  async get(
    { store, caller }: Pick<Call, "store" | "caller">,
    input: { group: string },
  ): Promise<{ leader: LeaderView | null; candidates: { agentId: string; sinceAt: number; info?: string }[] }> {
    const group = checkGroup(input.group);
    const leader = await findLeader(store, group);
    const candidates = (await store.scan(candidatesOf(group, NAMED_MAX))).map((entry) => entry.value as Candidate);
    return {
      leader: leader ? viewOf(group, leader, caller) : null,
      candidates: candidates
        .filter(({ ticket }) => ticket !== leader?.ticket)
        .map(({ agentId, since, info }) => ({ agentId, sinceAt: since, ...infoOf(info) })),
    };
  }

  /**
   * The agent neither leads nor wants to any more, through whichever process; the next candidate leads at once.
   * @throws SwarmError failed_precondition when it is no candidate
   */
  async resign(
    call: Call,
    input: { group: string; agentId?: string | undefined },
  ): Promise<{ resigned: { group: string; led: boolean }; leader: LeaderView | null }> {
    const group = checkGroup(input.group);
    const agentId = speakAs(call.caller, input.agentId);
    const { tickets, led } = await call.transact(
      (tx): { tickets: number[]; led: boolean } => {
        const mine = candidatesIn(tx, group).filter((one) => one.agentId === agentId);
        if (mine.length === 0) throw noCandidate(group);
        const tickets = mine.map(({ ticket }) => ticket);
        const led = readLeader(tx, group)?.agentId === agentId;
        resign(tx, group, tickets);
        return { tickets, led };
      },
      { prefetch: { keys: [groupKey(group)], ranges: [candidatesOf(group, CANDIDATES_MAX)] } },
    );
    for (const ticket of tickets) this.#forget(group, ticket);
    const leader = await findLeader(call.store, group);
    return { resigned: { group, led }, leader: leader ? viewOf(group, leader, call.caller) : null };
  }

  /** Lets the next candidate lead when a leader's lease has run out: whichever process lives does it, no call need be open. */
  job(store: Store): MaintenanceJob {
    return dueJob({
      name: "replace leaders that are gone",
      store,
      index: leadersDue,
      limit: DUE_BATCH_MAX,
      handle: (tx, { id: group, dueAt }) => {
        const record = readGroup(tx, group);
        if (record.dueAt !== dueAt) return; // it stands elsewhere by now
        const leader = readLeader(tx, group);
        if (leader) watchOver(tx, record, leader.leaseExpiresAt);
        else promote(tx, group);
      },
    });
  }

  #checkRoom(): void {
    if (this.#holdings.list().length < HELD_LEASES_MAX) return;
    throw new SwarmError("limit_exceeded", `One server process holds at most ${HELD_LEASES_MAX} candidacies.`, {
      hint: "Resign from some groups first.",
    });
  }

  /** From now on renewed; the answer to a repeated call may be of a candidacy in another process. */
  #keep(call: Call, group: string, candidate: Candidate): void {
    if (candidate.processId === undefined || candidate.processId !== call.caller.processId) return;
    const id = leaseId(group, candidate.ticket);
    this.#holdings.hold({ id, token: candidate.ticket });
    this.#candidacies.set(id, { group, candidate });
  }

  #forget(group: string, ticket: number): void {
    const id = leaseId(group, ticket);
    this.#candidacies.delete(id);
    this.#holdings.drop(id);
  }

  async #withdrawUnlessAskedAgain(store: Store, group: string, ticket: number): Promise<void> {
    const withdrawn = await store.transact((tx) => {
      const candidate = tx.get(candidateKey(group, ticket))?.value as Candidate | undefined;
      if (candidate?.askedAgain) return false;
      resign(tx, group, [ticket]);
      return true;
    });
    if (withdrawn) this.#forget(group, ticket);
  }

  /** The leader; of a group whose leader's lease ran out, the candidate that takes its place now. */
  async #current(store: Store, group: string): Promise<Leader | undefined> {
    const leader = await findLeader(store, group);
    if (leader) return leader;
    await store.transact((tx) => {
      if (!readLeader(tx, group)) promote(tx, group);
    });
    return findLeader(store, group);
  }
}

function candidatesIn(tx: Pick<Transaction, "scan">, group: string): Candidate[] {
  return tx.scan(candidatesOf(group, CANDIDATES_MAX)).map((entry) => entry.value as Candidate);
}

function putCandidate(tx: Transaction, group: string, candidate: Candidate, ttlMs: number): void {
  tx.put(candidateKey(group, candidate.ticket), candidate, { ttlMs });
}

/** The first candidate leads, in a term of its own; nobody when there is none. */
function promote(tx: Transaction, group: string): void {
  const record = readGroup(tx, group);
  const [first] = tx.scan(candidatesOf(group, 1));
  if (first) {
    const { ticket } = first.value as Candidate;
    watchOver(tx, { ...record, term: record.term + 1, leader: { ticket, since: tx.now } }, first.expiresAt ?? tx.now);
    return;
  }
  if (!record.leader) return;
  const { leader, dueAt, ...rest } = record;
  if (dueAt !== undefined) leadersDue.remove(tx, dueAt, group);
  tx.put(groupKey(group), rest);
}

/** The group is looked at when its leader's lease ends, as it is known now. */
function watchOver(tx: Transaction, record: GroupRecord, dueAt: number): void {
  const { group } = record;
  if (record.dueAt !== undefined) leadersDue.remove(tx, record.dueAt, group);
  leadersDue.put(tx, dueAt, group, { refs: [groupKey(group)] });
  tx.put(groupKey(group), { ...record, dueAt });
}

/** These candidacies are over for good; a renewal that is under way does not bring one back. */
function resign(tx: Transaction, group: string, tickets: readonly number[]): void {
  const record = readGroup(tx, group);
  for (const ticket of tickets) tx.delete(candidateKey(group, ticket));
  tx.put(groupKey(group), { ...record, resigned: [...(record.resigned ?? []), ...tickets].slice(-RESIGNED_MAX) });
  if (record.leader && tickets.includes(record.leader.ticket)) promote(tx, group);
}

function leaseId(group: string, ticket: number): string {
  return `${ticket} ${group}`;
}

function infoOf(info: string | undefined): { info?: string } {
  return info === undefined ? {} : { info };
}

function viewOf(group: string, leader: Leader, asker: { agentId: string; processId?: string | undefined }): LeaderView {
  const { agentId, processId, term, leadsSince: sinceAt, leaseExpiresAt, info } = leader;
  return {
    group,
    agentId,
    term,
    sinceAt,
    leaseExpiresAt,
    you: agentId === asker.agentId && processId === asker.processId,
    ...infoOf(info),
  };
}

/** @throws SwarmError invalid_argument */
function checkGroup(group: string): string {
  if (LOCK_NAME.test(group)) return group;
  throw new SwarmError("invalid_argument", "Field group: not a group's name.", {
    hint: "Use up to 64 letters, digits and . _ : / -, and begin with a letter or digit.",
  });
}

function full(group: string): SwarmError {
  return new SwarmError("limit_exceeded", `Group ${group} has ${CANDIDATES_MAX} candidates already.`, {
    hint: "Ask get_leader who leads; one candidate more would hardly ever do.",
  });
}

function noCandidate(group: string): SwarmError {
  return new SwarmError("failed_precondition", `You are no candidate of group ${group}.`, {
    hint: "get_leader tells who leads.",
  });
}

function lapsed(group: string): SwarmError {
  return new SwarmError("conflict", `Your candidacy in group ${group} ran out while you waited, and nobody leads.`, {
    hint: "Call elect_leader again.",
  });
}
