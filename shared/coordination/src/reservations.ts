import { ID_MAX, SwarmError } from "@mcp-swarm/core";
import { type Entry, type KeyRange, prefixRange, SCAN_LIMIT_MAX, segment, type Transaction } from "@mcp-swarm/store";
import { GLOBS_MAX, globMatches, literalBase, type ParsedGlob, parsedOverlap, parseGlob } from "./paths.ts";

/*
 * Advisory leases on files, named by globs. All rows expire with the lease, so what a dead holder had reads as absent.
 *
 * | key                        | value                       | why                                                             |
 * |----------------------------|-----------------------------|-----------------------------------------------------------------|
 * | resv/id/<id>               | Reservation                 | the truth                                                       |
 * | resv/by/<holder>/<id>      | {id, refs}                  | what one agent has                                              |
 * | resv/at/<folder…>/~/<id>/<n> | {glob, id, holder, mode …} | one per glob, under the folders above all it matches: two globs  |
 * |                            |                             | overlap only if one's folder is the other's or lies above it    |
 * | resv/token                 | number                      | the last fencing token given out                                |
 *
 * "~" alone is never a folder: `segment` writes it as ~7e. A folder is cut to what fits a key, which only widens what is read.
 */
const TOKEN_KEY = "resv/token";
const AT = "resv/at/";
const AT_BYTES_MAX = 120;
const AT_DEPTH_MAX = 8;

/**
 * Work of comparing globs in one transaction, which holds others up: the sum of products of lengths. Enough for 16 globs of 30
 * characters against a thousand reservations beneath their folders; with globs made to be slow it is a tenth of a second.
 */
const COMPARING_MAX = 16_000_000;

/** Longest reason, in characters. */
export const REASON_MAX = 500;
export const RESERVATION_MS_MAX = 24 * 60 * 60 * 1000;
/** Conflicts told of at most; the caller needs to know whom to ask, not all. */
export const CONFLICTS_MAX = 20;

/** Exclusive conflicts with any other holder's; shared only with exclusive ones. */
export type ReservationMode = "exclusive" | "shared";

export type Reservation = {
  id: string;
  holder: string;
  /** Normalised, see `normalizeGlobs`. */
  globs: readonly string[];
  mode: ReservationMode;
  reason?: string;
  /** The task whose claim made the reservation, and with which it ends. */
  taskId?: string;
  fencingToken: number;
  reservedAt: number;
  expiresAt: number;
};

export interface ReserveRequest {
  /** Minted outside the plan, or the task's own. A holder that reserves under the same id replaces what it had there. */
  id: string;
  holder: string;
  /** From `normalizeGlobs`. */
  globs: readonly string[];
  mode: ReservationMode;
  /** Ms by the engine's clock. */
  expiresAt: number;
  reason?: string;
  taskId?: string;
  /** A token that already orders the holdings of this id (a task's own). Without it one is drawn that all reservations share. */
  fencingToken?: number;
}

export type ReservationConflict = {
  /** The glob already reserved. */
  glob: string;
  /** The glob, or path, that was asked for. */
  wanted: string;
  holder: string;
  mode: ReservationMode;
  until: number;
  reservationId: string;
  taskId?: string;
};

export type ReserveOutcome = { ok: true; reservation: Reservation } | { ok: false; conflicts: ReservationConflict[] };

type IndexRow = { glob: string; id: string; holder: string; mode: ReservationMode; taskId?: string };

/** A transaction, or anything that scans like one. */
type Scanner = Pick<Transaction, "scan">;

function recordKey(id: string): string {
  return `resv/id/${segment(id)}`;
}

function holderKey(holder: string, id: string): string {
  return `${holderPrefix(holder)}${segment(id)}`;
}

/** Under this lie an agent's reservations, each with `refs` to its record. */
export function holderPrefix(holder: string): string {
  return `resv/by/${segment(holder)}/`;
}

/** All reservations, in order of id. */
export const RESERVATIONS_PREFIX = "resv/id/";

/** Folders above all that a glob matches, as far as they fit a key. */
function folders(glob: string): string[] {
  const fitting: string[] = [];
  let bytes = 0;
  for (const part of literalBase(glob).slice(0, AT_DEPTH_MAX)) {
    const encoded = segment(part);
    bytes += encoded.length + 1;
    if (bytes > AT_BYTES_MAX) break;
    fitting.push(encoded);
  }
  return fitting;
}

function atPrefix(path: readonly string[]): string {
  return AT + path.map((part) => `${part}/`).join("");
}

function indexKeys(id: string, globs: readonly string[]): string[] {
  return globs.map((glob, n) => `${atPrefix(folders(glob))}~/${segment(id)}/${n}`);
}

