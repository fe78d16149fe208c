import { SwarmError } from "@mcp-swarm/core";

/** SQLSTATE codes (PostgreSQL manual, appendix A) that this engine tells apart. */
const CONNECTION_CLASS = "08";
const OPERATOR_INTERVENTION_CLASS = "57P";
const IDLE_IN_TRANSACTION = "25P03";
const TOO_MANY_CONNECTIONS = "53300";
const DISK_FULL = "53100";
const TOO_LARGE = new Set(["54000", "53400"]);
const DEADLOCK_OR_SERIALIZATION = new Set(["40001", "40P01", "55P03", "53200"]);
const PREPARED_STATEMENT = new Set(["26000", "42P05", "08P01"]);
const NO_SUCH_TABLE = new Set(["42P01", "3F000", "42883", "42703"]);
const BAD_CREDENTIALS = new Set(["28000", "28P01"]);
const NO_PERMISSION = new Set(["42501"]);
const NO_SUCH_DATABASE = "3D000";
const READ_ONLY = "25006";

/** System errors of a socket that mean that the server cannot be reached, now or at all. */
const SOCKET_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
]);

/** The connection is unusable, and a commit that it was asked for may or may not have taken place. */
export class ConnectionLost extends Error {
  constructor(cause: unknown) {
    super("connection lost", { cause });
  }
}

function code(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** Whether the server may still be there a moment later: it restarts, drops connections, or has none to give. */
export function isPassing(error: unknown): boolean {
  if (error instanceof ConnectionLost) return true;
  const found = code(error);
  if (found === "ENOTFOUND" || found === "ENOENT") return false;
  return SOCKET_ERRORS.has(found) || breaksConnection(error) || found === TOO_MANY_CONNECTIONS || found === "";
}

/** Whether the connection that answered so is gone. Without a code it is the driver's own word for a lost connection. */
export function breaksConnection(error: unknown): boolean {
  const found = code(error);
  return (
    found === "" ||
    SOCKET_ERRORS.has(found) ||
    found.startsWith(CONNECTION_CLASS) ||
    found.startsWith(OPERATOR_INTERVENTION_CLASS) ||
    found === IDLE_IN_TRANSACTION
  );
}

export function isRefused(error: unknown): boolean {
  return code(error) === "ECONNREFUSED";
}

export function isOutOfConnections(error: unknown): boolean {
  return code(error) === TOO_MANY_CONNECTIONS;
}

/** The transaction was taken back because of others; it may simply run again. */
export function isRetry(error: unknown): boolean {
  return DEADLOCK_OR_SERIALIZATION.has(code(error));
}

/** A pooler between us and the server gave our prepared statement's name to another connection. */
export function isLostStatement(error: unknown): boolean {
  return PREPARED_STATEMENT.has(code(error));
}

/** Something of another kind has the name (wrong_object_type). */
export function isOtherObject(error: unknown): boolean {
  return code(error instanceof SwarmError ? error.cause : error) === "42809";
}

/** The database has not been set up. */
export function isMissingTable(error: unknown): boolean {
  return NO_SUCH_TABLE.has(code(error));
}

/**
 * What the server or the driver said, in words for the caller; a SwarmError passes as it is.
 * @param location the store's location, which carries no password
 */
export function postgresError(error: unknown, location: string): SwarmError {
  if (error instanceof SwarmError) return error;
  const reason = error instanceof ConnectionLost ? error.cause : error;
  const found = code(reason);
  if (found === DISK_FULL) {
    return new SwarmError("limit_exceeded", "The disk of the PostgreSQL server is full; nothing was written.", {
      hint: "Free some space on that server, then call again.",
      cause: reason,
    });
  }
  if (TOO_LARGE.has(found)) {
    return new SwarmError("limit_exceeded", "The PostgreSQL server has no room for so large a transaction.", {
      hint: "Write less at once.",
      cause: reason,
    });
  }
  if (found === TOO_MANY_CONNECTIONS) {
    return new SwarmError("unavailable", `The PostgreSQL server has no connection left: ${location}.`, {
      hint: "Raise max_connections of that server, or put a connection pooler before it and add pooler=transaction to the URL.",
      cause: reason,
    });
  }
  if (BAD_CREDENTIALS.has(found)) {
    return new SwarmError("unavailable", `The PostgreSQL server does not accept the user or the password: ${location}.`, {
      hint: "Correct the user and the password in SWARM_STORE.",
      retryable: false,
      cause: reason,
    });
  }
  if (found === NO_SUCH_DATABASE) {
    return new SwarmError("unavailable", `The PostgreSQL server has no such database: ${location}.`, {
      hint: "Create the database, or name another one in SWARM_STORE.",
      retryable: false,
      cause: reason,
    });
  }
  if (NO_PERMISSION.has(found)) {
    return new SwarmError("unavailable", `The user of the PostgreSQL URL lacks a permission: ${location}.`, {
      hint: "Let the user create tables and functions in the schema, or name a schema of its own with schema=<name> in the URL.",
      retryable: false,
      cause: reason,
    });
  }
  if (found === READ_ONLY) {
    return new SwarmError("unavailable", `The PostgreSQL server is a read-only replica: ${location}.`, {
      hint: "Name the primary server in SWARM_STORE.",
      retryable: false,
      cause: reason,
    });
  }
  if (error instanceof ConnectionLost || breaksConnection(reason)) {
    return new SwarmError("unavailable", `The PostgreSQL server cannot be reached: ${location}.`, {
      hint: "See that the server runs and that host and port in SWARM_STORE are right, then call again.",
      cause: reason,
    });
  }
  return new SwarmError("internal", "The store's engine failed in a way that was not foreseen.", { cause: reason });
}
