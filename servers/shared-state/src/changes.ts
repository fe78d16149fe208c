/** What changed since a revision, and waiting for it. */
import { type Attempt, waitFor } from "@mcp-swarm/coordination";
import { assert, type Clock, type Json, newId, PAGE_DEFAULT, type Random, SwarmError } from "@mcp-swarm/core";
import type { Call, Caller } from "@mcp-swarm/identity";
import { prefixRange, SCAN_LIMIT_MAX, type Store, segment } from "@mcp-swarm/store";
import { keys, logRange, logRevision, revisionOf } from "./state-layer.ts";
import {
  type Author,
  checkKey,
  checkPrefix,
  type Head,
  isLong,
  LOG_REVISIONS_MAX,
  type LoggedRevision,
  type Place,
  type Revision,
  type Space,
  type SpaceInput,
  type StateOp,
  spaceName,
} from "./state-record.ts";
import type { Scopes } from "./state-scope.ts";

/*
 * | key                    | value        | why                                                                       |
 * |------------------------|--------------|---------------------------------------------------------------------------|
 * | state-sub/<agent>/<id> | Subscription | how far an agent has come with the changes of a key or prefix; ends when    |
 * |                        |              | nothing was acknowledged for SUBSCRIPTION_TTL_MS                            |
 */
const subscriptionsOf = (agentId: string) => `state-sub/${segment(agentId)}/`;

export const SUBSCRIPTIONS_MAX = 100;
export const SUBSCRIPTION_TTL_MS = 30 * 24 * 3_600_000;

/** A value as a change shows it. It is left out when it is long or no longer kept; `get_state` with atRev reads a long one. */
export type ShownValue = { readonly value: Json } | { readonly size: number } | { readonly dropped: true };

export type StateChange = Author & {
  readonly key: string;
  readonly op: StateOp;
  readonly rev: number;
  readonly at: number;
  /** What it is from now on; absent when it was deleted or ended. */
  readonly now?: ShownValue;
  /** What it was before; absent when it had no value. */
  readonly before?: ShownValue;
};

/** How far a reader has come: everything up to `rev`, and so many changes of the revision behind it. */
export type Position = { readonly rev: number; readonly skip: number };

export interface Changes {
  readonly space: Space;
  readonly changes: readonly StateChange[];
  /** The space's newest revision. */
  readonly revision: number;
  /** Where to go on: all up to `next.rev` was shown or is of other keys. */
  readonly next: Position;
  /** Where to go on behind the first `count` of the changes. */
  nextAfter(count: number): Position;
}

/** Which keys: one, or all that begin so; all of the space when neither is given. */
export type Watched = { readonly key?: string | undefined; readonly prefix?: string | undefined };

export type Subscription = Space & {
  readonly key?: string;
  readonly prefix?: string;
  readonly id: string;
  readonly agentId: string;
  /** Changes up to here were acknowledged. */
  readonly rev: number;
  readonly createdAt: number;
  readonly expiresAt: number;
};

/** What callers wait with besides. */
export interface Waiting {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((waitedMs: number) => void) | undefined;
}

export type WaitInput = SpaceInput &
  Watched & {
    readonly subscriptionId?: string | undefined;
    readonly sinceRev?: number | undefined;
    readonly cursor?: string | undefined;
    readonly limit?: number | undefined;
    readonly waitMs?: number | undefined;
  };

/** Pages of the log that one look reads: the whole window. */
const LOG_PAGES_MAX = Math.ceil(LOG_REVISIONS_MAX / SCAN_LIMIT_MAX);

/** Whether policy lets the caller read this; what a subscription is about stands in no call that names it. */
export type MayRead = (caller: Caller, watched: SpaceInput & Watched) => boolean;

export interface ChangeLogOptions {
  readonly scopes: Scopes;
  readonly clock: Clock;
  readonly random: Random;
  /** Absent: everybody may read everything. */
  readonly mayRead?: MayRead | undefined;
}

export class ChangeLog {
  readonly #scopes: Scopes;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #mayRead: MayRead | undefined;

  constructor({ scopes, clock, random, mayRead }: ChangeLogOptions) {
    this.#scopes = scopes;
    this.#clock = clock;
    this.#random = random;
    this.#mayRead = mayRead;
  }

