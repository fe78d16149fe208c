import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import { type Caller, fingerprintOf, onceCall } from "@mcp-swarm/identity";
import {
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  type ClientCapabilities,
  type InputRequiredResult,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type ServerCapabilities,
  type ServerContext,
  type Tool as ToolDefinition,
} from "@modelcontextprotocol/server";
import * as z from "zod";
import { answer, attributed, refusal } from "./answer.ts";
import type { Domain, ServerDefinition } from "./definition.ts";
import { isNamedOnly } from "./fields.ts";
import { parseInput } from "./input.ts";
import type { SwarmProcess } from "./process.ts";
import type { Resource } from "./resource.ts";
import type { MountedResources } from "./resources.ts";
import type { SamplingRound } from "./sampling.ts";
import { type Sample, SamplePending, type Tool } from "./tool.ts";

/** Which of a server's tools and resources are served. */
export interface Selection {
  /** Names of toolsets; all when absent. */
  toolsets?: readonly string[];
  readOnly?: boolean;
}

/** Where a call comes from, besides its arguments. */
export interface Origin {
  caller: Caller;
  signal: AbortSignal;
  progress(message: string): void;
  /** Asks the host's model, when the host offers it. */
  sample?: Sample;
}

/** How long hosts may keep the list of tools: it is the same for every connection and changes only with the version. */
const LIST_TTL_MS = 3_600_000;

/** One server in one process: its tools and resources over its domain, whatever carries the calls. */
export class MountedServer<D extends Domain = Domain> {
  readonly definition: ServerDefinition<D>;
  readonly #process: SwarmProcess;
  readonly #tools = new Map<string, Tool<D>>();
  readonly #resources: readonly Resource<D>[];
  #mountedResources: Promise<MountedResources<D>> | undefined;
  #domain: Promise<D> | undefined;
  #list: { tools: ToolDefinition[] } | undefined;
  /** Tools that were called: from the second call on it pays that zod compiles their checks. */
  readonly #called = new Set<string>();

  /** @throws SwarmError invalid_argument for an unknown toolset */
  constructor(definition: ServerDefinition<D>, process: SwarmProcess, selection: Selection = {}) {
    const known = Object.keys(definition.toolsets);
    const unknown = selection.toolsets?.find((name) => !known.includes(name));
    if (unknown !== undefined) {
      throw new SwarmError("invalid_argument", `${definition.name} has no toolset "${unknown}".`, {
        hint: `It has: ${known.join(", ")}.`,
      });
    }
    this.definition = definition;
    this.#process = process;
    for (const tool of definition.tools) {
      if (selection.toolsets && !selection.toolsets.includes(tool.toolset)) continue;
      if (selection.readOnly && !tool.effects.readOnly) continue;
      this.#tools.set(tool.name, tool);
    }
    this.#resources = (definition.resources ?? []).filter(({ toolset }) => selection.toolsets?.includes(toolset) ?? true);
  }

  /** The domain, opened by whoever first needs it. */
  domain(): Promise<D> {
    if (!this.#domain) {
      const { config, clock, random, log, processId } = this.#process;
      const opening = this.#process
        .ground()
        .then(({ store, presence }) => this.definition.open({ store, presence, config, clock, random, log, processId }));
      this.#domain = opening;
      opening.catch(() => {
        this.#domain = undefined; // the caller reads why; the next call tries again
      });
    }
    return this.#domain;
  }

  get hasResources(): boolean {
    return this.#resources.length > 0;
  }

