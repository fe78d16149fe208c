/**
 * Values as ordered keys. The semantics are etcd's: a space has one counter of revisions; each commit that changes the space
 * takes the next one, for all that it changes there, and an entry's revision is that of its last write.
 *
 * | key | value | why |
 * |---|---|---|
 * | `state-rev/<space>` | number | the space's revision: the last one given out |
 * | `state/<space>/<key>` | Head | a key that has a value; lists are ranges of these, in order of their text |
 * | `state-gone/<space>/<key>` | Head | a deleted key whose history is still kept; apart, so that no list looks at it |
 * | `state-hist/<space>/<key>!<rev>` | Revision | an earlier revision |
 * | `state-long/<space>/<key>!<rev>` | any JSON | the value of a revision when it is long: written once, however often its record moves |
 * | `state-log/<space>/<rev>` | LoggedRevision | what each revision changed, for those who wait for changes |
 * | `state-policy/<space>` | Policies | how conflicts end, per key or prefix |
 * | `state-expiry/<at>/<place>` | DueIndex | values that end by themselves |
 * | `state-purge/<at>/<place>` | DueIndex | deleted keys whose history shall go |
 *
 * `<space>` is `g`, or `a.`, `s.`, `w.` and the owner's id; `<key>` stands as it is: its characters are all greater than "!", so
 * no key's history lies within another's. The longest of these keys has exactly the 255 bytes that a store takes.
 *
 * A write touches a number of rows that depends on nothing: the revision that falls out of a key's history and the row that
 * falls out of the space's log are deleted in the same commit.
 */
import { DueIndex } from "@mcp-swarm/coordination";
import { assert, type Json } from "@mcp-swarm/core";
import { fromOrdered, type KeyRange, ordered, segment, type Transaction } from "@mcp-swarm/store";
import {
  type Author,
  type Head,
  HISTORY_MAX,
  INLINE_BYTES_MAX,
  isExpired,
  isLive,
  isLong,
  LOG_REVISIONS_MAX,
  type LoggedRevision,
  type Place,
  type Revision,
  type Space,
} from "./state-record.ts";

const SPACE_LETTER = { agent: "a", session: "s", workflow: "w" } as const;

export function spaceSegment({ scope, scopeId }: Space): string {
  if (scope === "global") return "g";
  assert(scopeId !== undefined, "a scope other than global has an owner");
  return `${SPACE_LETTER[scope]}.${segment(scopeId)}`;
}

export const keys = {
  revision: (space: Space) => `state-rev/${spaceSegment(space)}`,
  policies: (space: Space) => `state-policy/${spaceSegment(space)}`,
  live: ({ space, key }: Place) => `state/${spaceSegment(space)}/${key}`,
  gone: ({ space, key }: Place) => `state-gone/${spaceSegment(space)}/${key}`,
  past: ({ space, key }: Place, rev: number) => `state-hist/${spaceSegment(space)}/${key}!${ordered(rev)}`,
  long: ({ space, key }: Place, rev: number) => `state-long/${spaceSegment(space)}/${key}!${ordered(rev)}`,
  log: (space: Space, rev: number) => `${keys.logPrefix(space)}${ordered(rev)}`,
  logPrefix: (space: Space) => `state-log/${spaceSegment(space)}/`,
} as const;

export const expiries = new DueIndex("state-expiry/");
export const purges = new DueIndex("state-purge/");

/** A place as the id of a due time. No part of it holds a space. */
export function placeId({ space, key }: Place): string {
  return `${space.scope} ${space.scopeId ?? ""} ${key}`;
}

export function placeOfId(id: string): Place {
  const [scope, scopeId, key] = id.split(" ");
  assert(scope !== undefined && scopeId !== undefined && key !== undefined, "the id of a due time names a place");
  return { space: { scope: scope as Space["scope"], ...(scopeId === "" ? {} : { scopeId }) }, key };
}

/** Live rows whose keys begin with `prefix`, behind `after` (a whole store key) when given. */
export function liveRange(space: Space, prefix: string, limit: number, after?: string): KeyRange {
  const from = keys.live({ space, key: prefix });
  return { from: after === undefined ? from : `${after}\0`, before: `${from}\x7f`, limit }; // no key holds a byte that great
}

