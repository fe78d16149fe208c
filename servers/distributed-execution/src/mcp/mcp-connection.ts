/** One connection to another MCP server, through the official client, in whichever revision of the protocol the server speaks. */
import { type Clock, type JsonObject, SwarmError } from "@mcp-swarm/core";
import {
  type CallToolResult,
  Client,
  type FetchLike,
  ProtocolError,
  SdkError,
  SdkErrorCode,
  StreamableHTTPClientTransport,
  type Transport,
} from "@modelcontextprotocol/client";
import { CfWorkerJsonSchemaValidator } from "@modelcontextprotocol/client/validators/cf-worker";
import type { Leash } from "./leash.ts";
import { isHttp, type McpServer } from "./mcp-config.ts";
import { type Redactor, resolveServer } from "./server-secrets.ts";
import { RECEIVED_BYTES_MAX, StdioLink } from "./stdio-link.ts";

/** How long a server may keep silent when it is asked which revision it speaks, as a share of its time to start. */
const PROBE_SHARE = 0.5;
/** The client's own limit on a call lies beyond every limit of ours, which end the connection as well. */
const BEYOND_LIMITS_MS = 24 * 3_600_000;
/** Most characters of a progress message that are passed on. */
const PROGRESS_CHARS_MAX = 1_000;

export interface ConnectionOptions {
  readonly name: string;
  readonly server: McpServer;
  /** The worker's environment, from which the server is given what its operator lists. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly leash: Leash;
  readonly clock: Clock;
}

/** Why a call brought nothing. */
export type CallFailure =
  /** The server answered that it cannot, or with something that is no answer. */
  | { readonly kind: "refused"; readonly text: string }
  /** It wanted to ask a person or a model. */
  | { readonly kind: "asked" }
  | { readonly kind: "gone" }
  | { readonly kind: "said_too_much" }
  | { readonly kind: "aborted" };

export type CallAnswer = { readonly result: CallToolResult } | { readonly failure: CallFailure };

type Wire = { readonly link: StdioLink } | { readonly http: StreamableHTTPClientTransport; readonly budget: Budget };

export class McpConnection {
  readonly name: string;
  readonly redactor: Redactor;
  readonly #client: Client;
  readonly #wire: Wire;
  #closed = false;

  private constructor(name: string, redactor: Redactor, client: Client, wire: Wire) {
    this.name = name;
    this.redactor = redactor;
    this.#client = client;
    this.#wire = wire;
    client.onclose = () => {
      this.#closed = true;
    };
    client.onerror = () => {}; // what concerns a call fails the call; lines that are no messages concern none
  }

  /**
   * Starts or reaches the server, and agrees with it on a revision.
   * @throws SwarmError unavailable: it could not be started, or did not speak the protocol within its time
   */
  static async open(options: ConnectionOptions, signal: AbortSignal): Promise<McpConnection> {
    const { server, redactor } = resolveServer(options.name, options.server, options.env);
    const resolved = { ...options, server };
    const first = await attempt(resolved, redactor, signal, "auto");
    if ("connection" in first) return first.connection;
    // some servers of older revisions end when they are asked something before they are initialized
    const again = !signal.aborted && first.error instanceof SdkError && first.error.code === SdkErrorCode.EraNegotiationFailed;
    const last = again ? await attempt(resolved, redactor, signal, "legacy") : first;
    if ("connection" in last) return last.connection;
    throw notReached(options.name, last, redactor);
  }

  /** @internal */
  static of(name: string, redactor: Redactor, client: Client, wire: Wire): McpConnection {
    return new McpConnection(name, redactor, client, wire);
  }

  get alive(): boolean {
    return !this.#closed && !("link" in this.#wire && this.#wire.link.end !== undefined);
  }

  /** For the next task: it may have as much said as the one before. */
  renew(): void {
    if ("link" in this.#wire) this.#wire.link.allowAnew();
    else this.#wire.budget.left = RECEIVED_BYTES_MAX;
  }

  /** Never throws. After anything but an answer the connection is not to be used again. */
  async call(
    tool: string,
    args: JsonObject,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (message: string) => void },
  ): Promise<CallAnswer> {
    try {
      const result = await this.#client.callTool(
        { name: tool, arguments: args as Record<string, unknown> },
        {
          signal,
          timeout: BEYOND_LIMITS_MS,
          onprogress: ({ message, progress, total }) => {
            const text = message ?? (total === undefined ? String(progress) : `${progress}/${total}`);
            onProgress(this.redactor.text(text.slice(0, PROGRESS_CHARS_MAX)));
          },
        },
      );
      return { result };
    } catch (error) {
      return { failure: this.#failureOf(error, signal) };
    }
  }

