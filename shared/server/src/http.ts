import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SwarmError } from "@mcp-swarm/core";
import { type Caller, checkAgentId } from "@mcp-swarm/identity";
import { hostHeaderValidation, originValidation, toNodeHandler } from "@modelcontextprotocol/node";
import { type AuthInfo, createMcpHandler, type McpHttpHandler, type McpServerFactory } from "@modelcontextprotocol/server";
import type { Config } from "./config.ts";
import type { HttpCaller } from "./http-auth.ts";
import type { HttpFront } from "./http-front.ts";
import { bracketed, type HttpAddress, type HttpSite, isInClear, isSecured, siteOf } from "./http-site.ts";
import { LISTEN } from "./listen.ts";
import { HttpListens } from "./listen-http.ts";
import { unread } from "./log.ts";
import { ANONYMOUS, type MountedServer } from "./mount.ts";
import type { SwarmProcess } from "./process.ts";
import { type HttpFrom, protocolServer } from "./protocol-server.ts";
import type { Security } from "./security.ts";

export { isSecured, parseAddress } from "./http-site.ts";

/** How long open requests may take to end when the server stops. */
const DRAIN_MS = 500;
/** Most connections at once; further ones are closed as they come. */
const CONNECTIONS_MAX = 10_000;
/** How long a request may take to arrive whole. */
const ARRIVAL_MS_MAX = 60_000;
/** Largest body of a request of the protocol, in bytes. */
const BODY_BYTES_MAX = 4 * 1024 * 1024;

export interface HttpServing {
  /** The base URL, with the port that was really taken. */
  url: string;
  /** The base URL to tell others: SWARM_PUBLIC_URL in a secured swarm. */
  publicUrl: string;
  close(): Promise<void>;
}

/**
 * Serves each mounted server at its path, and `GET /health`. A foreign Host or Origin header is refused with 403 before
 * anything reads the request: that is what stops a web page from reaching a server on loopback (DNS rebinding). In a secured
 * swarm every request but those for health and metadata proves who makes it.
 * @throws SwarmError unavailable when the port is taken
 */
export async function serveHttp(
  mounts: ReadonlyMap<string, MountedServer>,
  process_: SwarmProcess,
  address: HttpAddress,
): Promise<HttpServing> {
  const onerror = (error: Error) => process_.log.warn(unread(error), "An HTTP exchange reported an error");
  const secured = isSecured(process_.config);
  const callers = new Callers(secured);
  const handlers = new Map(
    [...mounts].map(([path, mounted]) => {
      const callerOf = (from: HttpFrom | undefined) => callers.callerOf(from);
      const factory: McpServerFactory = ({ era }) => protocolServer(mounted, { callerOf, canSubscribe: era === "modern" });
      const handler = createMcpHandler(factory, { onerror });
      const listens = mounted.hasResources ? new HttpListens({ mounted, callerOf, factory, onerror }) : undefined;
      const fetch: McpHttpHandler["fetch"] = async (request, options) =>
        (await listens?.fetch(request, options)) ?? (await handler.fetch(request, options));
      const close = () => Promise.all([listens?.close(), handler.close()]);
      return [path, { close, node: toNodeHandler({ fetch }, { onerror, maxRequestBodySize: BODY_BYTES_MAX }) }];
    }),
  );

  const server = createServer({ requestTimeout: ARRIVAL_MS_MAX });
  server.maxConnections = CONNECTIONS_MAX;
  await listening(server, address);
  const bound = server.address() as AddressInfo;
  const site = siteOf(address, bound, secured ? process_.config.publicUrl : undefined);
  if (secured && isInClear(site)) {
    process_.log.warn(
      { url: site.bases[0] },
      "Tokens travel in clear: put TLS in front of this server, and set SWARM_PUBLIC_URL to its https URL",
    );
  }
  const hostAllowed = hostHeaderValidation([...site.hostnames]);
  const originAllowed = originValidation([...site.hostnames]);
  const fronts = secured ? new Fronts(site, mounts, process_) : undefined;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (!hostAllowed(request, response) || !originAllowed(request, response)) return;
    if (!isOwnPage(request)) {
      return send(response, 403, { error: "permission_denied", message: "The page that asks is not one of this server's." });
    }
    const path = localPath(site, pathOf(request));
    if (path === "/health" || path === "/api/health") return health(request, response, process_, mounts);
    const front = await fronts?.current();
    const answered = await front?.answer(request, path);
    if (answered) return send(response, answered.status, answered.body, answered.headers);
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
    if (!front) return await mount.node(request as NodeRequest, response);
    const from = await front.admit(request, path);
    if ("status" in from) return send(response, from.status, from.body, from.headers);
    // before its body is read: that may take long, and what it was let in by may end meanwhile
    const stillStands = front.endWithCredential(from, response, { streams: request.headers["mcp-method"] === LISTEN });
    const message = await readMessage(request);
    if (!(await stillStands())) return void response.destroy();
    const refusal = await front.scopeRefusal(from, request.headers.host, path, message);
    if (refusal) return send(response, refusal.status, refusal.body, refusal.headers);
    await mount.node(Object.assign(request as NodeRequest, { auth: callers.remember(from) }), response, message);
  };

  server.on("request", (request, response) => {
    answer(request, response).catch((error: unknown) => failed(error, response, process_));
  });
  return {
    url: `http://${bracketed(address.host)}:${bound.port}`,
    publicUrl: site.bases[0] ?? "",
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      fronts?.close();
      await Promise.all([...handlers.values()].map(({ close }) => close()));
      server.closeIdleConnections();
      const drained = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await closed;
      clearTimeout(drained);
    },
  };
}

