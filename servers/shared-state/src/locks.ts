/** Locks: who has the right to do something alone, or together with others who do no harm to each other. */
import {
  decodeCursor,
  encodeCursor,
  HELD_LEASES_MAX,
  type HeldLease,
  type Holdings,
  type LeaseKeeper,
  type MaintenanceJob,
  passJob,
  waitFor,
} from "@mcp-swarm/coordination";
import { type Clock, PAGE_DEFAULT, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import type { Store, Transaction } from "@mcp-swarm/store";
import { BUSY_LOCKS_PREFIX, busyLocks, lockKey, nameOfBusy, readLock, readLocks, tidyLock, writeLock } from "./lock-layer.ts";
import {
  type Asker,
  checkLockName,
  extend,
  giveBack,
  grant,
  type Holding,
  isFree,
  isIdle,
  LOCK_MS_DEFAULT,
  type LockMode,
  type LockRecord,
  type LockRequest,
  leave,
  livingLock,
  nextEnd,
  ownHolding,
  standInLine,
} from "./lock-record.ts";

/** A place in line is kept for so long without a sign of who waits there; less when leases are shorter. */
export const PLACE_MS_MAX = 5_000;
/** Rows of a list that one call reads at most, however few of them fit what is asked. */
const LISTED_ROWS_MAX = 1_000;
/** Holders and waiting agents of a lock that a list names. */
const NAMED_MAX = 5;
/** What a place in line adds to the time between a wake and a look, in ms, and the most places that do. */
const BEHIND_MS = 2;
const BEHIND_MAX = 10;
/** Locks of this process that are looked at to tell whether the holder of another waits for one of them. */
const OWN_LOOKED_AT_MAX = 20;
const TIDY_EVERY_MS = 60_000;
const TIDY_BATCH_MAX = 50;

/** A lock as its holder is told of it. */
export type HeldLock = {
  readonly name: string;
  readonly mode: LockMode;
  readonly agentId: string;
  readonly fencingToken: number;
  readonly acquiredAt: number;
  readonly leaseExpiresAt: number;
  readonly endsAt: number;
};

export type AcquiredLock = {
  readonly lock: HeldLock;
  /** The agent held it before the call. */
  readonly alreadyHeld: boolean;
};

export type ListedLock = {
  readonly name: string;
  readonly mode?: LockMode;
  /** The first of them. */
  readonly holders: Omit<HeldLock, "name" | "mode">[];
  readonly held: number;
  readonly waiting: number;
  /** The first in line. */
  readonly next: string[];
};

export interface AcquireLock {
  readonly name: string;
  readonly mode?: LockMode | undefined;
  /** The longest that it may be held, in ms: LOCK_MS_MIN to LOCK_MS_MAX. */
  readonly ttlMs?: number | undefined;
  /** A subagent of the caller. */
  readonly agentId?: string | undefined;
}

export interface Waiting {
  /** 0 to WAIT_MS_MAX. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((waitedMs: number) => void) | undefined;
}

export interface HeldByCaller {
  readonly name: string;
  readonly fencingToken?: number | undefined;
  readonly agentId?: string | undefined;
}

export interface ListLocks {
  /** Of names. */
  readonly prefix?: string | undefined;
  readonly holder?: string | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export interface LocksOptions {
  clock: Clock;
  keeper: LeaseKeeper;
  /** `SWARM_LEASE_MS`: of callers with a process, which renews. Others hold a lock for its ttlMs. */
  leaseMs: number;
}

type Taken = { readonly holding: Holding; readonly already: boolean };
type Place = {
  readonly ticket: number;
  readonly free: boolean;
  readonly againInMs: number;
  /** How long after a wake it looks: those before it in line go first. */
  readonly behindMs: number;
  /** How far the engine's clock was before this process's when the place was last written, in ms. */
  readonly aheadMs: number;
};

export class Locks {
  readonly #options: LocksOptions;
  readonly #holdings: Holdings;
  readonly #placeMs: number;

  constructor(options: LocksOptions) {
    this.#options = options;
    this.#placeMs = Math.min(options.leaseMs, PLACE_MS_MAX);
    this.#holdings = options.keeper.keep({
      name: "locks",
      renew: (tx, lease, leaseExpiresAt) => {
        const before = readLock(tx, nameOf(lease));
        const extended = extend(before, lease.token, { now: tx.now, leaseExpiresAt });
        if (extended) writeLock(tx, before, extended.lock);
        return extended !== undefined;
      },
      release: (tx, lease) => free(tx, nameOf(lease), lease.token),
    });
  }

  /**
   * The lock, or the place in line until it is free. An agent that holds it through the same process gets what it has.
   * @throws SwarmError conflict (who holds it, until when, how many wait), failed_precondition (an exclusive lock of one that is
   *   shared with others), limit_exceeded
   */
  async acquire(call: Call, input: AcquireLock, waiting: Waiting = { waitMs: 0 }): Promise<AcquiredLock> {
    const { store, caller } = call;
    const name = checkLockName(input.name);
    const agentId = speakAs(caller, input.agentId);
    const ttlMs = input.ttlMs ?? LOCK_MS_DEFAULT;
    const leaseMs = caller.processId === undefined ? ttlMs : this.#options.leaseMs;
    const request: LockRequest = { agentId, processId: caller.processId, mode: input.mode ?? "exclusive", ttlMs, leaseMs };
    if (caller.processId !== undefined) this.#checkRoom();
    let place: Place | undefined;
    let taken: Taken | undefined;
    try {
      taken = await waitFor({
        store,
        clock: this.#options.clock,
        prefixes: [lockKey(name)],
        ...waiting,
        attempt: async () => {
          if (place) place = await this.#look(store, name, request, place);
          if (place === undefined || place.free) {
            const got = await this.#take(call, name, { ...request, ticket: place?.ticket });
            if (got) return { value: got };
          }
          if (waiting.waitMs === 0) return {};
          place ??= await this.#standInLine(store, name, request, undefined);
          return place.free ? { againInMs: 0 } : { againInMs: place.againInMs, behindMs: place.behindMs };
        },
      });
    } catch (error) {
      // what went wrong first is what is told; a place that is not given up ends by itself
      if (place) await this.#leaveLine(store, name, place.ticket).catch(() => {});
      throw error;
    }
    if (!taken) {
      if (place) await this.#leaveLine(store, name, place.ticket);
      throw await this.#heldByOthers(store, name, request, waiting.waitMs);
    }
    await this.#keep(call, name, taken, waiting.signal);
    return { lock: heldLock(name, taken.holding), alreadyHeld: taken.already };
  }

  /**
   * The holding may last ttlMs from now on, by default as long as it could from its beginning.
   * @throws SwarmError failed_precondition when it is not the caller's, or over
   */
  async renew(call: Call, input: HeldByCaller & { ttlMs?: number | undefined }): Promise<{ lock: HeldLock }> {
    const name = checkLockName(input.name);
    const asker = { agentId: speakAs(call.caller, input.agentId), processId: call.caller.processId };
    const holding = await call.transact(
      (tx): Holding => {
        const before = readLock(tx, name);
        const own = checkOwn(before, asker, input.fencingToken, tx.now);
        const ttlMs = input.ttlMs ?? own.ttlMs;
        const leaseMs = own.processId === undefined ? ttlMs : this.#options.leaseMs;
        const extended = extend(before, own.token, { now: tx.now, leaseExpiresAt: tx.now + leaseMs, ttlMs });
        if (!extended) throw notHeld(before, asker, tx.now);
        writeLock(tx, before, extended.lock);
        return extended.holding;
      },
      { prefetch: { keys: [lockKey(name)] } },
    );
    return { lock: heldLock(name, holding) };
  }

  /** @throws SwarmError failed_precondition when it is not the caller's, or over: then it may be another's already */
  async release(call: Call, input: HeldByCaller): Promise<{ lock: HeldLock; waiting: number }> {
    const name = checkLockName(input.name);
    const asker = { agentId: speakAs(call.caller, input.agentId), processId: call.caller.processId };
    const { holding, waiting } = await call.transact(
      (tx): { holding: Holding; waiting: number } => {
        const before = readLock(tx, name);
        const own = checkOwn(before, asker, input.fencingToken, tx.now);
        const after = giveBack(before, own.token);
        writeLock(tx, before, after);
        return { holding: own, waiting: livingLock(after, tx.now).waiters.length };
      },
      { prefetch: { keys: [lockKey(name)] } },
    );
    this.#holdings.drop(leaseId(name, holding.token), holding.token);
    return { lock: heldLock(name, holding), waiting };
  }

  /** Locks that are held or waited for, in order of their names. A page may hold fewer than there are more. */
  async list({ store }: Pick<Call, "store">, input: ListLocks = {}): Promise<{ locks: ListedLock[]; nextCursor?: string }> {
    const { prefix = "", holder, limit = PAGE_DEFAULT } = input;
    const scope = { list: `locks\0${prefix}\0${holder ?? ""}`, prefix: BUSY_LOCKS_PREFIX };
    let after = input.cursor === undefined ? undefined : decodeCursor(scope, input.cursor);
    const now = await store.now();
    const locks: ListedLock[] = [];
    for (let looked = 0; looked < LISTED_ROWS_MAX; ) {
      const range = busyLocks(prefix, limit, after);
      const rows = await store.scan(range);
      const records = await readLocks(
        store,
        rows.map(({ key }) => nameOfBusy(key)),
      );
      for (const [at, record] of records.entries()) {
        const lock = livingLock(record, now);
        after = rows[at]?.key;
        if (isIdle(lock) || (holder !== undefined && !lock.holders.some(({ agentId }) => agentId === holder))) continue;
        locks.push(listed(lock));
        if (locks.length === limit && after !== undefined) return { locks, nextCursor: encodeCursor(scope, after) };
      }
      if (rows.length < range.limit) return { locks };
      looked += rows.length;
    }
    return after === undefined ? { locks } : { locks, nextCursor: encodeCursor(scope, after) };
  }

  /** Leases that ended leave the records that nobody asked for since. */
  tidyJob(store: Store): MaintenanceJob {
    return passJob("tidy locks", store, TIDY_EVERY_MS, async (after) => {
      const range = busyLocks("", TIDY_BATCH_MAX, after);
      const names = (await store.scan(range)).map(({ key }) => nameOfBusy(key));
      const now = await store.now();
      const ended = (await readLocks(store, names)).filter((lock) => livingLock(lock, now) !== lock);
      if (ended.length > 0) {
        await store.transact((tx) => {
          for (const { name } of ended) tidyLock(tx, name);
        });
      }
      const last = names.at(-1);
      return names.length === range.limit && last !== undefined ? `${BUSY_LOCKS_PREFIX}${last}` : undefined;
    });
  }

  /** What this process holds and renews. */
  held(): readonly { name: string; token: number }[] {
    return this.#holdings.list().map((lease) => ({ name: nameOf(lease), token: lease.token }));
  }

  /** Before a lock is granted, so that none is that this process could not renew. */
  #checkRoom(): void {
    if (this.#holdings.list().length < HELD_LEASES_MAX) return;
    throw new SwarmError("limit_exceeded", `One server process holds at most ${HELD_LEASES_MAX} locks.`, {
      hint: "Release some of them first.",
    });
  }

  /** Undefined, and nothing written, when it must wait. */
  async #take(call: Call, name: string, request: LockRequest): Promise<Taken | undefined> {
    const taken = await call.transact(
      (tx): Taken | null => {
        const before = readLock(tx, name);
        const granted = grant(before, request, tx.now);
        if (!granted) return null;
        writeLock(tx, before, granted.lock);
        return { holding: granted.holding, already: granted.already };
      },
      { prefetch: { keys: [lockKey(name)] } },
    );
    return taken ?? undefined;
  }

  /**
   * Where one stands now, read before any transaction, in one read however many wake: what time it is by the engine is
   * reckoned, and only says whether to try. A place that is about to end is kept.
   */
  async #look(store: Store, name: string, request: LockRequest, { ticket, aheadMs }: Place): Promise<Place> {
    const [lock] = await readLocks(store, [name]);
    const now = this.#options.clock.now() + aheadMs;
    const mine = lock?.waiters.find((waiter) => waiter.ticket === ticket);
    if (!lock || !mine || mine.until - now <= this.#placeMs / 2) return this.#standInLine(store, name, request, ticket);
    return this.#placeIn(lock, request, ticket, now);
  }

  async #standInLine(store: Store, name: string, request: LockRequest, ticket: number | undefined): Promise<Place> {
    const { lock, ...stood } = await store.transact(
      (tx) => {
        const before = readLock(tx, name);
        const stood = standInLine(before, { ...request, ticket }, { now: tx.now, until: tx.now + this.#placeMs });
        writeLock(tx, before, stood.lock);
        return { ...stood, now: tx.now };
      },
      { prefetch: { keys: [lockKey(name)] } },
    );
    return this.#placeIn(lock, request, stood.ticket, stood.now);
  }

  #placeIn(stored: LockRecord, request: LockRequest, ticket: number, now: number): Place {
    const lock = livingLock(stored, now);
    const free = isFree(lock, request.mode, ticket) || ownHolding(lock, request) !== undefined;
    const againInMs = Math.max(0, Math.min(nextEnd(lock, ticket) - now, this.#placeMs / 2));
    const before = lock.waiters.filter((waiter) => waiter.ticket < ticket).length;
    const behindMs = Math.min(before, BEHIND_MAX) * BEHIND_MS;
    return { ticket, free, againInMs, behindMs, aheadMs: now - this.#options.clock.now() };
  }

  async #leaveLine(store: Store, name: string, ticket: number): Promise<void> {
    await store.transact((tx) => {
      const before = readLock(tx, name);
      writeLock(tx, before, leave(before, ticket));
    });
  }

  /** From now on renewed. What was granted while the call was cancelled, or the process was ending, is given back. */
  async #keep(call: Call, name: string, { holding, already }: Taken, signal: AbortSignal | undefined): Promise<void> {
    const { token, processId } = holding;
    try {
      signal?.throwIfAborted();
      // the answer to a repeated call may be of a holding of another process
      if (processId === undefined || processId !== call.caller.processId) return;
      this.#holdings.hold({ id: leaseId(name, token), token });
    } catch (error) {
      if (!already) await call.store.transact((tx) => freeUnlessAskedAgain(tx, name, token));
      throw error;
    }
  }

  async #heldByOthers(store: Store, name: string, asker: LockRequest, waitedMs: number): Promise<SwarmError> {
    const [stored] = await readLocks(store, [name]);
    const lock = livingLock(stored as LockRecord, await store.now());
    const circle = await this.#waitsForMine(store, lock);
    const hints = [
      waitedMs === 0
        ? "Call again with waitMs to stand in line."
        : "Your place in line is given up: call again with waitMs for a new one.",
      ...(circle === undefined
        ? []
        : [`${circle.agentId} waits for lock ${circle.name}, which you hold: release it, or both wait in vain.`]),
    ];
    return new SwarmError("conflict", whyBusy(lock, asker), { hint: hints.join(" ") });
  }

  /** A holder of the lock that waits for one of this process's locks. */
  async #waitsForMine(store: Store, lock: LockRecord): Promise<{ agentId: string; name: string } | undefined> {
    const holders = new Set(lock.holders.map(({ agentId }) => agentId));
    const mine = this.held().slice(0, OWN_LOOKED_AT_MAX);
    for (const { name, waiters } of await readLocks(
      store,
      mine.map(({ name }) => name),
    )) {
      const waiter = waiters.find(({ agentId }) => holders.has(agentId));
      if (waiter) return { agentId: waiter.agentId, name };
    }
    return undefined;
  }
}

