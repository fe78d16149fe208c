/** File reservations as agents make them. Tasks' claims reserve in the same table, so each keeps out of the other's way. */
import {
  decodeCursor,
  encodeCursor,
  extendReservation,
  findConflicts,
  type Holdings,
  holderPrefix,
  holdersOf,
  type LeaseKeeper,
  normalizeGlobs,
  normalizePath,
  type PathOptions,
  parsedOverlap,
  parseGlob,
  RESERVATIONS_PREFIX,
  type Reservation,
  type ReservationConflict,
  type ReservationMode,
  readReservation,
  releaseReservation,
  reservationRanges,
  reserveFiles,
  waitFor,
} from "@mcp-swarm/coordination";
import { assert, type Clock, newId, PAGE_DEFAULT, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { type KeyRange, prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import type { Waiting } from "./locks.ts";

export const RESERVE_MS_MIN = 1_000;
export const RESERVE_MS_DEFAULT = 3_600_000;
/** Most reservations of one agent. */
export const RESERVATIONS_OF_ONE_MAX = 100;
/** Most paths of one check. */
export const PATHS_MAX = 64;
/** Rows of a list that one call reads at most, and at once. */
const LISTED_ROWS_MAX = 1_000;
const LIST_PAGE = 200;
/** A waiting call looks again at least so often: reservations end without a commit that wakes. */
const LOOK_AGAIN_MS = 5_000;
/** Globs fit to be shown in an error: nothing that could read as a sentence. */
const PLAIN_GLOB = /^[\w.*?/[\]{},@-]{1,120}$/;

export interface ReserveInput {
  readonly globs: readonly string[];
  readonly mode?: ReservationMode | undefined;
  /** The longest that the files stay reserved, in ms: RESERVE_MS_MIN to RESERVATION_MS_MAX. */
  readonly ttlMs?: number | undefined;
  readonly reason?: string | undefined;
  /** One of the agent's own, which this one replaces. */
  readonly reservationId?: string | undefined;
  /** A subagent of the caller. */
  readonly agentId?: string | undefined;
}

export interface ReleaseInput {
  readonly reservationId?: string | undefined;
  readonly globs?: readonly string[] | undefined;
  readonly all?: true | undefined;
  readonly agentId?: string | undefined;
}

export interface ListReservations {
  readonly holder?: string | undefined;
  /** Those that reach into this folder or file. */
  readonly pathPrefix?: string | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export type CheckedPath = {
  /** As it was asked for. */
  readonly given: string;
  /** Below the repository's root. */
  readonly path: string;
  /** Nobody but the agent itself holds it. */
  readonly free: boolean;
  readonly holders: readonly (Omit<ReservationConflict, "wanted"> & { readonly you: boolean })[];
};

export interface ReservationsOptions {
  clock: Clock;
  random: Random;
  keeper: LeaseKeeper;
  /** `SWARM_LEASE_MS`: of callers with a process, which renews up to ttlMs. Others have it for ttlMs. */
  leaseMs: number;
  /** How paths are read at this moment. */
  pathOptions: () => Promise<PathOptions>;
}

export class Reservations {
  readonly #options: ReservationsOptions;
  readonly #holdings: Holdings;

  constructor(options: ReservationsOptions) {
    this.#options = options;
    this.#holdings = options.keeper.keep({
      name: "file reservations",
      renew: (tx, { id, token: fencingToken }, expiresAt) => {
        const holder = readReservation(tx, id)?.holder;
        return holder !== undefined && extendReservation(tx, { id, holder, fencingToken }, expiresAt);
      },
      release: (tx, { id, token }) => giveBack(tx, id, token),
    });
  }

  /**
   * All the globs or none.
   * @throws SwarmError conflict (which glob, who holds it, until when, for which task), invalid_argument, limit_exceeded,
   *   not_found and failed_precondition for a reservationId that is not the agent's
   */
  async reserve(
    call: Call,
    input: ReserveInput,
    waiting: Waiting = { waitMs: 0 },
  ): Promise<{ reservation: Reservation; endsAt: number }> {
    const { store, caller } = call;
    const holder = speakAs(caller, input.agentId);
    const mode = input.mode ?? "exclusive";
    const globs = normalizeGlobs(input.globs, await this.#options.pathOptions());
    const id = input.reservationId ?? newId("resv", this.#options.random);
    const ttlMs = input.ttlMs ?? RESERVE_MS_DEFAULT;
    const leaseMs = caller.processId === undefined ? ttlMs : Math.min(ttlMs, this.#options.leaseMs);
    await this.#checkRoom(store, holder);
    const ranges = reservationRanges(globs);
    let looked = false;
    let conflict: ReservationConflict | undefined;
    const reservation = await waitFor<Reservation>({
      store,
      clock: this.#options.clock,
      prefixes: [RESERVATIONS_PREFIX],
      ...waiting,
      attempt: async () => {
        // of many that are woken most find nothing: they look before they take part in writing
        const before = looked ? await conflictsNow(store, { globs, mode, holder, id }) : [];
        looked = true;
        if (before.length === 0) {
          const outcome = await call.transact(
            (tx): { made: Reservation } | { conflict: ReservationConflict } | null => {
              if (input.reservationId !== undefined) checkOwn(readReservation(tx, id), holder);
              const reason = input.reason === undefined ? {} : { reason: input.reason };
              const outcome = reserveFiles(tx, { id, holder, globs, mode, ...reason, expiresAt: tx.now + leaseMs });
              if (outcome.ok) return { made: outcome.reservation };
              const [first] = outcome.conflicts;
              return first ? { conflict: first } : null;
            },
            { prefetch: { ranges } },
          );
          if (outcome && "made" in outcome) return { value: outcome.made };
          conflict = outcome?.conflict;
        } else conflict = before[0];
        if (waiting.waitMs === 0 || !conflict) return {};
        return { againInMs: Math.max(0, Math.min(conflict.until - (await store.now()), LOOK_AGAIN_MS)) };
      },
    });
    if (!reservation) throw taken(conflict);
    await this.#keep(call, reservation, ttlMs, { fresh: input.reservationId === undefined, signal: waiting.signal });
    return { reservation, endsAt: reservation.reservedAt + ttlMs };
  }

  /**
   * Frees one reservation, some globs wherever the agent reserved them, or all that it reserved by itself. What a claim reserved
   * is freed with the task.
   * @throws SwarmError invalid_argument unless exactly one is chosen, not_found, failed_precondition when it is another's or a task's
   */
  async release(call: Call, input: ReleaseInput): Promise<{ released: { id: string; globs: readonly string[] }[] }> {
    const { store, caller } = call;
    const holder = speakAs(caller, input.agentId);
    if ([input.reservationId, input.globs, input.all].filter((one) => one !== undefined).length !== 1) {
      throw new SwarmError("invalid_argument", "Name what to release in exactly one way.", {
        hint: "Give reservationId, or globs, or all: true.",
      });
    }
    const { reservationId } = input;
    const globs = input.globs && new Set(normalizeGlobs(input.globs, await this.#options.pathOptions()));
    const ids = reservationId === undefined ? await idsOf(store, holder) : [reservationId];
    const released = await call.transact((tx): { id: string; globs: readonly string[]; whole: boolean }[] => {
      const found = ids.flatMap((id) => readReservation(tx, id) ?? []);
      if (reservationId !== undefined) checkOwn(found[0], holder);
      const own = found.filter((one) => one.holder === holder && one.taskId === undefined);
      return own.flatMap((one) => {
        const gone = globs ? one.globs.filter((glob) => globs.has(glob)) : one.globs;
        if (gone.length === 0) return [];
        releaseReservation(tx, one);
        const whole = gone.length === one.globs.length;
        if (!whole) {
          const rest = one.globs.filter((glob) => !gone.includes(glob));
          assert(reserveFiles(tx, { ...one, globs: rest }).ok, "what is left of a reservation is the holder's");
        }
        return [{ id: one.id, globs: gone, whole }];
      });
    });
    if (released.length === 0 && globs) {
      throw new SwarmError("not_found", "You reserved none of these globs by yourself.", {
        hint: "Name them as they were reserved; list_reservations shows yours. A task's files are freed with the task.",
      });
    }
    for (const { id, whole } of released) if (whole) this.#holdings.drop(id);
    return { released: released.map(({ id, globs }) => ({ id, globs })) };
  }

  /** Who holds each path, in the order asked. @throws SwarmError invalid_argument, limit_exceeded */
  async check({ store, caller }: Pick<Call, "store" | "caller">, input: { paths: readonly string[] }): Promise<CheckedPath[]> {
    const options = await this.#options.pathOptions();
    const paths = input.paths.map((given) => ({ given, path: normalizePath(given, options) }));
    const wanted = [...new Set(paths.map(({ path }) => path))];
    const found = holdersOf(await readAhead(store, reservationRanges(wanted)), wanted);
    return paths.map(({ given, path }) => {
      const holders = (found.get(path) ?? []).map(({ wanted: _, ...one }) => ({ ...one, you: one.holder === caller.agentId }));
      return { given, path, free: holders.every(({ you }) => you), holders };
    });
  }

  /** Reservations that last, in order of their ids. A page may hold fewer than there are more. */
  async list(
    { store }: Pick<Call, "store">,
    { holder, pathPrefix, limit = PAGE_DEFAULT, cursor }: ListReservations = {},
  ): Promise<{ reservations: Reservation[]; nextCursor?: string }> {
    const reach =
      pathPrefix === undefined ? undefined : await this.#options.pathOptions().then((options) => reachOf(pathPrefix, options));
    const prefix = holder === undefined ? RESERVATIONS_PREFIX : holderPrefix(holder);
    const scope = { list: `reservations\0${holder ?? ""}\0${reach?.join("\0") ?? ""}`, prefix };
    const parsed = reach?.map(parseGlob);
    let after = cursor === undefined ? undefined : decodeCursor(scope, cursor);
    const reservations: Reservation[] = [];
    for (let looked = 0; looked < LISTED_ROWS_MAX; looked += LIST_PAGE) {
      const rows = await store.scan(prefixRange(prefix, LIST_PAGE, after === undefined ? {} : { after }));
      const records = holder === undefined ? rows : await store.getMany(rows.map(({ value }) => (value as Owned).refs[0]));
      for (const [at, row] of rows.entries()) {
        after = row.key;
        const one = records[at]?.value as Reservation | undefined;
        if (!one || (parsed && !one.globs.some((glob) => parsed.some((mine) => parsedOverlap(mine, parseGlob(glob)))))) continue;
        reservations.push(one);
        if (reservations.length === limit) return { reservations, nextCursor: encodeCursor(scope, after) };
      }
      if (rows.length < LIST_PAGE) return { reservations };
    }
    return after === undefined ? { reservations } : { reservations, nextCursor: encodeCursor(scope, after) };
  }

  /** From now on renewed. What was reserved while the call was cancelled, or the process was ending, is given back. */
  async #keep(
    { caller, store }: Call,
    { id, fencingToken: token, reservedAt }: Reservation,
    ttlMs: number,
    { fresh, signal }: { fresh: boolean; signal: AbortSignal | undefined },
  ): Promise<void> {
    try {
      signal?.throwIfAborted();
      if (caller.processId !== undefined) this.#holdings.hold({ id, token, deadlineAt: reservedAt + ttlMs });
    } catch (error) {
      if (fresh) await store.transact((tx) => giveBack(tx, id, token));
      throw error;
    }
  }

  async #checkRoom(store: Store, holder: string): Promise<void> {
    if ((await idsOf(store, holder)).length < RESERVATIONS_OF_ONE_MAX) return;
    throw new SwarmError("limit_exceeded", `One agent has at most ${RESERVATIONS_OF_ONE_MAX} reservations.`, {
      hint: "Release some, or reserve a folder instead of its files.",
    });
  }
}

/** A row of what one agent has. */
type Owned = { readonly id: string; readonly refs: readonly [string] };

async function idsOf(store: Store, holder: string): Promise<string[]> {
  const rows = await store.scan(prefixRange(holderPrefix(holder), RESERVATIONS_OF_ONE_MAX));
  return rows.map(({ value }) => (value as Owned).id);
}

function giveBack(tx: Transaction, id: string, token: number): void {
  const held = readReservation(tx, id);
  if (held) releaseReservation(tx, { id, holder: held.holder, fencingToken: token });
}

/** What the ranges hold now, as something that scans: for the functions that work in a transaction, outside one. */
async function readAhead(store: Store, ranges: readonly KeyRange[]): Promise<Pick<Transaction, "scan">> {
  const pages = new Map(
    await Promise.all(ranges.map(async (range) => [`${range.from}\0${range.before}`, await store.scan(range)] as const)),
  );
  return { scan: (range) => pages.get(`${range.from}\0${range.before}`) ?? [] };
}

async function conflictsNow(
  store: Store,
  wanted: { globs: readonly string[]; mode: ReservationMode; holder: string; id: string },
): Promise<ReservationConflict[]> {
  return findConflicts(await readAhead(store, reservationRanges(wanted.globs)), wanted);
}

/** A folder with all in it, or a file: both are meant. */
function reachOf(pathPrefix: string, options: PathOptions): string[] {
  const [glob] = normalizeGlobs([pathPrefix], options);
  return glob === undefined || glob === "**" ? ["**"] : [glob, `${glob}/**`];
}

function checkOwn(found: Reservation | undefined, holder: string): void {
  if (!found) {
    throw new SwarmError("not_found", "There is no such reservation, or its lease ran out.", {
      hint: "list_reservations shows those that last.",
    });
  }
  if (found.holder !== holder) {
    throw new SwarmError("failed_precondition", `This reservation is held by ${found.holder}.`, {
      hint: "Only its holder changes it: ask for the files, or wait.",
    });
  }
  if (found.taskId === undefined) return;
  throw new SwarmError("failed_precondition", `This reservation belongs to the claim on task ${found.taskId}.`, {
    hint: "It ends with the claim: finish the task or give it back with update_task.",
  });
}

function taken(conflict: ReservationConflict | undefined): SwarmError {
  const hint = "Work elsewhere, call again with waitMs, or ask the holder.";
  if (!conflict) return new SwarmError("conflict", "Files were reserved by another, and are free now.", { hint: "Call again." });
  const { glob, holder, until, taskId, mode } = conflict;
  const what = PLAIN_GLOB.test(glob) ? glob : "A glob";
  const why = taskId === undefined ? "" : ` for task ${taskId}`;
  const end = new Date(until).toISOString();
  return new SwarmError(
    "conflict",
    `Files are reserved: ${what} by ${holder}${why} (${mode}) until ${end}, or longer if renewed.`,
    {
      hint,
    },
  );
}
