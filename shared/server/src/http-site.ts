import { SwarmError } from "@mcp-swarm/core";
import type { Config } from "./config.ts";

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);
/** Addresses that stand for all of a machine's own, and so name none. */
const WILDCARDS = new Set(["0.0.0.0", "::"]);

export interface HttpAddress {
  host: string;
  port: number;
}

type Reach = Pick<Config, "keyFile" | "rootKey" | "publicUrl">;

/** Whether callers have to prove who they are: this process pins a root key. */
export function isSecured({ keyFile, rootKey }: Pick<Config, "keyFile" | "rootKey">): boolean {
  return keyFile !== undefined || rootKey !== undefined;
}

/**
 * Reads `[host:]port`; the host is 127.0.0.1 unless given.
 * @throws SwarmError invalid_argument; permission_denied for an address that others can reach while the swarm is open;
 *   failed_precondition for one that has no name of its own
 */
export function parseAddress(text: string, reach: Reach): HttpAddress {
  const match = /^(?:(?<host>\[[0-9a-f:]+\]|[^:]+):)?(?<port>\d{1,5})$/i.exec(text);
  const port = Number(match?.groups?.port);
  if (!match || port > 65_535) {
    throw new SwarmError("invalid_argument", "--http takes [host:]port, for example 3336 or 127.0.0.1:3336.");
  }
  const host = (match.groups?.host ?? "127.0.0.1").replace(/^\[|\]$/g, "");
  if (!LOOPBACK.has(host) && !isSecured(reach)) {
    throw new SwarmError(
      "permission_denied",
      "An open swarm is served on loopback only: anybody who reaches the port could act under any name.",
      {
        hint: "Use 127.0.0.1, and an SSH tunnel for other machines; or secure the swarm: mcp-swarm-security init.",
      },
    );
  }
  if (WILDCARDS.has(host) && reach.publicUrl === undefined) {
    throw new SwarmError("failed_precondition", `${host} is no name that others can use, and tokens are made out to a name.`, {
      hint: "Set SWARM_PUBLIC_URL to the URL under which others reach this server.",
    });
  }
  return { host, port };
}

/** The names under which a process is reached over HTTP. Only they are answered, and only tokens made out to them count. */
export interface HttpSite {
  /** URLs without a slash at their end; the first is the one to tell others. */
  readonly bases: readonly string[];
  /** What a Host and an Origin header may name. */
  readonly hostnames: readonly string[];
}

/** `bound`: the address and port that were really taken. */
export function siteOf({ host }: HttpAddress, bound: { address: string; port: number }, publicUrl: string | undefined): HttpSite {
  const named = publicUrl === undefined ? [] : [publicUrl.replace(/\/+$/, "")];
  const own = LOOPBACK.has(host) ? [host, bound.address, "localhost"] : WILDCARDS.has(host) ? [...LOOPBACK] : [host];
  const bases = [...new Set([...named, ...own.map((name) => `http://${bracketed(name)}:${bound.port}`)])];
  const hostnames = new Set([...bases.map((base) => new URL(base).hostname), ...[...LOOPBACK].map(bracketed)]);
  return { bases, hostnames: [...hostnames] };
}

/** Whether what is told others has them send credentials that anybody on the way can read. */
export function isInClear({ bases: [first = ""] }: HttpSite): boolean {
  const { protocol, hostname } = new URL(first);
  return protocol === "http:" && ![...LOOPBACK].map(bracketed).includes(hostname);
}

/** The URL of this site to tell a caller who used this Host header. */
export function baseFor({ bases }: HttpSite, host: string | undefined): string {
  const [first = ""] = bases;
  return bases.find((base) => new URL(base).host === host?.toLowerCase()) ?? first;
}

export function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
