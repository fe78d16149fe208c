import { SwarmError } from "@mcp-swarm/core";

/** Primary result codes of SQLite (https://sqlite.org/rescode.html). */
const BUSY = 5;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const PROTOCOL = 15;
const NOTADB = 26;
/** Extended code: the shared-memory file could not grow, which is how a full disk shows when a WAL database is opened. */
const IOERR_SHMSIZE = 4874;

/** The extended result code of what `node:sqlite` threw, or undefined for any other error. */
function resultCode(error: unknown): number | undefined {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number" ? error.errcode : undefined;
}

/** Another connection holds the lock (or is recovering, or won a race for the WAL): trying again later is right. */
export function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code !== undefined && ((code & 0xff) === BUSY || (code & 0xff) === PROTOCOL);
}

/** The file is damaged or is no database at all. */
export function isDamage(error: unknown): boolean {
  const code = resultCode(error);
  return code !== undefined && ((code & 0xff) === CORRUPT || (code & 0xff) === NOTADB);
}

/** What SQLite threw in words for the caller; a SwarmError passes as it is. */
export function sqliteError(error: unknown): SwarmError {
  if (error instanceof SwarmError) return error;
  const code = resultCode(error);
  switch (code === IOERR_SHMSIZE ? FULL : (code ?? 0) & 0xff) {
    case BUSY:
    case PROTOCOL:
      return new SwarmError("unavailable", "Another process has kept the store locked for too long.", {
        hint: "Try again; if it stays so, look for a stopped process or a backup tool that has the store's file open.",
        cause: error,
      });
    case FULL:
      return new SwarmError("limit_exceeded", "The disk that holds the store is full; nothing was written.", {
        hint: "Free some space on that disk, then call again.",
        cause: error,
      });
    case READONLY:
      return new SwarmError("unavailable", "The store's file may not be written by this user.", {
        hint: "Give this user write permission on the file and its folder, or set SWARM_STORE to another place.",
        retryable: false,
        cause: error,
      });
    case CANTOPEN:
      return new SwarmError("unavailable", "The store's file could not be opened.", {
        hint: "Look whether its folder exists and this user may write there; `mcp-swarm-store where` prints the path.",
        retryable: false,
        cause: error,
      });
    case CORRUPT:
    case NOTADB:
      return damaged("The store's file is damaged or is not a SQLite database.", error);
    case IOERR:
      return new SwarmError("unavailable", "The operating system failed to read or write the store's file.", {
        hint: "Look at the disk, then run `mcp-swarm-store check`.",
        cause: error,
      });
    default:
      return new SwarmError("internal", "The store's engine failed in a way that was not foreseen.", { cause: error });
  }
}

export function damaged(message: string, cause?: unknown): SwarmError {
  return new SwarmError("internal", message, {
    hint: "Run `mcp-swarm-store check` to see how much is damaged, then `mcp-swarm-store restore` with a backup.",
    ...(cause === undefined ? {} : { cause }),
  });
}