  /** Loaded when somebody first asks for one: a start does not wait for it. */
  resources(): Promise<MountedResources<D>> {
    this.#mountedResources ??= import("./resources.ts").then(({ MountedResources }) => {
      const { clock, log } = this.#process;
      return new MountedResources(this.#resources, {
        domain: () => this.domain(),
        ground: () => this.#process.ground(),
        clock,
        log,
      });
    });
    return this.#mountedResources;
  }

  list(): { tools: ToolDefinition[] } {
    this.#list ??= { tools: [...this.#tools.values()].map(toDefinition) };
    return this.#list;
  }

  /** Runs a tool. What the tool throws comes back as a result that the model reads; an unknown tool is a protocol error. */
  async call(name: string, args: unknown, origin: Origin): Promise<CallToolResult> {
    const tool = this.#tools.get(name);
    if (!tool) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Unknown tool: ${name.slice(0, 64)}`);
    try {
      return await this.#run(tool, args, origin);
    } catch (error) {
      if (error instanceof SamplePending) throw error; // the call is made again with the answer
      return refusal(error, tool.name, this.#process.log);
    }
  }

  async #run(tool: Tool<D>, args: unknown, origin: Origin): Promise<CallToolResult> {
    const checks = { jitless: !this.#called.has(tool.name) };
    this.#called.add(tool.name);
    const { idempotencyKey, ...input } = parseInput(tool.input, args, checks);
    const { caller } = origin;
    if (!tool.effects.readOnly && caller.agentId === ANONYMOUS) {
      throw new SwarmError("unauthenticated", "This call changes something, and nobody says who makes it.", {
        hint: "Give the host a header Swarm-Agent with a name of its own for this agent.",
      });
    }
    const domain = await this.domain();
    const { store, presence } = await this.#process.ground();
    if (caller.agentId !== ANONYMOUS) await presence.touch(caller);
    const once =
      typeof idempotencyKey === "string" ? { key: idempotencyKey, fingerprint: fingerprintOf(tool.name, input) } : undefined;
    const call = onceCall({ store, caller }, once);
    const { signal, progress, sample } = origin;
    const sampling = sample && tool.effects.readOnly ? { sample } : {};
    const output = await tool.handle(domain, input, { call, caller, signal, progress, ...sampling });
    return answer(tool.output.parse(attributed(output, tool.untrusted, caller), checks) as JsonObject);
  }

  async close(): Promise<void> {
    const domain = await this.#domain?.catch(() => undefined); // one that never opened holds nothing
    await domain?.close();
  }
}

/** The name of an HTTP caller that gave none; it may read. */
export const ANONYMOUS = "anonymous";

function toDefinition<D>(tool: Tool<D>): ToolDefinition {
  const { readOnly, destructive, idempotent, openWorld } = tool.effects;
  return {
    name: tool.name,
    title: tool.title,
    description: tool.description,
    inputSchema: jsonSchema(tool.input, "input"),
    outputSchema: jsonSchema(tool.output, "output"),
    annotations: {
      title: tool.title,
      readOnlyHint: readOnly,
      destructiveHint: destructive,
      idempotentHint: idempotent,
      openWorldHint: openWorld,
    },
  };
}

function jsonSchema(schema: z.ZodObject, io: "input" | "output"): ToolDefinition["inputSchema"] {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => shorten(jsonSchema, isNamedOnly(zodSchema)),
  });
  return rest as ToolDefinition["inputSchema"];
}

/** Leaves out what a model does not need: it pays for each character of a definition in every conversation. */
function shorten(schema: z.core.JSONSchema.BaseSchema, namedOnly: boolean): void {
  if (schema.enum) delete schema.type; // the values say it
  if (schema.minLength === 1) delete schema.minLength; // nobody means an empty text; it is refused all the same
  if (!namedOnly) return;
  for (const name of Object.keys(schema.properties ?? {})) {
    if (schema.properties && !schema.required?.includes(name)) schema.properties[name] = {};
  }
}

/** What carries one connection (stdio) or one request (HTTP), as far as a protocol server must know. */
export interface Carrier {
  /** Who is at the other end. */
  callerOf(headers: Headers | undefined): Caller;
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
      caller: carrier.callerOf(context.http?.req?.headers),
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
    const call = (sample?: Sample) => mounted.call(params.name, params.arguments, sample ? { ...origin, sample } : origin);
    const { envelope } = context.mcpReq;
    if (envelope)
      return (envelope as Envelope)[CLIENT_CAPABILITIES_META_KEY]?.sampling ? await callAgain(call, context) : await call();
    if (!server.getClientCapabilities()?.sampling) return await call();
    const { askingSample } = await import("./sampling.ts");
    const { requestSampling, signal } = context.mcpReq;
    return await call(askingSample((asked, options) => requestSampling(asked, options), signal));
  });
  if (mounted.hasResources) serveResources(server, mounted, carrier);
  return server;
}

/** What a request of revision 2026-07-28 says of its host, as far as it matters here. */
interface Envelope {
  readonly [CLIENT_CAPABILITIES_META_KEY]?: ClientCapabilities;
}

/** One try of a call whose host is asked by answering what the call still needs (revision 2026-07-28). */
async function callAgain(
  call: (sample: Sample) => Promise<CallToolResult>,
  { mcpReq }: ServerContext,
): Promise<CallToolResult | InputRequiredResult> {
  const { samplingRound } = await import("./sampling.ts");
  const round: SamplingRound = samplingRound(mcpReq.requestState(), mcpReq.inputResponses);
  try {
    const result = await call(round.sample);
    return round.needed() ?? result;
  } catch (error) {
    const needed = round.needed();
    if (needed) return needed;
    throw error;
  }
}

function serveResources<D extends Domain>(server: Server, mounted: MountedServer<D>, carrier: Carrier): void {
  const readerOf = (context: ServerContext) => ({
    caller: carrier.callerOf(context.http?.req?.headers),
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