function leaseId(name: string, token: number): string {
  return `${token} ${name}`;
}

function nameOf({ id }: HeldLease): string {
  return id.slice(id.indexOf(" ") + 1);
}

function free(tx: Transaction, name: string, token: number): void {
  const before = readLock(tx, name);
  if (before.holders.some((holding) => holding.token === token)) writeLock(tx, before, giveBack(before, token));
}

/** What a call was granted and nobody received; another call of the same agent may have been answered with it meanwhile. */
function freeUnlessAskedAgain(tx: Transaction, name: string, token: number): void {
  const { holders } = readLock(tx, name);
  if (!holders.some((holding) => holding.token === token && holding.askedAgain)) free(tx, name, token);
}

/** The caller's holding, by its token, or else the one through this process. */
function checkOwn(stored: LockRecord, asker: Asker, fencingToken: number | undefined, now: number): Holding {
  const own =
    fencingToken === undefined
      ? ownHolding(stored, asker)
      : stored.holders.find(({ token, agentId }) => token === fencingToken && agentId === asker.agentId);
  if (own && own.leaseExpiresAt > now) return own;
  if (own && extend(stored, own.token, { now, leaseExpiresAt: now })) return own;
  throw notHeld(stored, asker, now);
}

function notHeld(stored: LockRecord, { agentId }: Asker, now: number): SwarmError {
  const lock = livingLock(stored, now);
  const elsewhere = lock.holders.find((holding) => holding.agentId === agentId);
  const others = lock.holders.length === 0 ? "nobody holds it" : `${holdersOf(lock)}`;
  return new SwarmError("failed_precondition", `This holding of lock ${lock.name} is not yours, or over: ${others}.`, {
    hint: elsewhere
      ? "You hold it by another token, or through another process: give the fencingToken of that holding."
      : "acquire_lock gives you a new one, with a token of its own; look at what changed meanwhile.",
  });
}