  #failureOf(error: unknown, signal: AbortSignal): CallFailure {
    if (signal.aborted) return { kind: "aborted" };
    const tooMuch = "link" in this.#wire ? this.#wire.link.end === "said_too_much" : this.#wire.budget.left < 0;
    if (tooMuch) return { kind: "said_too_much" };
    if (!this.alive) return { kind: "gone" };
    if (error instanceof ProtocolError) return { kind: "refused", text: this.redactor.text(error.message) };
    if (!(error instanceof SdkError)) return { kind: "link" in this.#wire ? "refused" : "gone", text: "" };
    if (ASKING.has(error.code)) return { kind: "asked" };
    return ENDED.has(error.code) ? { kind: "gone" } : { kind: "refused", text: this.redactor.text(error.message) };
  }

  /** Resolves when the server's processes are dead. */
  async close(): Promise<void> {
    this.#closed = true;
    if ("link" in this.#wire) await this.#wire.link.close();
    await this.#client.close();
  }
}

const ASKING: ReadonlySet<string> = new Set([SdkErrorCode.CapabilityNotSupported]);
const ENDED: ReadonlySet<string> = new Set([SdkErrorCode.ConnectionClosed, SdkErrorCode.NotConnected, SdkErrorCode.SendFailed]);

type Attempt = { readonly connection: McpConnection } | { readonly error: unknown; readonly said: string };

async function attempt(
  { name, server, env, leash, clock }: ConnectionOptions,
  redactor: Redactor,
  signal: AbortSignal,
  mode: "auto" | "legacy",
): Promise<Attempt> {
  // no capabilities: there is no person and no model behind this client that a server could ask
  const client = new Client(
    { name: "mcp-swarm-distributed-execution", version: "1" },
    {
      capabilities: {},
      jsonSchemaValidator: new CfWorkerJsonSchemaValidator(), // compiles no code from a stranger's schema
      versionNegotiation: { mode, probe: { timeoutMs: Math.max(1, Math.floor(server.startMs * PROBE_SHARE)) } },
      inputRequired: { autoFulfill: false },
    },
  );
  const { transport, wire } = wired(server, { env, leash, clock });
  const over = Promise.withResolvers<never>();
  const stop = () => over.reject(new Error("It was given up."));
  const late = clock.timer(server.startMs, () => over.reject(new Error(`It did not answer within ${server.startMs} ms.`)));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  over.promise.catch(() => {}); // raced below
  try {
    const connecting = client.connect(transport, { timeout: server.startMs });
    connecting.catch(() => {}); // the race may be lost to it
    await Promise.race([connecting, over.promise]);
    return { connection: McpConnection.of(name, redactor, client, wire) };
  } catch (error) {
    if ("link" in wire) await wire.link.close();
    await client.close();
    return { error, said: "link" in wire ? wire.link.diagnostics : "" };
  } finally {
    late[Symbol.dispose]();
    signal.removeEventListener("abort", stop);
  }
}

function wired(
  server: McpServer,
  { env, leash, clock }: Pick<ConnectionOptions, "env" | "leash" | "clock">,
): { transport: Transport; wire: Wire } {
  if (!isHttp(server)) {
    const link = new StdioLink(server, { leash, path: env.PATH ?? "", clock });
    return { transport: link, wire: { link } };
  }
  const budget: Budget = { left: RECEIVED_BYTES_MAX };
  const http = new StreamableHTTPClientTransport(new URL(server.url), {
    requestInit: { headers: server.headers },
    fetch: boundedFetch(budget),
  });
  return { transport: http as Transport, wire: { http, budget } };
}

function notReached(name: string, { error, said }: { error: unknown; said: string }, redactor: Redactor): SwarmError {
  const reason = error instanceof Error ? error.message : "unknown";
  return new SwarmError("unavailable", `The MCP server ${name} could not be started or reached.`, {
    hint: "Whoever runs the worker finds the reason in its log.",
    // without the error's own causes, which may hold what the server was started with
    cause: new Error(redactor.text(said === "" ? reason : `${reason}; it said: ${said}`)),
  });
}

/** Bytes that may still arrive over one HTTP connection. */
interface Budget {
  left: number;
}

/** `fetch`, whose answers together hold no more than the budget. */
function boundedFetch(budget: Budget): FetchLike {
  return async (url, init) => {
    const response = await fetch(url, init);
    if (!response.body) return response;
    const counting = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        budget.left -= chunk.byteLength;
        if (budget.left < 0) controller.error(new Error("The server said too much."));
        else controller.enqueue(chunk);
      },
    });
    const { status, statusText, headers } = response;
    return new Response(response.body.pipeThrough(counting), { status, statusText, headers });
  };
}
