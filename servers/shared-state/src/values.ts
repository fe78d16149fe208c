/** Versioned values: read, set, changed in place, deleted, listed; several at once; brought back. */
import { type CursorScope, decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { type Json, PAGE_DEFAULT, SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import type { Transaction } from "@mcp-swarm/store";
import {
  type ConflictMode,
  checkTerms,
  conflict,
  POLICIES_MAX,
  type Policies,
  type Policy,
  policyFor,
  resolve,
  type WriteOutcome,
  type WriteTerms,
} from "./conflict.ts";
import { checkFence, type Fence } from "./fence.ts";
import { type Found, type History, noValue, readAt, readAtIn, readHistory, readNow } from "./history.ts";
import { applyChange, type Change, checkChange, checkedSize, sameJson } from "./patching.ts";
import {
  forgetRevision,
  keys,
  liveRange,
  type NewValue,
  placeId,
  placeKeys,
  readLive,
  readValue,
  revisionOf,
  StateWriting,
} from "./state-layer.ts";
import {
  type Author,
  checkKey,
  checkPrefix,
  entryOf,
  type Head,
  isLive,
  isLong,
  type Place,
  type PlaceInput,
  placeName,
  type Space,
  type SpaceInput,
  type StateEntry,
  spaceName,
  TRANSACT_KEYS_MAX,
} from "./state-record.ts";
import type { Scopes } from "./state-scope.ts";

/** Bytes of JSON up to which the answer to a change repeats the new value. */
const ECHO_BYTES_MAX = 500;

/** A lock that the writer says it holds; both fields or none. */
export type FenceInput = { readonly lock?: string | undefined; readonly fencingToken?: number | undefined };

export type Written = { readonly entry: StateEntry };

export type Check = PlaceInput & {
  readonly ifRev?: number | undefined;
  readonly exists?: boolean | undefined;
  readonly equals?: Json | undefined;
};
export type Write = PlaceInput &
  Change & { readonly value?: Json | undefined; readonly delete?: true | undefined; readonly ttlMs?: number | undefined };

/** A key of a list; its value when it is kept in the key's own record. */
export type ListedEntry = { readonly entry: StateEntry; readonly value?: Json };

export interface Listing {
  readonly entries: readonly ListedEntry[];
  /** The space's before the first page was read: whoever waits for changes since then misses none. */
  readonly revision: number;
  /** All of the space. */
  readonly policies: readonly Policy[];
  readonly nextCursor?: string;
  /** The cursor that goes on behind a key of this page. */
  cursorBehind(key: string): string;
}

export interface ValuesOptions {
  scopes: Scopes;
  /** How long the history of a deleted key is kept, ms. */
  keepDeletedMs: number;
}

export class Values {
  readonly #scopes: Scopes;
  readonly #keepDeletedMs: number;

  constructor({ scopes, keepDeletedMs }: ValuesOptions) {
    this.#scopes = scopes;
    this.#keepDeletedMs = keepDeletedMs;
  }

  /** @throws SwarmError not_found; failed_precondition when the value as of `atRev` is no longer kept */
  async get(
    call: Pick<Call, "store" | "caller">,
    input: PlaceInput & { atRev?: number | undefined },
  ): Promise<{ entry: StateEntry; value: Json }> {
    const place = this.#scopes.place(call.caller, input);
    const found: Found | undefined =
      input.atRev === undefined ? await readNow(call.store, place) : await readAt(call.store, place, input.atRev);
    if (!found) throw noValue(place);
    return { entry: entryOf(place, found.revision), value: found.value };
  }

  /** @throws SwarmError not_found */
  async history(call: Pick<Call, "store" | "caller">, input: PlaceInput): Promise<History & { place: Place }> {
    const place = this.#scopes.place(call.caller, input);
    return { place, ...(await readHistory(call.store, place)) };
  }

  /** Keys that begin with `prefix`, in order. */
  async list(
    call: Pick<Call, "store" | "caller">,
    input: SpaceInput & { prefix?: string | undefined; limit?: number | undefined; cursor?: string | undefined },
  ): Promise<Listing> {
    const { store, caller } = call;
    const space = this.#scopes.space(caller, input);
    const prefix = checkPrefix(input.prefix ?? "");
    const limit = input.limit ?? PAGE_DEFAULT;
    const scope = { list: `state ${prefix}`, prefix: keys.live({ space, key: prefix }) };
    const from = input.cursor === undefined ? undefined : openCursor(scope, input.cursor);
    const [counter, kept] = await store.getMany([keys.revision(space), keys.policies(space)]);
    const revision = from?.revision ?? revisionOf(counter);
    const now = await store.now();
    const rows = await store.scan(liveRange(space, prefix, limit + 1, from?.after));
    const live = rows.filter((row) => isLive(row.value as Head, now));
    const shown = live.slice(0, limit);
    const entries = shown.map(({ value }): ListedEntry => {
      const head = value as Head;
      const entry = entryOf({ space, key: head.key }, head);
      return isLong(head) ? { entry } : { entry, value: head.value ?? null };
    });
    const cursorAt = (key: string) => `${revision.toString(36)}.${encodeCursor(scope, key)}`;
    const last = live.length > limit ? shown.at(-1)?.key : rows.length > limit ? rows.at(-1)?.key : undefined;
    return {
      entries,
      revision,
      policies: [...((kept?.value as Policies | undefined)?.policies ?? [])],
      cursorBehind: (key) => cursorAt(keys.live({ space, key })),
      ...(last === undefined ? {} : { nextCursor: cursorAt(last) }),
    };
  }

  /**
   * Writes a whole value. Without `ttlMs` it stays until it is deleted, whatever its predecessor would have done.
   * @throws SwarmError conflict, failed_precondition (a policy, a fence), limit_exceeded, permission_denied
   */
  async set(
    call: Call,
    input: PlaceInput & WriteTerms & FenceInput & { value: Json; ttlMs?: number | undefined },
  ): Promise<Written & { outcome: WriteOutcome }> {
    const place = this.#scopes.writablePlace(call.caller, input);
    const size = checkedSize(input.value);
    return await this.#decide(call, input, [place], (tx, writing) => {
      const head = readLive(tx, place);
      const current = head && { head, value: () => readValue(tx, place, head) };
      const { value, outcome } = resolve(place, current, input.value, input, policyIn(tx, place));
      const expiresAt = input.ttlMs === undefined ? undefined : tx.now + input.ttlMs;
      writing.put(place, { value, size: outcome === "merged" ? checkedSize(value) : size, expiresAt });
      return () => ({ ...written(writing, place), outcome });
    });
  }

  /**
   * Changes a value in place. It keeps the time at which it ends by itself.
   * @throws SwarmError conflict, failed_precondition (it does not fit what is there; a policy, a fence), limit_exceeded
   */
  async patch(
    call: Call,
    input: PlaceInput & Change & FenceInput & { ifRev?: number | undefined },
  ): Promise<Written & { value?: Json }> {
    const place = this.#scopes.writablePlace(call.caller, input);
    checkChange(input);
    return await this.#decide(call, input, [place], (tx, writing) => {
      const head = readLive(tx, place);
      checkTerms(place, head?.rev ?? 0, input.ifRev, policyIn(tx, place));
      const next = changed(tx, place, head, input);
      writing.put(place, next);
      return () => ({ ...written(writing, place), ...(next.size <= ECHO_BYTES_MAX ? { value: next.value } : {}) });
    });
  }

  /** @throws SwarmError not_found, conflict, failed_precondition (a policy, a fence) */
  async delete(
    call: Call,
    input: PlaceInput & FenceInput & { ifRev?: number | undefined },
  ): Promise<{ deleted: { key: string; rev: number; deletedRev: number } & Space }> {
    const place = this.#scopes.writablePlace(call.caller, input);
    return await this.#decide(call, input, [place], (tx, writing) => {
      const head = readLive(tx, place);
      if (!head && !input.ifRev) throw noValue(place);
      checkTerms(place, head?.rev ?? 0, input.ifRev, policyIn(tx, place));
      writing.remove(place);
      return () => ({
        deleted: { key: place.key, ...place.space, rev: writing.head(place)?.rev ?? 0, deletedRev: head?.rev ?? 0 },
      });
    });
  }

  /**
   * Writes an earlier value as a new revision.
   * @throws SwarmError not_found when there was no value at `rev`, failed_precondition when it is no longer kept; as `set`
   */
  async restore(
    call: Call,
    input: PlaceInput & FenceInput & { rev: number; ifRev?: number | undefined },
  ): Promise<Written & { restoredRev: number }> {
    const place = this.#scopes.writablePlace(call.caller, input);
    return await this.#decide(call, input, [place], (tx, writing) => {
      checkTerms(place, readLive(tx, place)?.rev ?? 0, input.ifRev, policyIn(tx, place));
      const { revision, value } = readAtIn(tx, place, input.rev);
      writing.put(place, { value, size: revision.size });
      return () => ({ ...written(writing, place), restoredRev: revision.rev });
    });
  }

  /**
   * All the writes if all the checks hold, in one commit; else nothing, and the first check that failed is named.
   * @throws SwarmError conflict, invalid_argument (a key written twice, too many keys), and whatever one of the writes throws
   */
  async transact(
    call: Call,
    input: FenceInput & { checks?: readonly Check[] | undefined; writes: readonly Write[] },
  ): Promise<{ entries: (StateEntry | ({ key: string; rev: number; deleted: true } & Space))[] }> {
    const checks = (input.checks ?? []).map((check, index) => {
      const field = `checks[${index}]`;
      const given = [check.ifRev, check.exists, check.equals].filter((one) => one !== undefined).length;
      if (given !== 1) throw badPart(field, `give exactly one of ifRev, exists, equals; ${given} were given`);
      return { ...check, field, place: this.#scopes.place(call.caller, check, `${field}.key`) };
    });
    const writes = input.writes.map((write, index) => {
      const field = `writes[${index}]`;
      const whole = [write.value, write.delete].filter((one) => one !== undefined).length;
      if (whole > 1) throw badPart(field, "give either value or delete");
      if (whole === 0) checkChange(write, (name) => `${field}.${name}`);
      else if (isChange(write)) throw badPart(field, "give one way to write it");
      if (write.ttlMs !== undefined && write.value === undefined) throw badPart(`${field}.ttlMs`, "goes with value only");
      const place = this.#scopes.writablePlace(call.caller, write, `${field}.key`);
      return { ...write, field, place, size: write.value === undefined ? 0 : checkedSize(write.value) };
    });
    const places = new Map([...checks, ...writes].map(({ place }) => [placeId(place), place]));
    if (places.size > TRANSACT_KEYS_MAX) {
      throw new SwarmError(
        "invalid_argument",
        `checks and writes name ${places.size} keys; at most ${TRANSACT_KEYS_MAX} go at once.`,
      );
    }
    const written = new Set<string>();
    for (const { place, field } of writes) {
      if (written.has(placeId(place))) throw badPart(`${field}.key`, "is written twice");
      written.add(placeId(place));
    }
    return await this.#decide(call, input, [...places.values()], (tx, writing) => {
      for (const check of checks) verify(tx, check);
      const checkedRevs = new Set(checks.filter(({ ifRev }) => ifRev !== undefined).map(({ place }) => placeId(place)));
      for (const { place, size, ...write } of writes) {
        const head = readLive(tx, place);
        if (!checkedRevs.has(placeId(place))) checkTerms(place, head?.rev ?? 0, undefined, policyIn(tx, place));
        if (write.delete) writing.remove(place);
        else if (write.value === undefined) writing.put(place, changed(tx, place, head, write));
        else {
          const expiresAt = write.ttlMs === undefined ? undefined : tx.now + write.ttlMs;
          writing.put(place, { value: write.value, size, expiresAt });
        }
      }
      return () => ({
        entries: writes.map(({ place }) => {
          const head = writing.head(place);
          return head?.op === "set"
            ? entryOf(place, head)
            : { key: place.key, ...place.space, rev: head?.rev ?? 0, deleted: true as const };
        }),
      });
    });
  }

  /**
   * Says how conflicts end for a key, or for all keys that begin with a prefix; without `onConflict` the policy goes. Whoever may
   * write the space may set its policies, and each names who did.
   * @throws SwarmError invalid_argument, limit_exceeded, permission_denied
   */
  async setPolicy(
    call: Call,
    input: SpaceInput & { key?: string | undefined; prefix?: string | undefined; onConflict?: ConflictMode | undefined },
  ): Promise<{ policies: Policy[] }> {
    const space = this.#scopes.writable(call.caller, input);
    const { onConflict } = input;
    if ((input.key === undefined) === (input.prefix === undefined)) {
      throw new SwarmError("invalid_argument", "Give either key or prefix.", {
        hint: "An empty prefix means all keys of the scope.",
      });
    }
    const prefix = input.key === undefined;
    const pattern = input.key === undefined ? checkPrefix(input.prefix ?? "") : checkKey(input.key);
    return await call.transact(
      (tx) => {
        const others = policiesIn(tx, space).policies.filter((policy) => policy.pattern !== pattern || policy.prefix !== prefix);
        const policies =
          onConflict === undefined ? others : [...others, { pattern, prefix, onConflict, ...authorOf(call), at: tx.now }];
        if (policies.length > POLICIES_MAX) {
          throw new SwarmError("limit_exceeded", `${spaceName(space)} has ${POLICIES_MAX} policies already.`, {
            hint: "Remove one (leave onConflict out), or use a prefix for several keys.",
          });
        }
        tx.put(keys.policies(space), { policies });
        return { policies };
      },
      { prefetch: { keys: [keys.policies(space)] } },
    );
  }

  /** Ends a value whose time has come; for the background. Pure, as a plan is. */
  end(tx: Transaction, place: Place): void {
    const head = tx.get(keys.live(place))?.value as Head | undefined;
    if (!head || isLive(head, tx.now)) return;
    const writing = new StateWriting(tx, { by: head.by, verified: head.verified }, this.#keepDeletedMs);
    writing.remove(place);
    writing.finish();
  }

  /** Forgets a key that was deleted long enough ago; for the background. Answers whether it did. Pure, as a plan is. */
  purge(tx: Transaction, place: Place): boolean {
    const head = tx.get(keys.gone(place))?.value as Head | undefined;
    if (head?.purgeAt === undefined || Math.min(head.purgeAt, head.at + this.#keepDeletedMs) > tx.now) return false;
    for (const rev of head.past) forgetRevision(tx, place, rev);
    tx.delete(keys.gone(place));
    return true;
  }

  /** The one deciding transaction of a write: the fence first, then what `plan` stages, then the revisions. */
  async #decide<T extends Json>(
    call: Call,
    fence: FenceInput,
    places: readonly Place[],
    plan: (tx: Transaction, writing: StateWriting) => () => T,
  ): Promise<T> {
    const shown = fenceOf(fence);
    return await call.transact(
      (tx) => {
        if (shown) checkFence(tx, shown, call.caller.agentId);
        const writing = new StateWriting(tx, authorOf(call), this.#keepDeletedMs);
        const answer = plan(tx, writing);
        writing.finish();
        return answer();
      },
      { prefetch: { keys: [...new Set(places.flatMap(placeKeys))] } },
    );
  }
}

function authorOf({ caller }: Pick<Call, "caller">): Author {
  return { by: caller.agentId, verified: caller.verified };
}

function fenceOf({ lock, fencingToken }: FenceInput): Fence | undefined {
  if (lock !== undefined && fencingToken !== undefined) return { lock, fencingToken };
  if (lock === undefined && fencingToken === undefined) return undefined;
  throw new SwarmError("invalid_argument", `Field ${lock === undefined ? "lock" : "fencingToken"} is missing.`, {
    hint: "A fenced write names the lock and the fencingToken that acquire_lock answered.",
  });
}

function policiesIn(tx: Pick<Transaction, "get">, space: Space): Policies {
  return (tx.get(keys.policies(space))?.value as Policies | undefined) ?? { policies: [] };
}

function policyIn(tx: Pick<Transaction, "get">, { space, key }: Place): Policy | undefined {
  return policyFor(policiesIn(tx, space), key);
}

function changed(tx: Transaction, place: Place, head: Head | undefined, change: Change): NewValue {
  const value = applyChange(head && readValue(tx, place, head), change);
  return { value, size: checkedSize(value), expiresAt: head?.expiresAt };
}

function isChange({ jsonPatch, mergePatch, increment, append }: Change): boolean {
  return [jsonPatch, mergePatch, increment, append].some((way) => way !== undefined);
}

function verify(tx: Transaction, { place, field, ifRev, exists, equals }: Check & { field: string; place: Place }): void {
  const head = readLive(tx, place);
  const rev = head?.rev ?? 0;
  if (ifRev !== undefined && ifRev !== rev) throw failed(field, `${placeName(place)} is at revision ${rev}, not ${ifRev}`);
  if (exists !== undefined && exists !== (head !== undefined)) {
    throw failed(field, `${placeName(place)} ${head ? `has a value, of revision ${rev}` : "has no value"}`);
  }
  if (equals !== undefined && !(head && sameJson(readValue(tx, place, head), equals))) {
    throw failed(field, `${placeName(place)} ${head ? `has another value, of revision ${rev}` : "has no value"}`);
  }
}

function failed(field: string, why: string): SwarmError {
  return conflict(`${field} failed, so nothing was written: ${why}.`);
}

function badPart(field: string, problem: string): SwarmError {
  return new SwarmError("invalid_argument", `Field ${field}: ${problem}.`, {
    hint: "A check has one condition; a write has value, delete or one change as patch_state takes it.",
  });
}

function written(writing: StateWriting, place: Place): Written {
  const head = writing.head(place);
  if (!head) throw new SwarmError("internal", "A write made no revision");
  return { entry: entryOf(place, head) };
}

/** A page's cursor carries the revision of the first page. */
function openCursor(scope: CursorScope, cursor: string): { revision: number; after: string } {
  const dot = cursor.indexOf(".");
  const revision = Number.parseInt(cursor.slice(0, Math.max(0, dot)), 36);
  const after = decodeCursor(scope, cursor.slice(dot + 1));
  return { revision: Number.isSafeInteger(revision) ? revision : 0, after };
}
