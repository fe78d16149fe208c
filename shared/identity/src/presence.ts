import { createHash } from "node:crypto";
import { type Clock, newId, PAGE_DEFAULT, type Random, SwarmError } from "@mcp-swarm/core";
import { type Entry, type KeyRange, prefixRange, SCAN_LIMIT_MAX, type Store, segment, type Transaction } from "@mcp-swarm/store";
import { type Caller, checkAgentId } from "./caller.ts";

/*
 * | key                            | value          | why                                                                 |
 * |--------------------------------|----------------|---------------------------------------------------------------------|
 * | presence/<agent>/<process>     | PresenceRecord | one process's lease on one agent; the row expires with the lease,    |
 * |                                | (expires)      | so readers see the living only, a renewal is one write, and the      |
 * |                                |                | processes of an agent stand together                                 |
 *
 * A row carries what its process last announced; an agent's announcement is the newest among its rows. Expired rows are taken
 * away by the store's own sweep, which goes by expiry: nothing here ever looks at the dead.
 */
const PREFIX = "presence/";
/** The process of callers that have none: over HTTP an agent is alive while it calls. */
const HTTP_PROCESS = "http";

function agentPrefix(agentId: string): string {
  return `${PREFIX}${segment(agentId)}/`;
}

/** Most capabilities one agent announces, and the longest of them in characters. */
export const CAPABILITIES_MAX = 64;
export const CAPABILITY_LENGTH_MAX = 64;
/** Most processes of one agent, and most agents (subagents included) of one process. */
export const AGENT_PROCESSES_MAX = 100;
export const PROCESS_AGENTS_MAX = 100;
/** HTTP callers whose last touch a process remembers; one forgotten costs a read. */
const TOUCHED_MAX = 10_000;

/** What an agent tells others of itself. */
export interface Announcement {
  readonly capabilities: readonly string[];
  /** A word for what it is, for example `claude-code`. */
  readonly agentType?: string;
}

type PresenceRecord = {
  agentId: string;
  processId: string;
  sinceAt: number;
  seenAt: number;
  announcedAt: number;
  announcement: { capabilities: readonly string[]; agentType?: string };
};

export interface LiveAgent {
  readonly agentId: string;
  readonly capabilities: readonly string[];
  readonly agentType?: string;
  /** When the oldest of its living processes appeared. */
  readonly sinceAt: number;
  readonly lastSeenAt: number;
  readonly leaseExpiresAt: number;
  /** How many processes it lives in. */
  readonly processes: number;
}

export interface LiveAgents {
  agents: LiveAgent[];
  /** Give as `after` for the next page; absent at the end. */
  next?: string;
}

/** A transaction, or anything that scans like one. */
type Scanner = Pick<Transaction, "scan">;

/**
 * Agents alive at this moment, in order of their ids as keys, inside a transaction. Every agent whose row is read is guarded at commit, so a
 * decision that may rest on a slightly old list reads it outside, with `listLiveAgents`.
 */
export function liveAgentsIn(tx: Scanner, limit: number, after?: string): LiveAgents {
  return groupPage(tx.scan(pageRange(limit, after)), limit);
}

/** The agent when one of its processes is alive. */
export function liveAgentIn(tx: Scanner, agentId: string): LiveAgent | undefined {
  return summarise(tx.scan(prefixRange(agentPrefix(agentId), AGENT_PROCESSES_MAX)));
}

/** The agent when one of its processes is alive, read outside a transaction. */
export async function findLiveAgent(store: Pick<Store, "scan">, agentId: string): Promise<LiveAgent | undefined> {
  return summarise(await store.scan(prefixRange(agentPrefix(checkAgentId(agentId)), AGENT_PROCESSES_MAX)));
}

/** The processes that the agent lives in now, read outside a transaction; empty when it is dead. */
export async function liveProcesses(store: Pick<Store, "scan">, agentId: string): Promise<Set<string>> {
  const rows = await store.scan(prefixRange(agentPrefix(checkAgentId(agentId)), AGENT_PROCESSES_MAX));
  return new Set(rows.map((row) => (row.value as PresenceRecord).processId));
}

/** Agents alive now, a page at a time, read outside a transaction. */
export async function listLiveAgents(
  store: Pick<Store, "scan">,
  { limit = PAGE_DEFAULT, after }: { limit?: number; after?: string } = {},
): Promise<LiveAgents> {
  return groupPage(await store.scan(pageRange(limit, after)), limit);
}

function pageRange(limit: number, after: string | undefined): KeyRange {
  const range = prefixRange(PREFIX, rowsFor(limit));
  return after === undefined ? range : { ...range, from: `${agentPrefix(checkAgentId(after)).slice(0, -1)}0` };
}

