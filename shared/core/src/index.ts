export * from "./bounds.ts";
export { type Clock, type ManualClock, manualClock, systemClock } from "./clock.ts";
export { assert, ERROR_CODES, type ErrorCode, type ErrorOptions, SwarmError } from "./errors.ts";
export { newId, type Random, seededRandom, systemRandom } from "./ids.ts";
export type { Json, JsonObject } from "./json.ts";
export { mergePatch } from "./merge-patch.ts";