  /**
   * The changes behind a revision, or the next ones once there are any. Without `sinceRev` it looks for what comes from now on,
   * with a subscription for what was not acknowledged.
   * @throws SwarmError failed_precondition when the log does not go back so far; permission_denied for a subscription to what the
   *   caller may not read
   */
  async wait(call: Pick<Call, "store" | "caller">, input: WaitInput, waiting: Waiting = {}): Promise<Changes> {
    const { store, caller } = call;
    const subscription = input.subscriptionId === undefined ? undefined : await this.#find(call, input.subscriptionId);
    if (subscription && (input.key ?? input.prefix ?? input.scope ?? input.scopeId) !== undefined) {
      throw new SwarmError("invalid_argument", "Give either subscriptionId or what to wait for, not both.");
    }
    const space: Space = subscription ? spaceOf(subscription) : this.#scopes.space(caller, input);
    const watched = checkWatched(subscription ?? input);
    const check = () => {
      if (subscription && this.#mayRead?.(caller, { ...this.#scopes.named(caller, space), ...watched }) === false)
        throw mayNotRead();
    };
    check();
    const limit = input.limit ?? PAGE_DEFAULT;
    let from = startOf(input, subscription) ?? { rev: revisionOf(await store.get(keys.revision(space))), skip: 0 };
    let seen: Changes | undefined;
    const look = async (): Promise<Attempt<Changes>> => {
      seen = await read(store, space, watched, from, limit);
      from = seen.next; // what is of other keys is not looked at again
      return seen.changes.length > 0 ? { value: seen } : {};
    };
    const found = await waitFor({
      store,
      clock: this.#clock,
      prefixes: [keys.logPrefix(space)],
      attempt: look,
      waitMs: input.waitMs ?? 0,
      ...waiting,
    });
    check(); // it may have been forbidden meanwhile
    const answer = found ?? seen;
    assert(answer !== undefined, "a wait looks at least once");
    return answer;
  }

  /**
   * What differs when something changed under a key or prefix, for whoever looks again and again: the revision of the last
   * change seen. Changes of other keys are read once and make no difference.
   */
  versions(
    call: Pick<Call, "store" | "caller">,
    input: SpaceInput & Watched,
  ): { prefixes: string[]; version(): Promise<string> } {
    const { store } = call;
    const space = this.#scopes.space(call.caller, input);
    const watched = checkWatched(input);
    let seen: { upTo: number; version: number } | undefined;
    return {
      prefixes: [keys.logPrefix(space)],
      async version() {
        const revision = revisionOf(await store.get(keys.revision(space)));
        seen ??= { upTo: revision, version: revision };
        if (seen.upTo < revision) {
          const changed = await lastChange(store, space, watched, seen.upTo, revision);
          seen = { upTo: revision, version: changed ?? seen.version };
        }
        return String(seen.version);
      },
    };
  }

  /**
   * Changes of a key or prefix, behind `fromRev` (now when absent), for an agent that reads them at its own pace.
   * @throws SwarmError limit_exceeded, invalid_argument
   */
  async subscribe(
    call: Call,
    input: SpaceInput & Watched & { fromRev?: number | undefined },
  ): Promise<{ subscription: Subscription }> {
    const { caller } = call;
    const space = this.#scopes.space(caller, input);
    const watched = checkWatched(input);
    const id = newId("sub", this.#random);
    const prefix = subscriptionsOf(caller.agentId);
    return await call.transact(
      (tx) => {
        if (tx.scan(prefixRange(prefix, SUBSCRIPTIONS_MAX)).length >= SUBSCRIPTIONS_MAX) {
          throw new SwarmError("limit_exceeded", `An agent has at most ${SUBSCRIPTIONS_MAX} subscriptions.`, {
            hint: "Unsubscribe from one, or use a prefix for several keys.",
          });
        }
        const revision = revisionOf(tx.get(keys.revision(space)));
        const subscription: Subscription = {
          id,
          agentId: caller.agentId,
          ...space,
          ...watched,
          rev: checkRevision(input.fromRev ?? revision, revision, "fromRev"),
          createdAt: tx.now,
          expiresAt: tx.now + SUBSCRIPTION_TTL_MS,
        };
        tx.put(prefix + id, subscription, { ttlMs: SUBSCRIPTION_TTL_MS });
        return { subscription };
      },
      { prefetch: { keys: [keys.revision(space)], ranges: [prefixRange(prefix, SUBSCRIPTIONS_MAX)] } },
    );
  }

  /**
   * What was read up to `rev` needs not come again.
   * @throws SwarmError not_found, invalid_argument
   */
  async acknowledge(call: Call, input: { subscriptionId: string; rev: number }): Promise<{ subscription: Subscription }> {
    const key = subscriptionsOf(call.caller.agentId) + segment(input.subscriptionId);
    return await call.transact((tx) => {
      const before = tx.get(key)?.value as Subscription | undefined;
      if (!before) throw noSubscription();
      const revision = revisionOf(tx.get(keys.revision(spaceOf(before))));
      const rev = Math.max(before.rev, checkRevision(input.rev, revision, "rev"));
      const subscription = { ...before, rev, expiresAt: tx.now + SUBSCRIPTION_TTL_MS };
      tx.put(key, subscription, { ttlMs: SUBSCRIPTION_TTL_MS });
      return { subscription };
    });
  }

  /** @throws SwarmError not_found */
  async unsubscribe(call: Call, input: { subscriptionId: string }): Promise<{ subscription: Subscription }> {
    const key = subscriptionsOf(call.caller.agentId) + segment(input.subscriptionId);
    return await call.transact((tx) => {
      const subscription = tx.get(key)?.value as Subscription | undefined;
      if (!subscription) throw noSubscription();
      tx.delete(key);
      return { subscription };
    });
  }

  async #find({ store, caller }: Pick<Call, "store" | "caller">, id: string): Promise<Subscription> {
    const row = await store.get(subscriptionsOf(caller.agentId) + segment(id));
    if (!row) throw noSubscription();
    return row.value as Subscription;
  }
}

function mayNotRead(): SwarmError {
  return new SwarmError("permission_denied", "No policy permits you to read what this subscription is about.", {
    hint: "Unsubscribe, or ask for a policy that permits state:read on it.",
  });
}

function spaceOf({ scope, scopeId }: Space): Space {
  return scopeId === undefined ? { scope } : { scope, scopeId };
}

function checkWatched({ key, prefix }: Watched): { key?: string; prefix?: string } {
  if (key !== undefined && prefix !== undefined) throw new SwarmError("invalid_argument", "Give either key or prefix, not both.");
  if (key !== undefined) return { key: checkKey(key) };
  return prefix === undefined ? {} : { prefix: checkPrefix(prefix) };
}

function checkRevision(rev: number, revision: number, field: string): number {
  if (rev <= revision) return rev;
  throw new SwarmError("invalid_argument", `Field ${field}: the newest revision is ${revision}.`, {
    hint: "Revisions count the writes of one scope: take one from an answer about the same scope.",
  });
}

function noSubscription(): SwarmError {
  return new SwarmError("not_found", "You have no such subscription.", {
    hint: "subscribe_to_state_changes makes one. One that nothing was acknowledged of for 30 days is over.",
  });
}

// ── positions ──

const CURSOR = /^([0-9a-z]{1,11})\.([0-9a-z]{1,3})$/;

/** A position as an opaque text. */
export function positionCursor({ rev, skip }: Position): string {
  return `${rev.toString(36)}.${skip.toString(36)}`;
}

function startOf({ cursor, sinceRev }: WaitInput, subscription: Subscription | undefined): Position | undefined {
  if (cursor === undefined) {
    const rev = sinceRev ?? subscription?.rev;
    return rev === undefined ? undefined : { rev, skip: 0 };
  }
  const [, rev, skip] = CURSOR.exec(cursor) ?? [];
  if (rev === undefined || skip === undefined || sinceRev !== undefined) {
    throw new SwarmError(
      "invalid_argument",
      sinceRev === undefined ? "This cursor is none of wait_for_state." : "Give either cursor or sinceRev.",
      {
        hint: "Pass nextCursor of the answer before, or its nextRev as sinceRev.",
      },
    );
  }
  return { rev: Number.parseInt(rev, 36), skip: Number.parseInt(skip, 36) };
}

// ── reading the log ──

type Reader = Pick<Store, "get" | "getMany" | "scan">;
type Logged = {
  readonly rev: number;
  readonly index: number;
  readonly row: LoggedRevision;
  readonly change: LoggedRevision["changes"][number];
};

/**
 * Up to `limit` changes behind a position. Rows of the log stand without a gap, so a first row that is not the next one means
 * that what was asked for is gone.
 * @throws SwarmError failed_precondition
 */
async function read(store: Reader, space: Space, watched: Watched, from: Position, limit: number): Promise<Changes> {
  const found: Logged[] = [];
  const pageMax = watched.key === undefined && !watched.prefix ? Math.min(SCAN_LIMIT_MAX, limit + 1) : SCAN_LIMIT_MAX;
  let rev = from.rev;
  let full = false;
  let atEnd = false;
  for (let page = 0; page < LOG_PAGES_MAX && !atEnd && !full; page++) {
    const rows = await store.scan(logRange(space, rev, pageMax));
    atEnd = rows.length < pageMax;
    const first = rows[0] && logRevision(space, rows[0].key);
    if (first !== undefined && first !== rev + 1) {
      const revision = revisionOf(await store.get(keys.revision(space)));
      if (rev !== from.rev || watched.key === undefined || !(await unchanged(store, { space, key: watched.key }, from.rev))) {
        throw compacted(space, from.rev, revision);
      }
      rev = revision; // of a key that was not written since, nothing is missing
      break;
    }
    for (const entry of rows) {
      const row = entry.value as LoggedRevision;
      const at = logRevision(space, entry.key);
      const skip = at === from.rev + 1 ? from.skip : 0;
      for (const [index, change] of row.changes.entries()) {
        if (index < skip || !isWatched(watched, change.key)) continue;
        if (found.length === limit) {
          full = true;
          break;
        }
        found.push({ rev: at, index, row, change });
      }
      if (full) break;
      rev = at;
    }
  }
  // whoever read the log to its end knows the newest revision; a commit that comes now is news for the next look
  const newest = atEnd && rev > from.rev && !full ? rev : revisionOf(await store.get(keys.revision(space)));
  checkRevision(from.rev, newest, "sinceRev");
  const changes = await shown(store, space, found);
  /** Behind the change at `count - 1`, and behind whatever follows it when that is all. */
  const nextAfter = (count: number): Position => {
    const last = found[count - 1];
    if (count === found.length && !full) return { rev, skip: 0 };
    if (!last) return from;
    const more = found[count]?.rev === last.rev || (count === found.length && rev < last.rev);
    return more ? { rev: last.rev - 1, skip: last.index + 1 } : { rev: last.rev, skip: 0 };
  };
  return { space, changes, revision: Math.max(newest, rev), next: nextAfter(found.length), nextAfter };
}

/** The revision of the last change behind `after`; when the log does not go back so far, there may have been one. */
async function lastChange(
  store: Reader,
  space: Space,
  watched: Watched,
  after: number,
  upTo: number,
): Promise<number | undefined> {
  let last: number | undefined;
  let rev = after;
  for (let page = 0; page < LOG_PAGES_MAX && rev < upTo; page++) {
    const rows = await store.scan(logRange(space, rev, Math.min(SCAN_LIMIT_MAX, upTo - rev)));
    if (rows[0] === undefined || logRevision(space, rows[0].key) !== rev + 1) return upTo;
    for (const entry of rows) {
      rev = logRevision(space, entry.key);
      if ((entry.value as LoggedRevision).changes.some(({ key }) => isWatched(watched, key))) last = rev;
    }
  }
  return rev < upTo ? upTo : last;
}

function isWatched({ key, prefix }: Watched, of: string): boolean {
  return key === undefined ? of.startsWith(prefix ?? "") : of === key;
}

async function unchanged(store: Reader, place: Place, sinceRev: number): Promise<boolean> {
  const [live, gone] = await store.getMany([keys.live(place), keys.gone(place)]);
  const head = (live ?? gone)?.value as Head | undefined;
  return head !== undefined && head.rev <= sinceRev;
}

function compacted(space: Space, sinceRev: number, revision: number): SwarmError {
  return new SwarmError(
    "failed_precondition",
    `The changes of ${spaceName(space)} since revision ${sinceRev} are no longer kept: the last ${LOG_REVISIONS_MAX} revisions are, and it is at ${revision}.`,
    {
      hint: "Read what there is with list_state, and go on waiting from the revision it answers (for a subscription: acknowledge that revision).",
    },
  );
}

/** Changes with their values, now and before, as far as these are kept and short: two rows for each. */
async function shown(store: Reader, space: Space, found: readonly Logged[]): Promise<StateChange[]> {
  const wanted = new Map<string, Revision | undefined>();
  const want = (key: string) => wanted.set(key, undefined);
  for (const { rev, change } of found) {
    const place = { space, key: change.key };
    want(keys.live(place));
    want(keys.past(place, rev));
    if (change.prevRev !== undefined) want(keys.past(place, change.prevRev));
  }
  const all = [...wanted.keys()];
  for (const [index, row] of (all.length === 0 ? [] : await store.getMany(all)).entries()) {
    if (row) wanted.set(all[index] ?? "", row.value as Revision);
  }
  return found.map(({ rev, row, change: { key, op, prevRev } }): StateChange => {
    const place = { space, key };
    const revisionAt = (at: number) => {
      const live = wanted.get(keys.live(place));
      return live?.rev === at ? live : wanted.get(keys.past(place, at));
    };
    const before = prevRev === undefined ? undefined : revisionAt(prevRev);
    return {
      key,
      op,
      rev,
      by: row.by,
      verified: row.verified,
      at: row.at,
      ...(op === "set" ? { now: shownValue(revisionAt(rev)) } : {}),
      ...(prevRev === undefined || (before && before.op !== "set") ? {} : { before: shownValue(before) }),
    };
  });
}

function shownValue(revision: Revision | undefined): ShownValue {
  if (!revision) return { dropped: true };
  return isLong(revision) ? { size: revision.size } : { value: revision.value ?? null };
}