/** Rows read for a page of agents, most of which live in one or two processes. */
function rowsFor(limit: number): number {
  return Math.min(SCAN_LIMIT_MAX, limit * 2 + AGENT_PROCESSES_MAX);
}

/** A page may hold fewer agents than asked when they live in many processes, never part of one. */
function groupPage(rows: readonly Entry[], limit: number): LiveAgents {
  const groups = new Map<string, Entry[]>();
  for (const row of rows) {
    const { agentId } = row.value as PresenceRecord;
    const group = groups.get(agentId);
    if (group) group.push(row);
    else groups.set(agentId, [row]);
  }
  const readAll = rows.length < rowsFor(limit);
  const whole = [...groups.values()];
  if (!readAll && whole.length > 1) whole.pop(); // the last one's rows may go on behind the page
  const agents = whole.slice(0, limit).flatMap((group) => summarise(group) ?? []);
  const last = agents.at(-1)?.agentId;
  return last === undefined || (readAll && whole.length <= limit) ? { agents } : { agents, next: last };
}

function summarise(rows: readonly Entry[]): LiveAgent | undefined {
  const records = rows.map((row) => row.value as PresenceRecord);
  const newest = records.reduce<PresenceRecord | undefined>((a, b) => (a && a.announcedAt >= b.announcedAt ? a : b), undefined);
  if (!newest) return undefined;
  return {
    agentId: newest.agentId,
    ...newest.announcement,
    sinceAt: Math.min(...records.map((record) => record.sinceAt)),
    lastSeenAt: Math.max(...records.map((record) => record.seenAt)),
    leaseExpiresAt: Math.max(...rows.map((row) => row.expiresAt ?? 0)),
    processes: rows.length,
  };
}

export interface PresenceOptions {
  store: Store;
  clock: Clock;
  /** This process's own id; see `newId("process")`. */
  processId: string;
  /** How long an agent outlives its last renewal. */
  leaseMs: number;
  /** Told when a renewal failed; it is tried again in time for the lease to hold. */
  onError: (error: unknown) => void;
}

interface Kept {
  sinceAt: number;
  announcedAt: number;
  announcement: Announcement;
}

/** What one said counts from when it said it; one that said nothing never outdoes another process of its agent. */
function announced(before: Kept | undefined, said: Announcement | undefined, now: number): Kept {
  return {
    sinceAt: before?.sinceAt ?? now,
    announcedAt: said ? now : (before?.announcedAt ?? 0),
    announcement: said ?? before?.announcement ?? { capabilities: [] },
  };
}

/** Renewals that fit in one lease, and tries that fit between two of them once one failed. */
const RENEWALS_PER_LEASE = 3;
const RETRIES_PER_RENEWAL = 4;

/**
 * Keeps the agents of this process alive for others to see. One timer and one transaction renew them all, one write each.
 * Nothing here blocks another agent: what a dead agent held ends by leases of its own.
 */
