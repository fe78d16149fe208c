/**
 * A lock as a record, and what may happen to it. All here is pure: from a record, a time and a request to another record.
 *
 * Fair: requests are granted in the order in which they came. An exclusive one waits for all holders and all who came before
 * it; a shared one for an exclusive holder and for exclusive ones that came before it, so that shared ones that follow each
 * other are granted together and never overtake an exclusive one.
 */
import { SwarmError } from "@mcp-swarm/core";

export const LOCK_MODES = ["exclusive", "shared"] as const;
export type LockMode = (typeof LOCK_MODES)[number];

/** Most agents that share one lock, and most calls that wait for one. */
export const HOLDERS_MAX = 200;
export const WAITERS_MAX = 200;

/** How long one holding may last, in ms; the default is enough for a build. */
export const LOCK_MS_MIN = 1_000;
export const LOCK_MS_DEFAULT = 600_000;
export const LOCK_MS_MAX = 24 * 3_600_000;

/** Plain in keys, in errors and in ids: what a label is. */
export const LOCK_NAME = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$/;

export type Holding = {
  readonly agentId: string;
  readonly mode: LockMode;
  /** The fencing token: greater than that of every holding of this lock that began before. */
  readonly token: number;
  /** The process that renews the lease; absent for callers that renew by themselves. */
  readonly processId?: string;
  readonly acquiredAt: number;
  /** How long the holding may last from its beginning, or from its last `renew_lock`. */
  readonly ttlMs: number;
  /** No renewal by a process leads past this. */
  readonly endsAt: number;
  readonly leaseExpiresAt: number;
  /** A later call was answered with this holding: a call that is given up after it does not give it back. */
  readonly askedAgain?: true;
};

export type Waiter = {
  readonly ticket: number;
  readonly agentId: string;
  readonly mode: LockMode;
  /** Who does not say by then that it still waits is gone. */
  readonly until: number;
};

export type LockRecord = {
  readonly name: string;
  /** The last fencing token and the last ticket given out. */
  readonly token: number;
  readonly ticket: number;
  readonly holders: readonly Holding[];
  /** In the order in which they came. */
  readonly waiters: readonly Waiter[];
};

/** Who asks: the agent, and the process that it lives in. */
export interface Asker {
  readonly agentId: string;
  readonly processId: string | undefined;
}

export interface LockRequest extends Asker {
  readonly mode: LockMode;
  readonly ttlMs: number;
  /** How long the lease lasts without renewal. */
  readonly leaseMs: number;
  /** Of who stands in line. */
  readonly ticket?: number | undefined;
}

export function freshLock(name: string): LockRecord {
  return { name, token: 0, ticket: 0, holders: [], waiters: [] };
}

/** Without holdings whose lease ran out, and without waiters that are gone. */
export function livingLock(lock: LockRecord, now: number): LockRecord {
  const holders = lock.holders.filter(({ leaseExpiresAt }) => leaseExpiresAt > now);
  const waiters = lock.waiters.filter(({ until }) => until > now);
  const same = holders.length === lock.holders.length && waiters.length === lock.waiters.length;
  return same ? lock : { ...lock, holders, waiters };
}

export function isIdle({ holders, waiters }: LockRecord): boolean {
  return holders.length === 0 && waiters.length === 0;
}

/** The agent's holding through the process that it asks by: to ask again by the same way is not to ask for another one. */
export function ownHolding({ holders }: LockRecord, { agentId, processId }: Asker): Holding | undefined {
  return holders.find((holding) => holding.agentId === agentId && holding.processId === processId);
}

/** Of a living lock: whether who stands at `ticket`, or comes now, may have it. */
export function isFree(lock: LockRecord, mode: LockMode, ticket?: number): boolean {
  const at = ticket === undefined ? -1 : lock.waiters.findIndex((waiter) => waiter.ticket === ticket);
  const before = at < 0 ? lock.waiters : lock.waiters.slice(0, at);
  if (mode === "exclusive") return lock.holders.length === 0 && before.length === 0;
  const exclusive = (one: { mode: LockMode }) => one.mode === "exclusive";
  return !lock.holders.some(exclusive) && !before.some(exclusive) && lock.holders.length < HOLDERS_MAX;
}

export type Grant = {
  readonly lock: LockRecord;
  readonly holding: Holding;
  /** It was held before: nothing changed, but that it was asked for again. */
  readonly already: boolean;
};

/**
 * The lock as it is when the request is granted; undefined when it must wait. An agent that holds the lock gets what it has; one
 * that shares it alone may turn its holding into an exclusive one, with a token of its own.
 * @throws SwarmError failed_precondition when others share what the agent wants for itself: two that did would wait for ever
 */
