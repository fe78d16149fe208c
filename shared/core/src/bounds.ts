/** Bounds that more than one package keeps. Each bound that concerns one concept stands beside that concept. */

/** Longest id of a task, workflow, agent or lock, in characters. */
export const ID_MAX = 64;

/** Largest value that a caller may keep, in bytes of JSON. */
export const VALUE_BYTES_MAX = 1_048_576;

/** Largest record, in bytes of JSON: a value and what a layer keeps beside it. */
export const RECORD_BYTES_MAX = VALUE_BYTES_MAX + 4_096;

/** Deepest nesting of caller-supplied JSON. */
export const JSON_DEPTH_MAX = 32;

/** Longest that a tool may wait, in ms; below the limits hosts put on one call. */
export const WAIT_MS_MAX = 50_000;

/** Default and largest page of a list. */
export const PAGE_DEFAULT = 50;
export const PAGE_MAX = 200;

/** How long an idempotency key is remembered. */
export const IDEMPOTENCY_TTL_MS = 24 * 60 * 60 * 1000;

/** How long presence and claims live without being renewed, in ms (`SWARM_LEASE_MS`). */
export const LEASE_MS_DEFAULT = 15_000;
export const LEASE_MS_MIN = 1_000;
export const LEASE_MS_MAX = 10 * 60 * 1000;
