import { type Caller, rootAgent } from "@mcp-swarm/identity";
import {
  createMcpHandler,
  type JSONRPCRequest,
  type McpHttpHandler,
  type McpServerFactory,
  ProtocolError,
  ProtocolErrorCode,
  type ServerEvent,
} from "@modelcontextprotocol/server";
import { askedUris, LISTEN, withUris } from "./listen.ts";
import type { MountedServer } from "./mount.ts";
import type { HttpFrom } from "./protocol-server.ts";
import { Subscriptions } from "./subscriptions.ts";

/** Most listen streams of one server over HTTP. */
const LISTENS_MAX = 200;
/** Of those, most of one agent, its subagents included: it must not take them all. */
const AGENT_LISTENS_MAX = 50;

type FetchOptions = NonNullable<Parameters<McpHttpHandler["fetch"]>[1]>;

export interface ListenHandlerOptions {
  mounted: MountedServer;
  callerOf(from: HttpFrom): Caller;
  factory: McpServerFactory;
  onerror(error: Error): void;
}

/**
 * Serves the listen streams of one server over HTTP. Each has an event bus of its own, because what a stream may be told was
 * decided for its caller alone, and because the bus is what learns that the stream has ended.
 */
export class HttpListens {
  readonly #options: ListenHandlerOptions;
  /** With the agent that each is of. */
  readonly #open = new Map<McpHttpHandler, string>();

  constructor(options: ListenHandlerOptions) {
    this.#options = options;
  }

  /** The answer to a request that opens a listen stream; undefined when it is some other request, or one to be refused as malformed. */
  async fetch(request: Request, options: FetchOptions = {}): Promise<Response | undefined> {
    if (request.headers.get("mcp-method") !== LISTEN) return undefined; // the SDK refuses a body that says otherwise
    const message = options.parsedBody === undefined ? parsed(await request.clone().text()) : asRequest(options.parsedBody);
    const asked = message && askedUris(message);
    if (!asked) return undefined;
    if (this.#open.size >= LISTENS_MAX) {
      const words = `This server has at most ${LISTENS_MAX} listen streams. Try again when others have ended.`;
      return refusal(message, new ProtocolError(ProtocolErrorCode.InternalError, words, { code: "limit_exceeded" }));
    }
    return this.#listen(request, message, asked, options);
  }

  async #listen(request: Request, message: JSONRPCRequest, asked: readonly string[], options: FetchOptions): Promise<Response> {
    const { mounted, callerOf, factory, onerror } = this.#options;
    const caller = callerOf({ req: request, ...options });
    const agent = rootAgent(caller.agentId);
    if ([...this.#open.values()].filter((one) => one === agent).length >= AGENT_LISTENS_MAX) {
      const words = `One agent has at most ${AGENT_LISTENS_MAX} listen streams of this server. End some first.`;
      return refusal(message, new ProtocolError(ProtocolErrorCode.InternalError, words, { code: "limit_exceeded" }));
    }
    let listener: ((event: ServerEvent) => void) | undefined;
    const subscriptions = new Subscriptions(
      async (uri, signal, onChange) => (await mounted.resources()).watch(uri, { caller, signal }, onChange),
      (uri) => listener?.({ kind: "resource_updated", uri }),
    );
    const end = () => {
      subscriptions.close();
      this.#open.delete(handler);
    };
    const handler = createMcpHandler(factory, {
      onerror,
      bus: {
        publish: () => {}, // what changed reaches the one listener straight from its watches
        subscribe: (tell) => {
          listener = tell;
          return end;
        },
      },
    });
    this.#open.set(handler, agent);
    try {
      const permitted = await subscriptions.addPermitted(asked);
      const response = await handler.fetch(request, { ...options, parsedBody: withUris(message, permitted) });
      if (!listener) end(); // refused, or nothing to tell
      return response;
    } catch (error) {
      end();
      if (error instanceof ProtocolError) return refusal(message, error);
      throw error;
    }
  }

  /** Ends every stream, and tells who listens that it was meant. */
  async close(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((handler) => handler.close()));
  }
}

function refusal({ id }: JSONRPCRequest, { code, message, data }: ProtocolError): Response {
  return Response.json({ jsonrpc: "2.0", id, error: { code, message, ...(data === undefined ? {} : { data }) } });
}

function parsed(text: string): JSONRPCRequest | undefined {
  try {
    return asRequest(JSON.parse(text));
  } catch {
    return undefined; // the SDK refuses it
  }
}

function asRequest(message: unknown): JSONRPCRequest | undefined {
  return typeof message === "object" && message !== null && "id" in message && "method" in message
    ? (message as JSONRPCRequest)
    : undefined;
}