/** Rows of the log behind revision `after`. */
export function logRange(space: Space, after: number, limit: number): KeyRange {
  return { from: keys.log(space, after + 1), before: `${keys.logPrefix(space)}:`, limit }; // ":" follows the digits
}

export function logRevision(space: Space, key: string): number {
  return fromOrdered(key.slice(keys.logPrefix(space).length));
}

/** What a plan that reads and writes one key will ask for. */
export function placeKeys(place: Place): string[] {
  return [keys.revision(place.space), keys.policies(place.space), keys.live(place), keys.gone(place)];
}

export function revisionOf(row: { value: Json } | undefined): number {
  return (row?.value as number | undefined) ?? 0;
}

type Reader = Pick<Transaction, "get" | "now">;

/** The newest revision of a key, whether it has a value or was deleted. */
export function readHead(tx: Pick<Transaction, "get">, place: Place): Head | undefined {
  return (tx.get(keys.live(place)) ?? tx.get(keys.gone(place)))?.value as Head | undefined;
}

/** The head of a key that has a value now. */
export function readLive(tx: Reader, place: Place): Head | undefined {
  const head = tx.get(keys.live(place))?.value as Head | undefined;
  return head && isLive(head, tx.now) ? head : undefined;
}

/** The value of a revision that is kept. */
export function readValue(tx: Pick<Transaction, "get">, place: Place, revision: Revision): Json {
  if (!isLong(revision)) return revision.value ?? null;
  const row = tx.get(keys.long(place, revision.rev));
  assert(row !== undefined, "a long value has its row for as long as its revision is kept");
  return row.value;
}

export interface NewValue {
  readonly value: Json;
  /** Bytes of its JSON. */
  readonly size: number;
  readonly expiresAt?: number | undefined;
}

interface Staged {
  readonly place: Place;
  readonly head: Head | undefined;
  /** Undefined deletes. */
  readonly next: NewValue | undefined;
}

/**
 * The writes of one transaction. They are collected and written by `finish`, because all of a space share one revision. A
 * value that is over but still stands there ends first, at a revision of its own, as if the background had come in time.
 */
export class StateWriting {
  readonly #tx: Transaction;
  readonly #author: Author;
  readonly #keepDeletedMs: number;
  readonly #staged = new Map<string, Staged>();
  readonly #written = new Map<string, Head>();

  /** @param keepDeletedMs how long the history of a deleted key is kept */
  constructor(tx: Transaction, author: Author, keepDeletedMs: number) {
    this.#tx = tx;
    this.#author = author;
    this.#keepDeletedMs = keepDeletedMs;
  }

  put(place: Place, next: NewValue): void {
    this.#stage(place, next);
  }

  /** Of a key without a value nothing is written. */
  remove(place: Place): void {
    this.#stage(place, undefined);
  }

  #stage(place: Place, next: NewValue | undefined): void {
    const id = placeId(place);
    assert(!this.#staged.has(id), "a transaction writes each key once");
    this.#staged.set(id, { place, head: readHead(this.#tx, place), next });
  }

  /** What a key came to; undefined of one that nothing was written to. After `finish`. */
  head(place: Place): Head | undefined {
    return this.#written.get(placeId(place));
  }

  /** Writes it all, once. */
  finish(): void {
    const spaces = new Map<string, Staged[]>();
    for (const one of this.#staged.values()) {
      const space = spaceSegment(one.place.space);
      const beside = spaces.get(space);
      if (beside) beside.push(one);
      else spaces.set(space, [one]);
    }
    for (const staged of spaces.values()) if (staged[0]) this.#writeSpace(staged[0].place.space, staged);
  }

