export { type CursorScope, decodeCursor, encodeCursor } from "./cursor.ts";
export { checkGraph, findCycle, type GraphTask, layers } from "./dependency-graph.ts";
export { type DueEntry, DueIndex, dueJob, MAINTENANCE_INTERVAL_MS, Maintenance, type MaintenanceJob } from "./due.ts";
export {
  HELD_LEASES_MAX,
  type HeldLease,
  type Holdings,
  LeaseKeeper,
  type LeaseKeeperOptions,
  type LeaseKind,
  type LostBecause,
} from "./lease.ts";
export { type Batch, expiredRowsJob, passJob } from "./pass.ts";
export {
  GLOBS_MAX,
  globMatches,
  globsOverlap,
  normalizeGlobs,
  normalizePath,
  type ParsedGlob,
  type PathOptions,
  parsedOverlap,
  parseGlob,
} from "./paths.ts";
export {
  AGE_MS,
  type KnownQueues,
  QueueDirectory,
  queueNameOf,
  rankAt,
  SequenceSource,
  sequenceAt,
} from "./queues.ts";
export {
  CONFLICTS_MAX,
  extendReservation,
  findConflicts,
  holderPrefix,
  holdersOf,
  RESERVATION_MS_MAX,
  RESERVATIONS_PREFIX,
  type Reservation,
  type ReservationConflict,
  type ReservationMode,
  type ReservationOwner,
  type ReserveOutcome,
  type ReserveRequest,
  readReservation,
  releaseReservation,
  reservationRanges,
  reserveFiles,
} from "./reservations.ts";
export { BACKOFF_FACTOR_MAX, BACKOFF_MS_MAX, type BackoffPolicy, backoffDelay, checkBackoff } from "./retry.ts";
export { SQL_VIEW_NAMES, SQL_VIEWS_VERSION } from "./views/names.ts";
export { type Attempt, type WaitOptions, waitFor } from "./wait.ts";