type NodeRequest = IncomingMessage & { method: string; url: string };

/** @throws SwarmError unavailable */
async function listening(server: Server, { host, port }: HttpAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const taken = cause.code === "EADDRINUSE";
      reject(
        new SwarmError("unavailable", taken ? `Port ${port} is taken.` : `Port ${port} could not be opened.`, {
          hint: taken ? "Stop what uses it, or give another with --http <port>." : "Give another with --http <port>.",
          cause,
        }),
      );
    });
    server.listen(port, host, resolve);
  });
}

/**
 * Who makes a request. In an open swarm the name comes from a header, on trust; in a secured one from what the front proved. Nothing
 * tells whether a caller over HTTP still lives.
 */
class Callers {
  readonly #secured: boolean;
  readonly #proven = new WeakMap<AuthInfo, Caller>();

  constructor(secured: boolean) {
    this.#secured = secured;
  }

  /** What goes through the protocol library along with the request, to find its caller by. It holds no credential. */
  remember({ caller, expiresAt }: HttpCaller): AuthInfo {
    const auth = { token: "", clientId: caller.agentId, scopes: [], expiresAt: Math.floor(expiresAt / 1000) };
    this.#proven.set(auth, caller);
    return auth;
  }

  callerOf(from: HttpFrom | undefined): Caller {
    const proven = from?.authInfo && this.#proven.get(from.authInfo);
    if (proven) return proven;
    const name = this.#secured ? undefined : from?.req?.headers.get("swarm-agent");
    return { agentId: name ?? ANONYMOUS, verified: false, processId: undefined };
  }
}

/** The front over what this process trusts, made anew when the store was opened anew. */
class Fronts {
  readonly #site: HttpSite;
  readonly #mounts: ReadonlyMap<string, MountedServer>;
  readonly #process: SwarmProcess;
  #front: { readonly of: Security; readonly front: HttpFront } | undefined;

  constructor(site: HttpSite, mounts: ReadonlyMap<string, MountedServer>, process_: SwarmProcess) {
    this.#site = site;
    this.#mounts = mounts;
    this.#process = process_;
  }

  /** @throws SwarmError what opening the store does */
  async current(): Promise<HttpFront> {
    const [{ store, security }, { HttpFront }] = await Promise.all([this.#process.ground(), import("./http-front.ts")]);
    if (!security) throw new SwarmError("internal", "Broken invariant: a secured process has what it trusts");
    if (this.#front?.of === security) return this.#front.front;
    this.close();
    const { clock, log } = this.#process;
    const onError = (error: unknown) => log.warn({ err: error }, "Whether a credential is still good could not be found out");
    const front = new HttpFront({ site: this.#site, mounts: this.#mounts, security, store, clock, onError });
    this.#front = { of: security, front };
    return front;
  }

  close(): void {
    this.#front?.front[Symbol.dispose]();
  }
}

/** The path that is asked for; an address that is none has none. */
function pathOf({ url = "/" }: IncomingMessage): string {
  return URL.canParse(url, "http://localhost") ? new URL(url, "http://localhost").pathname : "";
}

/** The path as this server knows it: without what stands before it in the URL that others use. */
function localPath({ bases }: HttpSite, path: string): string {
  const prefix = new URL(bases[0] ?? "http://localhost").pathname.replace(/\/$/, "");
  return prefix !== "" && path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : path;
}

/** The body of a request of the protocol, parsed once for all who look at it; undefined when there is none, or it is no JSON. */
async function readMessage(request: IncomingMessage): Promise<unknown> {
  if (request.method !== "POST") return undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) {
      throw new SwarmError("limit_exceeded", `A request has at most ${BODY_BYTES_MAX} bytes.`, { hint: "Send less at once." });
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    // without the cause: it may hold a part of what was sent
    throw new SwarmError("invalid_argument", "The body of the request is not JSON.", { hint: "Send a request of JSON-RPC." });
  }
}

const FAILED_STATUS: Readonly<Record<string, number>> = { limit_exceeded: 413, invalid_argument: 400, internal: 500 };

/** Why this process does not work, as somebody is told who has proven nothing: others than its user may reach a secured one. */
function saidToAnybody(error: unknown, config: Config): string {
  if (isSecured(config)) return "The server does not work now; its log says why.";
  return error instanceof SwarmError ? error.message : "The store does not answer.";
}

/** The answer to a request that could not be answered otherwise: one that is malformed, or a store that does not open. */
function failed(error: unknown, response: ServerResponse, { log, config }: SwarmProcess): void {
  log.warn({ err: error }, "An HTTP request failed");
  if (response.headersSent) response.destroy();
  else if (error instanceof SwarmError) {
    const status = FAILED_STATUS[error.code];
    // what is wrong with the request was found out here; what is wrong with this process may name its files
    send(response, status ?? 503, {
      error: error.code,
      message: status === undefined ? saidToAnybody(error, config) : error.message,
    });
  } else send(response, 500, { error: "internal", message: "The request failed; the server's log says why." });
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
        send(response, 503, { status: "unavailable", message: saidToAnybody(error, process_.config), servers });
      },
    );
}

function send(response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response
    .writeHead(status, { ...headers, "content-type": "application/json", "cache-control": "no-store" })
    .end(`${JSON.stringify(body)}\n`);
}
