/**
 * How long messages are kept. All rows of a message expire together: at the end its sender gave it (`ttlMs`), else
 * `SWARM_RETENTION_DAYS` after it could be delivered, read or not, so that an inbox that nobody reads is pruned too. Until then
 * what was acknowledged can be read in its thread. Expired rows read as missing; the store's sweep takes them away.
 */
const DAY_MS = 24 * 3_600_000;

/** The life of a message without `ttlMs`; at least a day, so that a message is never gone before it can be read. */
export function messageRetentionMs(retentionDays: number): number {
  return Math.max(1, retentionDays) * DAY_MS;
}