/** What must be read to know all that overlaps these globs: a prefetch hint, and what `findConflicts` reads. */
export function reservationRanges(globs: readonly string[]): KeyRange[] {
  const exact = new Set<string>();
  const beneath = new Set<string>();
  for (const glob of globs) {
    const path = folders(glob);
    for (let depth = 0; depth < path.length; depth++) exact.add(`${atPrefix(path.slice(0, depth))}~/`);
    beneath.add(atPrefix(path));
  }
  const covered = (prefix: string) => [...beneath].some((other) => other !== prefix && prefix.startsWith(other));
  return [...exact, ...beneath].filter((prefix) => !covered(prefix)).map((prefix) => prefixRange(prefix, SCAN_LIMIT_MAX));
}

/** Another's reservation that `mode` cannot stand beside. */
function stands(row: IndexRow, mine: { mode: ReservationMode; holder?: string | undefined; id?: string | undefined }): boolean {
  if (row.holder === mine.holder || row.id === mine.id) return false;
  return row.mode === "exclusive" || mine.mode === "exclusive";
}

/**
 * Reservations of others that overlap, at most `CONFLICTS_MAX`; without `holder` everyone's. Expired ones are absent.
 * @throws SwarmError limit_exceeded when more lie beneath a glob's folder than one transaction reads and compares
 */
export function findConflicts(
  tx: Scanner,
  wanted: { globs: readonly string[]; mode: ReservationMode; holder?: string; id?: string },
): ReservationConflict[] {
  const parsed = wanted.globs.map((glob) => ({ glob, parsed: parseGlob(glob) }));
  const length = wanted.globs.join("").length;
  let compared = 0;
  const conflicts: ReservationConflict[] = [];
  for (const range of reservationRanges(wanted.globs)) {
    const rows = tx.scan(range);
    for (const entry of rows) {
      if (conflicts.length >= CONFLICTS_MAX) return conflicts;
      const row = entry.value as IndexRow;
      if (!stands(row, wanted)) continue;
      compared += length * row.glob.length;
      if (compared > COMPARING_MAX) throw tooWide();
      const other = parseGlob(row.glob);
      const hit = parsed.find((mine) => parsedOverlap(mine.parsed, other));
      if (hit) conflicts.push(conflictOf(entry, row, hit.glob));
    }
    if (rows.length >= range.limit && conflicts.length === 0) throw tooWide();
  }
  return conflicts;
}

/**
 * Who holds each path, by paths as `normalizePath` answers them; paths nobody holds have none.
 * @throws SwarmError limit_exceeded as `findConflicts`
 */
export function holdersOf(tx: Scanner, paths: readonly string[]): Map<string, ReservationConflict[]> {
  const length = paths.join("").length;
  let compared = 0;
  const found = new Map<string, ReservationConflict[]>(paths.map((path) => [path, []]));
  // a bracket or star in a path's name cuts the folder short, which only widens what is read
  for (const range of reservationRanges(paths)) {
    const rows = tx.scan(range);
    if (rows.length >= range.limit) throw tooWide();
    const parsed = rows.map((entry): [Entry, IndexRow, ParsedGlob] => {
      const row = entry.value as IndexRow;
      compared += length * row.glob.length;
      return [entry, row, parseGlob(row.glob)];
    });
    if (compared > COMPARING_MAX) throw tooWide();
    for (const [path, holders] of found) {
      for (const [entry, row, glob] of parsed) {
        if (holders.length < CONFLICTS_MAX && globMatches(glob, path)) holders.push(conflictOf(entry, row, path));
      }
    }
  }
  return found;
}

function conflictOf(entry: Entry, row: IndexRow, wanted: string): ReservationConflict {
  return {
    glob: row.glob,
    wanted,
    holder: row.holder,
    mode: row.mode,
    until: entry.expiresAt ?? 0,
    reservationId: row.id,
    ...(row.taskId === undefined ? {} : { taskId: row.taskId }),
  };
}

function tooWide(): SwarmError {
  return new SwarmError("limit_exceeded", "Too many reservations lie where the globs reach.", {
    hint: "Name a narrower folder, or wait until others have released theirs.",
  });
}

/**
 * A greater token of the same order shows that the holding before is over, even while its rows still seem to last: on engines
 * across a network one process's time may be some ms behind another's that ended it.
 */
function supersedes({ fencingToken }: ReserveRequest, before: Reservation): boolean {
  return fencingToken !== undefined && fencingToken > before.fencingToken;
}

