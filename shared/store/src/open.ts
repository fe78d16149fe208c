import { resolve } from "node:path";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import type { Store } from "./contract.ts";
import type { SqlViews } from "./sql-views.ts";

export interface OpenOptions {
  /** SQLite: what an acknowledged commit survives, power loss (`full`, the default) or the end of every process (`normal`). */
  durability?: "full" | "normal";
  clock?: Clock;
  /** Views for readers of the database; a store in memory has none. */
  views?: SqlViews;
}

/** The forms of a store's URL, for messages. */
const FORMS = "sqlite:<path>, postgres://<user>:<password>@<host>/<database> or memory:";

/**
 * Opens the store that `url` names: `sqlite:<path>`, `postgres://…`, `postgresql://…` or `memory:`. An engine is loaded only
 * when it is used.
 * @throws SwarmError invalid_argument for another URL, and what the engine's own opening throws
 */
export async function openStore(url: string, options: OpenOptions = {}): Promise<Store> {
  const scheme = /^[a-z]+:/.exec(url)?.[0];
  switch (scheme) {
    case "sqlite:": {
      const { openSqlite } = await import("./sqlite.ts");
      return await openSqlite(sqlitePath(url), options);
    }
    case "postgres:":
    case "postgresql:": {
      const { openPostgres } = await import("./postgres.ts");
      return await openPostgres(url, options);
    }
    case "memory:": {
      const { MemoryStore } = await import("./memory.ts");
      return new MemoryStore(options);
    }
    default:
      throw new SwarmError("invalid_argument", "The store's URL begins with no scheme that is known.", {
        hint: `Set SWARM_STORE to ${FORMS}.`,
      });
  }
}

/** The absolute path of a `sqlite:` URL; `sqlite://` before a path means the same. @throws SwarmError invalid_argument */
export function sqlitePath(url: string): string {
  const path = url.replace(/^sqlite:(\/\/)?/, "");
  if (path === "" || path.startsWith(":") || path.includes("\0") || path.endsWith("/")) {
    throw new SwarmError("invalid_argument", "The store's URL names no file.", {
      hint: "Write sqlite:<path>, for example sqlite:/home/me/swarm.db; a store in memory is memory:.",
    });
  }
  return resolve(path);
}