export function grant(stored: LockRecord, request: LockRequest, now: number): Grant | undefined {
  const lock = livingLock(stored, now);
  const own = ownHolding(lock, request);
  if (own && (own.mode === request.mode || own.mode === "exclusive")) {
    const holding: Holding = { ...own, askedAgain: true };
    const left = leave(stored, request.ticket);
    if (own.askedAgain) return { lock: left, holding, already: true };
    const holders = stored.holders.map((one) => (one === own ? holding : one));
    return { lock: { ...left, holders }, holding, already: true };
  }
  if (own && lock.holders.length > 1) throw sharedWithOthers(lock);
  if (!own && !isFree(lock, request.mode, request.ticket)) return undefined;
  const { agentId, mode, processId, ttlMs, leaseMs } = request;
  const endsAt = now + ttlMs;
  const holding: Holding = {
    agentId,
    mode,
    token: lock.token + 1,
    ...(processId === undefined ? {} : { processId }),
    acquiredAt: now,
    ttlMs,
    endsAt,
    leaseExpiresAt: Math.min(now + leaseMs, endsAt),
  };
  const others = lock.holders.filter((one) => one !== own);
  const granted = { ...leave(lock, request.ticket), token: holding.token, holders: [...others, holding] };
  return { lock: granted, holding, already: false };
}

/**
 * In line, at the end when new there; who stands there keeps its place and waits until `until`.
 * @throws SwarmError limit_exceeded
 */
export function standInLine(
  stored: LockRecord,
  { agentId, mode, ticket }: Pick<LockRequest, "agentId" | "mode" | "ticket">,
  { now, until }: { now: number; until: number },
): { lock: LockRecord; ticket: number } {
  // one's own place counts however late one says so, as long as nobody has cleared it away
  const standing = stored.waiters.find((waiter) => waiter.ticket === ticket);
  const kept = standing ? stored.waiters.map((waiter) => (waiter === standing ? { ...waiter, until } : waiter)) : stored.waiters;
  const lock = livingLock({ ...stored, waiters: kept }, now);
  if (standing) return { lock, ticket: standing.ticket };
  if (lock.waiters.length >= WAITERS_MAX) {
    throw new SwarmError("limit_exceeded", `${WAITERS_MAX} calls wait for lock ${lock.name} already.`, {
      hint: "Do other work first, or use a lock for a smaller part.",
      retryable: true,
    });
  }
  const next = lock.ticket + 1;
  return { lock: { ...lock, ticket: next, waiters: [...lock.waiters, { ticket: next, agentId, mode, until }] }, ticket: next };
}

export function leave(lock: LockRecord, ticket: number | undefined): LockRecord {
  const waiters = lock.waiters.filter((waiter) => waiter.ticket !== ticket);
  return waiters.length === lock.waiters.length ? lock : { ...lock, waiters };
}

/**
 * The holding of this token with its lease moved to `leaseExpiresAt`, at most to its end. A lease that ran out unnoticed is the
 * holder's still, until its ttlMs is up, while nobody took the lock or waits for it. Undefined when it is over.
 */
export function extend(
  stored: LockRecord,
  token: number,
  { now, leaseExpiresAt, ttlMs }: { now: number; leaseExpiresAt: number; ttlMs?: number },
): { lock: LockRecord; holding: Holding } | undefined {
  const held = stored.holders.find((holding) => holding.token === token);
  if (!held || held.endsAt <= now) return undefined;
  if (held.leaseExpiresAt <= now && livingLock(stored, now).waiters.length > 0) return undefined;
  const endsAt = ttlMs === undefined ? held.endsAt : now + ttlMs;
  const holding = { ...held, ttlMs: ttlMs ?? held.ttlMs, endsAt, leaseExpiresAt: Math.min(leaseExpiresAt, endsAt) };
  const holders = stored.holders.map((one) => (one === held ? holding : one));
  return { lock: { ...stored, holders }, holding };
}

export function giveBack(stored: LockRecord, token: number): LockRecord {
  return { ...stored, holders: stored.holders.filter((holding) => holding.token !== token) };
}

/** When something may change for who waits at `ticket` without anybody's doing: a lease or a place in line runs out. */
export function nextEnd({ holders, waiters }: LockRecord, ticket: number): number {
  const before = waiters.filter((waiter) => waiter.ticket < ticket);
  return Math.min(...holders.map(({ leaseExpiresAt }) => leaseExpiresAt), ...before.map(({ until }) => until));
}

function sharedWithOthers({ name, holders }: LockRecord): SwarmError {
  return new SwarmError(
    "failed_precondition",
    `You share lock ${name} with ${holders.length - 1} more, and want it for yourself.`,
    {
      hint: "Release it and acquire it exclusive: two that both waited for the other's share would wait for ever.",
    },
  );
}

/** @throws SwarmError invalid_argument */
export function checkLockName(name: string): string {
  if (LOCK_NAME.test(name) && !name.startsWith(LEADER_LOCK)) return name;
  throw new SwarmError("invalid_argument", "Field name: not a lock's name.", {
    hint: `Use up to 64 letters, digits and . _ : / -, and begin with a letter or digit; names that begin with ${LEADER_LOCK} are those of leaders.`,
  });
}

/** What a write names that a leader's term fences: `leader:<group>`. */
export const LEADER_LOCK = "leader:";
