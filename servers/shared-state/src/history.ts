/** Earlier revisions of a key. */
import { type Json, SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import { keys, readHead, readValue, revisionOf } from "./state-layer.ts";
import { type Head, HISTORY_MAX, isLive, isLong, type Place, placeName, type Revision } from "./state-record.ts";

/** Looks at a key, at most, while others write it faster than it can be read. */
const LOOKS_MAX = 8;

type Reader = Pick<Store, "get" | "getMany" | "now">;

export interface Found {
  readonly revision: Revision;
  readonly value: Json;
}

/**
 * The value of a key now, read from the store.
 * @returns undefined when it has none
 */
export async function readNow(store: Reader, place: Place): Promise<Found | undefined> {
  return await settled(place, async () => {
    const head = (await store.get(keys.live(place)))?.value as Head | undefined;
    if (!head) return { found: undefined };
    if (head.expiresAt !== undefined && !isLive(head, await store.now())) return { found: undefined };
    return await withValue(store, place, head);
  });
}

/**
 * The value of a key as of a revision of its space.
 * @throws SwarmError invalid_argument for a revision to come, not_found when it had no value then, failed_precondition when
 *   that is no longer kept
 */
export async function readAt(store: Reader, place: Place, atRev: number): Promise<Found> {
  const found = await settled(place, async () => {
    const [counter, live, gone] = await store.getMany([keys.revision(place.space), keys.live(place), keys.gone(place)]);
    const head = (live ?? gone)?.value as Head | undefined;
    const rev = revisionFor(place, head, atRev, revisionOf(counter));
    if (rev === undefined || !head) return { found: undefined };
    if (rev === head.rev) return await withValue(store, place, head);
    const row = await store.get(keys.past(place, rev));
    return row && (await withValue(store, place, row.value as Revision)); // without the row it fell out of the history meanwhile
  });
  if (!found) throw valueless(place, atRev);
  return found;
}

/** `readAt` within a transaction. @throws SwarmError as `readAt` does */
export function readAtIn(tx: Pick<Transaction, "get">, place: Place, atRev: number): Found {
  const head = readHead(tx, place);
  const rev = revisionFor(place, head, atRev, revisionOf(tx.get(keys.revision(place.space))));
  const revision = rev === head?.rev ? head : rev === undefined ? undefined : (tx.get(keys.past(place, rev))?.value as Revision);
  if (revision?.op !== "set") throw valueless(place, atRev);
  return { revision, value: readValue(tx, place, revision) };
}

/**
 * Which of a key's revisions was the newest at a revision of its space; undefined when it did not exist yet.
 * @throws SwarmError invalid_argument for a revision to come, failed_precondition when it is no longer kept
 */
function revisionFor(place: Place, head: Head | undefined, atRev: number, revision: number): number | undefined {
  if (atRev > revision) {
    throw new SwarmError("invalid_argument", `No revision ${atRev}: the newest is ${revision}.`, {
      hint: "Revisions count the writes of one scope: take one from an answer about the same scope.",
    });
  }
  if (!head || head.rev <= atRev) return head?.rev;
  const rev = head.past.findLast((one) => one <= atRev);
  if (rev !== undefined || head.droppedRev === undefined) return rev;
  throw new SwarmError("failed_precondition", `${placeName(place)}: revision ${atRev} is no longer kept.`, {
    hint: `The last ${HISTORY_MAX} revisions before the current one are: the oldest kept is ${head.past[0]}.`,
  });
}

export interface History {
  /** The newest first. */
  readonly revisions: readonly Revision[];
  /** Whether there were earlier ones, which are no longer kept. */
  readonly olderDropped: boolean;
}

/** The revisions of a key that are kept, the current one included. @throws SwarmError not_found when there is none */
export async function readHistory(store: Reader, place: Place): Promise<History> {
  const [live, gone] = await store.getMany([keys.live(place), keys.gone(place)]);
  const head = (live ?? gone)?.value as Head | undefined;
  if (!head) throw noValue(place);
  const rows = head.past.length === 0 ? [] : await store.getMany(head.past.map((rev) => keys.past(place, rev)));
  const earlier = rows.flatMap((row) => (row ? [row.value as Revision] : []));
  return {
    revisions: [head, ...earlier.reverse()],
    olderDropped: head.droppedRev !== undefined || earlier.length < head.past.length,
  };
}

/** Looks again for as long as what it needs vanishes between two reads: that takes more writes than the history is long. */
async function settled<T>(place: Place, look: () => Promise<{ found: T } | undefined>): Promise<T> {
  for (let looks = 0; looks < LOOKS_MAX; looks++) {
    const seen = await look();
    if (seen) return seen.found;
  }
  throw new SwarmError("unavailable", `${placeName(place)} is written faster than it can be read.`, { hint: "Try again." });
}

async function withValue(store: Reader, place: Place, revision: Revision): Promise<{ found: Found | undefined } | undefined> {
  if (revision.op !== "set") return { found: undefined };
  if (!isLong(revision)) return { found: { revision, value: revision.value ?? null } };
  const row = await store.get(keys.long(place, revision.rev));
  return row && { found: { revision, value: row.value } };
}

export function noValue(place: Place): SwarmError {
  return new SwarmError("not_found", `${placeName(place)} has no value.`, {
    hint: "list_state shows what there is; set_state with ifRev 0 creates it.",
  });
}

function valueless(place: Place, atRev: number): SwarmError {
  return new SwarmError("not_found", `${placeName(place)} had no value at revision ${atRev}.`, {
    hint: "get_state_history lists the revisions of a key. What was deleted long ago has none left.",
  });
}
