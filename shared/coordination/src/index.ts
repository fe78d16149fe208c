export { type CursorScope, decodeCursor, encodeCursor } from "./cursor.ts";
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
export { BACKOFF_FACTOR_MAX, BACKOFF_MS_MAX, type BackoffPolicy, backoffDelay, checkBackoff } from "./retry.ts";
export { type Attempt, type WaitOptions, waitFor } from "./wait.ts";
