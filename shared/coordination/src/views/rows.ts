/** What both views need to read rows: which are there, and their values as JSON. */

/** Milliseconds since the epoch now. */
export const NOW_MS = {
  sqlite: "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
  postgres: "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
} as const;

/**
 * The text of a row's value as the JSON that was stored: `{"value": …}`. Keyv writes one more colon in front of a string that begins
 * with one; in JSON text such a string can only stand behind `:`, `,` or `[`.
 */
const asStored = (column: string, find: "instr" | "strpos"): string =>
  `CASE WHEN ${find}(${column}, '"::') > 0
    THEN replace(replace(replace(${column}, ':"::', ':":'), ',"::', ',":'), '["::', '[":') ELSE ${column} END`;

/** Live rows of a namespace: `key` and `v`, the value. */
export const rowsOf = {
  sqlite: (namespace: string): string =>
    `(SELECT key, ${asStored("value", "instr")} -> '$.value' AS v FROM keyv
      WHERE namespace = '${namespace}' AND (expires IS NULL OR expires > ${NOW_MS.sqlite}))`,
  // parsed once for each row, whatever is read of it: OFFSET keeps the planner from putting the expression into each column
  postgres: (namespace: string): string =>
    `(SELECT k.key, j.v FROM keyv k CROSS JOIN LATERAL
        (SELECT (${asStored("k.value", "strpos")})::jsonb -> 'value' AS v OFFSET 0) j
      WHERE k.namespace = '${namespace}' AND (k.expires IS NULL OR k.expires > ${NOW_MS.postgres}))`,
} as const;

/** A time in ms since the epoch, as readers of SQL expect one. */
export const timeOf = {
  /** ISO 8601 with milliseconds, in UTC. */
  sqlite: (ms: string): string => `strftime('%Y-%m-%dT%H:%M:%fZ', (${ms}) / 1000.0, 'unixepoch')`,
  postgres: (ms: string): string => `to_timestamp((${ms}) / 1000.0)`,
} as const;
