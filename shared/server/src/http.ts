import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SwarmError } from "@mcp-swarm/core";
import { type Caller, checkAgentId } from "@mcp-swarm/identity";
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, type McpHttpHandler, type McpServerFactory } from "@modelcontextprotocol/server";
import { HttpListens } from "./listen-http.ts";
import { ANONYMOUS, type MountedServer } from "./mount.ts";
import type { SwarmProcess } from "./process.ts";
import { protocolServer } from "./protocol-server.ts";

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);
/** How long open requests may take to end when the server stops. */
const DRAIN_MS = 500;

export interface HttpAddress {
  host: string;
  port: number;
}

/**
 * Reads `[host:]port`; the host is 127.0.0.1 unless given.
 * @throws SwarmError invalid_argument, permission_denied for an address that others can reach
 */
export function parseAddress(text: string): HttpAddress {
  const match = /^(?:(?<host>\[[0-9a-f:]+\]|[^:]+):)?(?<port>\d{1,5})$/i.exec(text);
  const port = Number(match?.groups?.port);
  if (!match || port > 65_535) {
    throw new SwarmError("invalid_argument", "--http takes [host:]port, for example 3336 or 127.0.0.1:3336.");
  }
  const host = (match.groups?.host ?? "127.0.0.1").replace(/^\[|\]$/g, "");
  if (!LOOPBACK.has(host)) {
    throw new SwarmError(
      "permission_denied",
      "An open swarm is served on loopback only: anybody who reaches the port could act under any name.",
      {
        hint: "Use 127.0.0.1, and an SSH tunnel for other machines.",
      },
    );
  }
  return { host, port };
}

export interface HttpServing {
  /** The base URL, with the port that was really taken. */
  url: string;
  close(): Promise<void>;
}

/**
 * Serves each mounted server at its path, and `GET /health`. A foreign Host or Origin header is refused with 403 before
 * anything reads the request: that is what stops a web page from reaching a server on loopback (DNS rebinding).
 * @throws SwarmError unavailable when the port is taken
 */
export async function serveHttp(
  mounts: ReadonlyMap<string, MountedServer>,
  process_: SwarmProcess,
  address: HttpAddress,
): Promise<HttpServing> {
  const hostAllowed = localhostHostValidation();
  const originAllowed = localhostOriginValidation();
  const onerror = (error: Error) => process_.log.warn({ err: error }, "An HTTP exchange reported an error");
  const handlers = new Map(
    [...mounts].map(([path, mounted]) => {
      const factory: McpServerFactory = ({ era }) => protocolServer(mounted, { callerOf, canSubscribe: era === "modern" });
      const handler = createMcpHandler(factory, { onerror });
      const listens = mounted.hasResources ? new HttpListens({ mounted, callerOf, factory, onerror }) : undefined;
      const fetch: McpHttpHandler["fetch"] = async (request, options) =>
        (await listens?.fetch(request)) ?? (await handler.fetch(request, options));
      const close = () => Promise.all([listens?.close(), handler.close()]);
      return [path, { close, node: toNodeHandler({ fetch }, { onerror }) }];
    }),
  );

  const server = createServer((request, response) => {
    if (!hostAllowed(request, response) || !originAllowed(request, response)) return;
    if (!isOwnPage(request)) {
      return send(response, 403, { error: "permission_denied", message: "The page that asks is not one of this server's." });
    }
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    if (path === "/health" || path === "/api/health") return health(request, response, process_, mounts);
    const mount = handlers.get(path);
    if (!mount)
      return send(response, 404, {
        error: "not_found",
        message: `Nothing is served at this path. Served: ${[...handlers.keys(), "/health"].join(", ")}`,
      });
    const name = request.headers["swarm-agent"];
    if (name !== undefined && !isAgentId(name)) {
      return send(response, 400, {
        error: "invalid_argument",
        message: "The Swarm-Agent header is not an agent id: letters, digits and . _ @ - , up to 64.",
      });
    }
    void mount.node(request as IncomingMessage & { method: string; url: string }, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const taken = cause.code === "EADDRINUSE";
      reject(
        new SwarmError("unavailable", taken ? `Port ${address.port} is taken.` : `Port ${address.port} could not be opened.`, {
          hint: taken ? "Stop what uses it, or give another with --http <port>." : "Give another with --http <port>.",
          cause,
        }),
      );
    });
    server.listen(address.port, address.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${address.host.includes(":") ? `[${address.host}]` : address.host}:${port}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await Promise.all([...handlers.values()].map(({ close }) => close()));
      server.closeIdleConnections();
      const drained = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await closed;
      clearTimeout(drained);
    },
  };
}

/** Over HTTP in an open swarm the name comes from a header, on trust, and nothing tells whether the caller still lives. */
function callerOf(headers: Headers | undefined): Caller {
  return { agentId: headers?.get("swarm-agent") ?? ANONYMOUS, verified: false, processId: undefined };
}

/** A page of another local program (a development server on another port) is as foreign as any: its Origin is not where it asks. */
function isOwnPage({ headers: { origin, host } }: IncomingMessage): boolean {
  return origin === undefined || (URL.canParse(origin) && new URL(origin).host === host?.toLowerCase());
}

function isAgentId(name: string | string[]): boolean {
  if (typeof name !== "string") return false;
  try {
    checkAgentId(name);
    return true;
  } catch {
    return false;
  }
}

function health(
  request: IncomingMessage,
  response: ServerResponse,
  process_: SwarmProcess,
  mounts: ReadonlyMap<string, MountedServer>,
): void {
  if (request.method !== "GET" && request.method !== "HEAD") {
    send(response, 405, { error: "method_not_allowed" });
    return;
  }
  const servers = [...mounts.values()].map(({ definition }) => ({ name: definition.name, version: definition.version }));
  process_
    .ground()
    .then(({ store }) => store.now().then((now) => ({ engine: store.engine, now })))
    .then(
      ({ engine, now }) => send(response, 200, { status: "ok", engine, now, servers }),
      (error: unknown) => {
        const known = error instanceof SwarmError ? error.message : "The store does not answer.";
        send(response, 503, { status: "unavailable", message: known, servers });
      },
    );
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response
    .writeHead(status, { "content-type": "application/json", "cache-control": "no-store" })
    .end(`${JSON.stringify(body)}\n`);
}
