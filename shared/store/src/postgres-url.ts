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

/** @throws SwarmError invalid_argument; the message never repeats the URL, which holds a password */
export function parsePostgresUrl(url: string): PostgresTarget {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new SwarmError("invalid_argument", "The store's URL is not one of PostgreSQL.", { hint: `Write ${FORM}.` });
  }
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
  const database = decodeURIComponent(parsed.pathname.slice(1)) || decodeURIComponent(parsed.username) || "postgres";
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