  #writeSpace(space: Space, staged: readonly Staged[]): void {
    const tx = this.#tx;
    const before = revisionOf(tx.get(keys.revision(space)));
    let rev = before;
    const settled = new Map<string, Head>();
    for (const { place, head } of staged) {
      if (!head || !isExpired(head, tx.now)) continue;
      rev += 1;
      const author = { by: head.by, verified: head.verified };
      settled.set(place.key, this.#replace(place, head, this.#tombstone("expire", rev, author)));
      this.#log(space, rev, [{ key: place.key, op: "expire", prevRev: head.rev }], author);
    }
    const writes = staged.filter(({ place, head, next }) => next !== undefined || (settled.get(place.key) ?? head)?.op === "set");
    if (writes.length > 0) {
      rev += 1;
      const changes = writes.map(({ place, head, next }) => {
        const previous = settled.get(place.key) ?? head;
        const made = next ? this.#value(place, previous, next, rev) : this.#tombstone("delete", rev, this.#author);
        this.#written.set(placeId(place), this.#replace(place, previous, made));
        return { key: place.key, op: made.op, ...prevOf(previous) };
      });
      this.#log(space, rev, changes, this.#author);
    }
    if (rev > before) tx.put(keys.revision(space), rev);
  }

  #value(place: Place, previous: Head | undefined, { value, size, expiresAt }: NewValue, rev: number): Revision {
    const goesOn = previous?.op === "set";
    const revision: Revision = {
      op: "set",
      rev,
      createdRev: goesOn ? previous.createdRev : rev,
      version: goesOn ? previous.version + 1 : 1,
      ...this.#author,
      at: this.#tx.now,
      size,
      ...(expiresAt === undefined ? {} : { expiresAt }),
    };
    if (size <= INLINE_BYTES_MAX) return { ...revision, value };
    this.#tx.put(keys.long(place, rev), value);
    return revision;
  }

  #tombstone(op: "delete" | "expire", rev: number, author: Author): Revision {
    return { op, rev, createdRev: 0, version: 0, ...author, at: this.#tx.now, size: 0 };
  }

  /** Moves the newest revision into the history and puts another in its place. */
  #replace(place: Place, previous: Head | undefined, next: Revision): Head {
    const tx = this.#tx;
    let droppedRev = previous?.droppedRev;
    let past: number[] = [];
    if (previous) {
      const { key: _, refs: __, past: earlier, droppedRev: ___, purgeAt, ...revision } = previous;
      tx.put(keys.past(place, previous.rev), revision);
      past = [...earlier, previous.rev];
      for (const rev of past.splice(0, Math.max(0, past.length - HISTORY_MAX))) {
        forgetRevision(tx, place, rev);
        droppedRev = rev;
      }
      if (previous.expiresAt !== undefined) expiries.remove(tx, previous.expiresAt, placeId(place));
      if (purgeAt !== undefined) purges.remove(tx, purgeAt, placeId(place));
      if ((previous.op === "set") !== (next.op === "set")) tx.delete(previous.op === "set" ? keys.live(place) : keys.gone(place));
    }
    const head: Head = {
      key: place.key,
      ...(isLong(next) ? { refs: [keys.long(place, next.rev)] } : {}),
      ...next,
      past,
      ...(droppedRev === undefined ? {} : { droppedRev }),
      ...(next.op === "set" ? {} : { purgeAt: tx.now + this.#keepDeletedMs }),
    };
    if (next.op === "set") {
      tx.put(keys.live(place), head);
      if (next.expiresAt !== undefined) expiries.put(tx, next.expiresAt, placeId(place));
    } else {
      tx.put(keys.gone(place), head);
      purges.put(tx, tx.now + this.#keepDeletedMs, placeId(place));
    }
    return head;
  }

  #log(space: Space, rev: number, changes: LoggedRevision["changes"], author: Author): void {
    const row: LoggedRevision = { ...author, at: this.#tx.now, changes };
    this.#tx.put(keys.log(space, rev), row);
    if (rev > LOG_REVISIONS_MAX) this.#tx.delete(keys.log(space, rev - LOG_REVISIONS_MAX));
  }
}

/** An earlier revision goes; whether its value had a row of its own is not worth a read. */
export function forgetRevision(tx: Transaction, place: Place, rev: number): void {
  tx.delete(keys.past(place, rev));
  tx.delete(keys.long(place, rev));
}

function prevOf(head: Head | undefined): { prevRev?: number } {
  return head === undefined ? {} : { prevRev: head.rev };
}
