import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import { type Caller, fingerprintOf, onceCall } from "@mcp-swarm/identity";
import {
  type CallToolResult,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type Tool as ToolDefinition,
} from "@modelcontextprotocol/server";
import * as z from "zod";
import { answer, refusal } from "./answer.ts";
import type { Domain, ServerDefinition } from "./definition.ts";
import { isNamedOnly } from "./fields.ts";
import { parseInput } from "./input.ts";
import type { SwarmProcess } from "./process.ts";
import type { Tool } from "./tool.ts";

/** Which of a server's tools are served. */
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
}

/** How long hosts may keep the list of tools: it is the same for every connection and changes only with the version. */
const LIST_TTL_MS = 3_600_000;

/** One server in one process: its tools over its domain, whatever carries the calls. */
export class MountedServer<D extends Domain = Domain> {
  readonly definition: ServerDefinition<D>;
  readonly #process: SwarmProcess;
  readonly #tools = new Map<string, Tool<D>>();
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
    const output = await tool.handle(domain, input, { call, caller, signal: origin.signal, progress: origin.progress });
    const complete = { ...output, caller: { agentId: caller.agentId, verified: caller.verified } };
    const untrusted = tool.untrusted.filter((path) => holds(output, path.split(".")));
    return answer(tool.output.parse(untrusted.length > 0 ? { ...complete, untrusted } : complete, checks) as JsonObject);
  }

  async close(): Promise<void> {
    const domain = await this.#domain?.catch(() => undefined); // one that never opened holds nothing
    await domain?.close();
  }
}

/** Whether there is anything at a path such as `tasks[].title`. */
function holds(value: unknown, [step, ...rest]: readonly string[]): boolean {
  if (step === undefined) return value !== undefined;
  if (typeof value !== "object" || value === null) return false;
  if (!step.endsWith("[]")) return holds((value as JsonObject)[step], rest);
  const items = (value as JsonObject)[step.slice(0, -2)];
  return Array.isArray(items) && items.some((item) => holds(item, rest));
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

/** A protocol server for one connection (stdio) or one request (HTTP); `callerOf` says who is at its other end. */
export function protocolServer<D extends Domain>(
  mounted: MountedServer<D>,
  callerOf: (headers: Headers | undefined) => Caller,
): Server {
  const { name, title, version, instructions } = mounted.definition;
  const server = new Server(
    { name: `mcp-swarm-${name}`, title, version },
    {
      capabilities: { tools: {} },
      instructions,
      cacheHints: {
        "tools/list": { ttlMs: LIST_TTL_MS, cacheScope: "public" },
        "server/discover": { ttlMs: LIST_TTL_MS, cacheScope: "public" },
      },
    },
  );
  server.setRequestHandler("tools/list", () => mounted.list());
  server.setRequestHandler("tools/call", async (request, context) => {
    const token = context.mcpReq._meta?.progressToken;
    let progress = 0;
    return await mounted.call(request.params.name, request.params.arguments, {
      caller: callerOf(context.http?.req?.headers),
      signal: context.mcpReq.signal,
      progress: (message) => {
        if (token === undefined) return;
        progress += 1;
        // a caller that is gone is told nothing: its signal ends the call
        context.mcpReq
          .notify({ method: "notifications/progress", params: { progressToken: token, progress, message } })
          .catch(() => {});
      },
    });
  });
  return server;
}