export class Presence {
  readonly #options: PresenceOptions;
  readonly #kept = new Map<string, Kept>();
  /** HTTP agent → when this process last touched it, by its own clock, oldest first. */
  readonly #touched = new Map<string, number>();
  #timer: Disposable | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  /**
   * The agent lives in this process from now on, until `leave`, and says this of itself; without `announcement` what it said
   * before stays. A caller without a process (HTTP) is alive for one lease from its last call.
   * @throws SwarmError invalid_argument, limit_exceeded
   */
  async announce(caller: Pick<Caller, "agentId" | "processId">, announcement?: Announcement): Promise<void> {
    if (announcement) checkAnnouncement(announcement);
    if (caller.processId === undefined) return this.#writeHttp(caller.agentId, announcement);
    const agentId = checkAgentId(caller.agentId);
    await this.#oneAtATime(async () => {
      const before = this.#kept.get(agentId);
      if (!before && this.#kept.size >= PROCESS_AGENTS_MAX) {
        throw new SwarmError("limit_exceeded", `One process holds at most ${PROCESS_AGENTS_MAX} agents.`, {
          hint: "Use fewer subagent names: a name may be used again once its work is done.",
        });
      }
      const kept = await this.#options.store.transact((tx) => {
        const next = announced(before, announcement, tx.now);
        this.#put(tx, agentId, this.#options.processId, next);
        return next;
      });
      this.#kept.set(agentId, kept);
      this.#arm(this.#options.leaseMs / RENEWALS_PER_LEASE);
    });
  }

  /** Notes that an HTTP caller is there, at most once per third of a lease. Callers with a process need none: it renews. */
  async touch(caller: Pick<Caller, "agentId" | "processId">): Promise<void> {
    if (caller.processId !== undefined) return;
    const now = this.#options.clock.now();
    const last = this.#touched.get(caller.agentId);
    if (last !== undefined && now >= last && now - last < this.#options.leaseMs / RENEWALS_PER_LEASE) return;
    await this.#writeHttp(caller.agentId, undefined);
  }

  /** Agents alive now, a page at a time. */
  async liveAgents(page: { limit?: number; after?: string } = {}): Promise<LiveAgents> {
    return listLiveAgents(this.#options.store, page);
  }

  /** The agent when it is alive now. */
  async find(agentId: string): Promise<LiveAgent | undefined> {
    return findLiveAgent(this.#options.store, agentId);
  }

  /** Ends this process's part in the agent's life at once, or in all its agents' when none is named. */
  async leave(agentId?: string): Promise<void> {
    await this.#oneAtATime(async () => {
      const leaving = agentId === undefined ? [...this.#kept.keys()] : [agentId].filter((id) => this.#kept.has(id));
      for (const id of leaving) this.#kept.delete(id);
      if (this.#kept.size === 0) this.#disarm();
      if (leaving.length === 0) return;
      await this.#options.store.transact((tx) => {
        for (const id of leaving) tx.delete(`${agentPrefix(id)}${segment(this.#options.processId)}`);
      });
    });
  }

  /** Writes of this process's rows in the order asked: a renewal must not bring back what was left or said before. */
  #oneAtATime(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {}); // whoever asked for it is told
    return done;
  }

  #put(tx: Transaction, agentId: string, processId: string, kept: Kept): void {
    const record: PresenceRecord = {
      agentId,
      processId,
      sinceAt: kept.sinceAt,
      seenAt: tx.now,
      announcedAt: kept.announcedAt,
      announcement: { ...kept.announcement },
    };
    tx.put(`${agentPrefix(agentId)}${segment(processId)}`, record, { ttlMs: this.#options.leaseMs });
  }

  async #writeHttp(agentId: string, announcement: Announcement | undefined): Promise<void> {
    const key = `${agentPrefix(checkAgentId(agentId))}${HTTP_PROCESS}`;
    await this.#options.store.transact(
      (tx) => {
        const before = tx.get(key)?.value as PresenceRecord | undefined;
        const fresh = before && tx.now - before.seenAt < this.#options.leaseMs / RENEWALS_PER_LEASE;
        if (fresh && !announcement) return;
        this.#put(tx, agentId, HTTP_PROCESS, announced(before, announcement, tx.now));
      },
      { prefetch: { keys: [key] } },
    );
    this.#touched.delete(agentId);
    this.#touched.set(agentId, this.#options.clock.now());
    const oldest = this.#touched.keys().next();
    if (this.#touched.size > TOUCHED_MAX && !oldest.done) this.#touched.delete(oldest.value);
  }

  #arm(delayMs: number): void {
    this.#timer ??= this.#options.clock.timer(delayMs, () => {
      this.#timer = undefined;
      void this.#oneAtATime(() => this.#renew());
    });
  }

  #disarm(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }

  /** Never rejects. */
  async #renew(): Promise<void> {
    if (this.#kept.size === 0) return;
    const betweenMs = this.#options.leaseMs / RENEWALS_PER_LEASE;
    let nextMs = betweenMs;
    try {
      const renewed = [...this.#kept];
      await this.#options.store.transact((tx) => {
        for (const [agentId, kept] of renewed) this.#put(tx, agentId, this.#options.processId, kept);
      });
    } catch (error) {
      nextMs = betweenMs / RETRIES_PER_RENEWAL;
      this.#options.onError(error);
    }
    this.#arm(nextMs);
  }
}

function checkAnnouncement({ capabilities, agentType }: Announcement): void {
  const words = agentType === undefined ? capabilities : [...capabilities, agentType];
  if (capabilities.length <= CAPABILITIES_MAX && words.every((word) => word.length > 0 && word.length <= CAPABILITY_LENGTH_MAX))
    return;
  throw new SwarmError("invalid_argument", "An agent announces too many or too long capabilities.", {
    hint: `Use at most ${CAPABILITIES_MAX} words of 1 to ${CAPABILITY_LENGTH_MAX} characters.`,
  });
}

const SESSION_HASH_LENGTH = 10;

/**
 * The agent id of a process: `SWARM_AGENT`; else from `CLAUDE_CODE_SESSION_ID`, so that all servers of one session speak as one
 * agent, hashed because that id is the key to the session; else a fresh one.
 * @throws SwarmError invalid_argument when `SWARM_AGENT` is not an agent id
 */
export function deriveAgentId({ env, random }: { env: Readonly<Record<string, string | undefined>>; random: Random }): string {
  if (env.SWARM_AGENT) return checkAgentId(env.SWARM_AGENT);
  const session = env.CLAUDE_CODE_SESSION_ID;
  if (!session) return newId("agent", random);
  return `claude-${createHash("sha256").update(session).digest("hex").slice(0, SESSION_HASH_LENGTH)}`;
}
