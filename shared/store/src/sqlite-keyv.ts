import { KeyvSqlite } from "@keyv/sqlite";
import { Keyv } from "keyv";

/** How the adapter reaches the store's connection. */
export interface SqlAccess {
  read(sql: string, parameters: (string | number | null)[]): Promise<unknown[]>;
  /** Runs in a write transaction of its own and may wait for the lock. */
  write(sql: string, parameters: (string | number | null)[]): Promise<unknown[]>;
  now(): number;
}

const READS = /^\s*(SELECT|PRAGMA)\b/i;

/** The adapter makes sure of its index each time; it is there, and looking for it must not wait for the write lock. */
const MAKES_INDEX = /^\s*CREATE INDEX IF NOT EXISTS "keyv_expires_idx"/;

/**
 * How the adapter removes rows that it has read as expired (its own deletes end in RETURNING). Between its read and this
 * delete another process may have written the row anew, so the delete has to look again.
 */
const DROPS_EXPIRED = /^DELETE FROM "keyv" WHERE key (= \?|IN \([?, ]+\)) AND namespace = \?$/;

/**
 * Keyv's own SQLite adapter on the store's connection. An instance for each namespace: one instance shared by two Keyv
 * namespaces reads and clears across them.
 */
export function keyvOverSqlite(namespace: string, access: SqlAccess): Keyv {
  const driver = {
    name: "custom" as const,
    connect: async () => ({
      query: async (sql: string, ...parameters: unknown[]): Promise<unknown[]> => {
        const bound = parameters.map(parameter);
        if (READS.test(sql)) return await access.read(sql, bound);
        if (MAKES_INDEX.test(sql)) return [];
        if (DROPS_EXPIRED.test(sql)) return await access.write(`${sql} AND expires <= ?`, [...bound, access.now()]);
        return await access.write(sql, bound);
      },
      close: async () => {}, // the connection belongs to the store, which outlives every view of it
    }),
  };
  return new Keyv({ store: new KeyvSqlite({ driver }), namespace });
}

function parameter(value: unknown): string | number | null {
  if (value === null || typeof value === "string" || typeof value === "number") return value;
  return value === undefined ? null : JSON.stringify(value);
}
