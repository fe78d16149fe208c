import type { Caller } from "@mcp-swarm/identity";
import {
  type AuthInfo,
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  type ClientCapabilities,
  type InputRequiredResult,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type ServerCapabilities,
  type ServerContext,
} from "@modelcontextprotocol/server";
import type { Domain } from "./definition.ts";
import type { CalledTool, MountedServer, Origin } from "./mount.ts";
import type { SamplingRound } from "./sampling.ts";
import { type Sample, SamplePending } from "./tool.ts";

/** How long hosts may keep the list of tools: it is the same for every connection and changes only with the version. */
const LIST_TTL_MS = 3_600_000;

/** The HTTP request that something comes with, as the protocol library hands it on. */
export interface HttpFrom {
  readonly req?: Request;
  /** What the library was given along with the request. */
  readonly authInfo?: AuthInfo;
}

/** What carries one connection (stdio) or one request (HTTP), as far as a protocol server must know. */
export interface Carrier {
  /** Who is at the other end. */
  callerOf(from: HttpFrom | undefined): Caller;
  /** Whether the other end can be told of changes: over HTTP in the 2025 protocol nothing lasts beyond a request. */
  readonly canSubscribe: boolean;
  /** What this connection has besides, and what the model reads about it. */
  readonly capabilities?: ServerCapabilities;
  readonly instructions?: string;
  /** What a host of the 2025 protocol subscribes with; the later one's listen streams are the carrier's own business. */
  readonly subscriptions?: { add(uri: string): Promise<void>; remove(uri: string): Promise<void> };
}

/** A protocol server for one connection (stdio) or one request (HTTP). */
export function protocolServer<D extends Domain>(mounted: MountedServer<D>, carrier: Carrier): Server {
  const { name, title, version, instructions } = mounted.definition;
  const resources = mounted.hasResources ? { resources: carrier.canSubscribe ? { subscribe: true } : {} } : {};
  const server = new Server(
    { name: `mcp-swarm-${name}`, title, version },
    {
      capabilities: { tools: {}, ...resources, ...carrier.capabilities },
      instructions: carrier.instructions ? `${instructions}\n\n${carrier.instructions}` : instructions,
      cacheHints: {
        "tools/list": { ttlMs: LIST_TTL_MS, cacheScope: "public" },
        "server/discover": { ttlMs: LIST_TTL_MS, cacheScope: "public" },
        "resources/templates/list": { ttlMs: LIST_TTL_MS, cacheScope: "public" },
        "resources/list": { ttlMs: 0, cacheScope: "private" },
        "resources/read": { ttlMs: 0, cacheScope: "private" },
      },
    },
  );
  server.setRequestHandler("tools/list", () => mounted.list());
  server.setRequestHandler("tools/call", async ({ params }, context) => {
    const token = context.mcpReq._meta?.progressToken;
    let progress = 0;
    const origin: Origin = {
      caller: carrier.callerOf(context.http),
      signal: context.mcpReq.signal,
      progress: (message) => {
        if (token === undefined) return;
        progress += 1;
        // a caller that is gone is told nothing: its signal ends the call
        context.mcpReq
          .notify({ method: "notifications/progress", params: { progressToken: token, progress, message } })
          .catch(() => {});
      },
    };
    const { envelope } = context.mcpReq;
    if (envelope) {
      if (!(envelope as Envelope)[CLIENT_CAPABILITIES_META_KEY]?.sampling) return await mounted.call(params, origin);
      return await callAgain(mounted, params, origin, context);
    }
    if (!server.getClientCapabilities()?.sampling) return await mounted.call(params, origin);
    return await mounted.call(params, { ...origin, sample: askedOf(context) });
  });
  if (mounted.hasResources) serveResources(server, mounted, carrier);
  return server;
}

/** What a request of revision 2026-07-28 says of its host, as far as it matters here. */
interface Envelope {
  readonly [CLIENT_CAPABILITIES_META_KEY]?: ClientCapabilities;
}

/** Asks a host of the 2025 protocol, which answers requests of its server. */
function askedOf({ mcpReq }: ServerContext): Sample {
  let sample: Promise<Sample> | undefined;
  return async (request) => {
    sample ??= import("./sampling.ts").then(({ askingSample }) =>
      askingSample((asked, options) => mcpReq.requestSampling(asked, options), mcpReq.signal),
    );
    return (await sample)(request);
  };
}

/** One try of a call whose host is asked by answering what the call still needs (revision 2026-07-28). */
async function callAgain<D extends Domain>(
  mounted: MountedServer<D>,
  params: CalledTool,
  origin: Origin,
  context: ServerContext,
): Promise<CallToolResult | InputRequiredResult> {
  let round: Promise<SamplingRound> | undefined;
  const begin = () => {
    const call = { tool: params.name, args: params.arguments, agentId: origin.caller.agentId };
    round ??= import("./sampling.ts").then(({ samplingRound }) => samplingRound(call, context));
    return round;
  };
  const sample: Sample = (request) => {
    const answered = begin().then((begun) => begun.sample(request));
    answered.catch(() => {}); // a handler that asks for two things at once awaits only one of them
    return answered;
  };
  try {
    const result = await mounted.call(params, { ...origin, sample });
    return (await (await round)?.needed()) ?? result;
  } catch (error) {
    const needed = error instanceof SamplePending ? await (await round)?.needed() : undefined;
    if (needed) return needed;
    throw error;
  }
}

function serveResources<D extends Domain>(server: Server, mounted: MountedServer<D>, carrier: Carrier): void {
  const readerOf = (context: ServerContext) => ({
    caller: carrier.callerOf(context.http),
    signal: context.mcpReq.signal,
  });
  server.setRequestHandler("resources/templates/list", async () => (await mounted.resources()).templates());
  server.setRequestHandler("resources/list", async ({ params }, context) =>
    (await mounted.resources()).list(params?.cursor, readerOf(context)),
  );
  server.setRequestHandler("resources/read", async ({ params }, context) =>
    (await mounted.resources()).read(params.uri, readerOf(context)),
  );
  const subscriptions = () => {
    if (carrier.subscriptions) return carrier.subscriptions;
    throw new ProtocolError(
      ProtocolErrorCode.MethodNotFound,
      "Over HTTP this revision of the protocol has no connection here that could be told of changes. Read the resource again, use revision 2026-07-28 (subscriptions/listen), or mount the server over stdio.",
    );
  };
  server.setRequestHandler("resources/subscribe", async ({ params }) => {
    await subscriptions().add(params.uri);
    return {};
  });
  server.setRequestHandler("resources/unsubscribe", async ({ params }) => {
    await subscriptions().remove(params.uri);
    return {};
  });
}
