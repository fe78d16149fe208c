import { crc32 } from "node:zlib";
import { SwarmError } from "@mcp-swarm/core";

/** What a `postgres://` URL says, with our own options taken out of what the driver sees. */
export interface PostgresTarget {
  /** For the driver; holds the password. */
  connectionString: string;
  schema: string;
  /**
   * `transaction`: a pooler gives each transaction another connection, so nothing may be kept on one (named statements,
   * LISTEN, session locks). `none`: the URL leads to the server itself.
   */
  pooler: "none" | "transaction";
  /** Fit to be shown. */
  location: string;
  /** First number of every advisory lock of this store, so that no other program or schema shares them by intent. */
  lockClass: number;
  watchClass: number;
  channel: string;
}

const SCHEMA = /^[a-z_][a-z0-9_]{0,62}$/;
const DEFAULT_PORT = "5432";
const FORM = "postgres://<user>:<password>@<host>:<port>/<database>";

/** Options that are shown: of any other, nobody knows whether it is a secret. */
const SHOWN_OPTIONS = new Set(["schema", "pooler", "sslmode", "host"]);

/** @throws SwarmError invalid_argument; the message never repeats the URL, which holds a password */
export function parsePostgresUrl(url: string): PostgresTarget {
  const parsed = readPostgresUrl(url);
  const schema = parsed.searchParams.get("schema") ?? "public";
  const pooler = parsed.searchParams.get("pooler") ?? "none";
  if (!SCHEMA.test(schema)) {
    throw new SwarmError("invalid_argument", "The option schema of the store's URL is not a plain lower-case name.", {
      hint: "Write schema=<name> with a-z, 0-9 and _ only.",
    });
  }
  if (pooler !== "none" && pooler !== "transaction") {
    throw new SwarmError("invalid_argument", "The option pooler of the store's URL is not known.", {
      hint: "Write pooler=transaction before a transaction pooler, else leave it out.",
    });
  }
  parsed.searchParams.delete("schema");
  parsed.searchParams.delete("pooler");
  const host = parsed.hostname || parsed.searchParams.get("host") || "localhost";
  const database = decoded(parsed.pathname.slice(1)) || decoded(parsed.username) || "postgres";
  const suffix = schema === "public" ? "" : `?schema=${schema}`;
  return {
    connectionString: parsed.href,
    schema,
    pooler,
    location: `postgres://${host}:${parsed.port || DEFAULT_PORT}/${database}${suffix}`,
    lockClass: crc32(`mcp-swarm lock ${schema}`) | 0,
    watchClass: crc32(`mcp-swarm watch ${schema}`) | 0,
    channel: `mcp_swarm_${schema}`.slice(0, 63),
  };
}

/** The URL of a PostgreSQL store as it may be shown. @throws SwarmError invalid_argument */
export function shownPostgresUrl(url: string): string {
  const parsed = readPostgresUrl(url);
  if (parsed.password !== "") parsed.password = "***";
  for (const name of new Set(parsed.searchParams.keys())) if (!SHOWN_OPTIONS.has(name)) parsed.searchParams.delete(name);
  parsed.hash = "";
  return parsed.href;
}

/** @throws SwarmError invalid_argument */
function readPostgresUrl(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new SwarmError("invalid_argument", "The store's URL is not one of PostgreSQL.", { hint: `Write ${FORM}.` });
  }
  // a password with / ? or # in it ends the host early: its rest would be taken for a database, and shown as one
  if (/@/.test(parsed.pathname + parsed.search + parsed.hash)) {
    throw new SwarmError("invalid_argument", "The store's URL has an @ behind its host.", {
      hint: "Write / ? # and @ in a user, a password or a database as %2F %3F %23 and %40.",
    });
  }
  return parsed;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new SwarmError("invalid_argument", "The store's URL has a % that is no escape.", { hint: "Write % as %25.", cause });
  }
}