/**
 * Reserves all the globs or none, within the caller's transaction. One holder's reservations never conflict with each other.
 * @throws SwarmError invalid_argument, limit_exceeded, already_exists when another holds this id and no greater token is given
 */
export function reserveFiles(tx: Transaction, request: ReserveRequest): ReserveOutcome {
  checkRequest(request, tx.now);
  const before = readReservation(tx, request.id);
  if (before && before.holder !== request.holder && !supersedes(request, before)) {
    throw new SwarmError("already_exists", "Another agent has a reservation of this id.", { hint: "Use a fresh id." });
  }
  const conflicts = findConflicts(tx, request);
  if (conflicts.length > 0) return { ok: false, conflicts };
  if (before) remove(tx, before);
  const reservation: Reservation = {
    id: request.id,
    holder: request.holder,
    globs: request.globs,
    mode: request.mode,
    ...(request.reason === undefined ? {} : { reason: request.reason }),
    ...(request.taskId === undefined ? {} : { taskId: request.taskId }),
    fencingToken: request.fencingToken ?? nextToken(tx),
    reservedAt: tx.now,
    expiresAt: request.expiresAt,
  };
  write(tx, reservation);
  return { ok: true, reservation };
}

/** Whose a reservation must be for a change of it; a token tells this holding from an earlier one of the same id. */
export interface ReservationOwner {
  id: string;
  holder: string;
  fencingToken?: number;
}

/** Moves the end of the reservation; false when it is no longer this holding's. An end that has come already changes nothing. */
export function extendReservation(tx: Transaction, owner: ReservationOwner, expiresAt: number): boolean {
  const reservation = owned(tx, owner);
  if (!reservation || expiresAt <= tx.now) return false;
  checkEnd(expiresAt, tx.now);
  write(tx, { ...reservation, expiresAt });
  return true;
}

/** Frees the files at once; false when the reservation was no longer this holding's. */
export function releaseReservation(tx: Transaction, owner: ReservationOwner): boolean {
  const reservation = owned(tx, owner);
  if (!reservation) return false;
  remove(tx, reservation);
  return true;
}

/** The reservation while it lasts. */
export function readReservation(tx: Pick<Transaction, "get">, id: string): Reservation | undefined {
  return tx.get(recordKey(id))?.value as Reservation | undefined;
}

function owned(tx: Transaction, { id, holder, fencingToken }: ReservationOwner): Reservation | undefined {
  const reservation = readReservation(tx, id);
  if (reservation?.holder !== holder) return undefined;
  return fencingToken === undefined || fencingToken === reservation.fencingToken ? reservation : undefined;
}

function nextToken(tx: Transaction): number {
  const token = ((tx.get(TOKEN_KEY)?.value as number | undefined) ?? 0) + 1;
  tx.put(TOKEN_KEY, token);
  return token;
}

function write(tx: Transaction, reservation: Reservation): void {
  const { id, holder, globs, mode, taskId } = reservation;
  const options = { ttlMs: reservation.expiresAt - tx.now };
  tx.put(recordKey(id), reservation, options);
  tx.put(holderKey(holder, id), { id, refs: [recordKey(id)] }, options);
  const keys = indexKeys(id, globs);
  for (const [n, glob] of globs.entries()) {
    const row: IndexRow = { glob, id, holder, mode, ...(taskId === undefined ? {} : { taskId }) };
    tx.put(keys[n] as string, row, options);
  }
}

function remove(tx: Transaction, { id, holder, globs }: Reservation): void {
  for (const key of [recordKey(id), holderKey(holder, id), ...indexKeys(id, globs)]) tx.delete(key);
}

function checkRequest({ id, globs, reason, expiresAt }: ReserveRequest, now: number): void {
  if (id.length === 0 || id.length > ID_MAX) {
    throw new SwarmError("invalid_argument", "Not a reservation's id.", { hint: `Use 1 to ${ID_MAX} characters.` });
  }
  if (globs.length === 0 || globs.length > GLOBS_MAX) {
    throw new SwarmError("invalid_argument", "A reservation names files.", { hint: `Give 1 to ${GLOBS_MAX} globs.` });
  }
  if (reason !== undefined && reason.length > REASON_MAX) {
    throw new SwarmError("invalid_argument", "The reason is too long.", { hint: `Use at most ${REASON_MAX} characters.` });
  }
  checkEnd(expiresAt, now);
}

function checkEnd(expiresAt: number, now: number): void {
  if (expiresAt > now && expiresAt - now <= RESERVATION_MS_MAX) return;
  throw new SwarmError("invalid_argument", "A reservation's time is out of bounds.", {
    hint: `Reserve for 1 to ${RESERVATION_MS_MAX} ms, and extend it while you work.`,
  });
}
