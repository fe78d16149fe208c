/** Calls that one host has under way at once. */
const CALLS_AT_ONCE = 8;

/** Calls `run` for each item, a few at a time. */
export async function inBatches<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += CALLS_AT_ONCE) {
    results.push(...(await Promise.all(items.slice(at, at + CALLS_AT_ONCE).map(run))));
  }
  return results;
}