function whyBusy(lock: LockRecord, { agentId }: Asker): string {
  const { name, holders, waiters } = lock;
  const line = waiters.length === 0 ? "" : `; ${waiters.length} in line`;
  if (holders.length === 0) {
    return waiters.length === 0
      ? `Lock ${name} was not free, and is now.`
      : `Lock ${name} is kept for the first of ${waiters.length} in line.`;
  }
  const own = holders.some((holding) => holding.agentId === agentId) ? " (you, through another process)" : "";
  return `Lock ${name}: ${holdersOf(lock)}${own}${line}.`;
}

function holdersOf({ holders }: LockRecord): string {
  const [first] = holders;
  if (!first) return "nobody holds it";
  const more = holders.length === 1 ? "" : ` and ${holders.length - 1} more`;
  const until = new Date(first.leaseExpiresAt).toISOString();
  return `${first.agentId}${more} ${holders.length === 1 ? "holds" : "hold"} it ${first.mode} until ${until}, or longer if renewed`;
}

function heldLock(name: string, holding: Holding): HeldLock {
  return { name, mode: holding.mode, ...holdingView(holding) };
}

function holdingView({ agentId, token, acquiredAt, leaseExpiresAt, endsAt }: Holding): Omit<HeldLock, "name" | "mode"> {
  return { agentId, fencingToken: token, acquiredAt, leaseExpiresAt, endsAt };
}

function listed({ name, holders, waiters }: LockRecord): ListedLock {
  const [first] = holders;
  return {
    name,
    ...(first ? { mode: first.mode } : {}),
    holders: holders.slice(0, NAMED_MAX).map(holdingView),
    held: holders.length,
    waiting: waiters.length,
    next: waiters.slice(0, NAMED_MAX).map(({ agentId }) => agentId),
  };
}
