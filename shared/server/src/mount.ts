import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import { type Admission, type Caller, fingerprintOf } from "@mcp-swarm/identity";
import { type CallToolResult, ProtocolError, ProtocolErrorCode, type Tool as ToolDefinition } from "@modelcontextprotocol/server";
import * as z from "zod";
import { answer, attributed, refusal } from "./answer.ts";
import { Attachments } from "./content.ts";
import type { Domain, ServerDefinition } from "./definition.ts";
import { isNamedOnly } from "./fields.ts";
import { parseInput } from "./input.ts";
import { askedUris, LISTEN } from "./listen.ts";
import type { SwarmProcess } from "./process.ts";
import type { Resource } from "./resource.ts";
import type { MountedResources } from "./resources.ts";
import { type Sample, SamplePending, type Tool } from "./tool.ts";

/** Which of a server's tools and resources are served. */
export interface Selection {
  /** Names of toolsets; all when absent. */
  toolsets?: readonly string[];
  readOnly?: boolean;
}

/** A tool's name and what it is called with. */
export interface CalledTool {
  name: string;
  arguments?: unknown;
}

/** Where a call comes from, besides its arguments. */
export interface Origin {
  caller: Caller;
  signal: AbortSignal;
  progress(message: string): void;
  /** Asks the host's model, when the host offers it. */
  sample?: Sample;
}

/** One server in one process: its tools and resources over its domain, whatever carries the calls. */
export class MountedServer<D extends Domain = Domain> {
  readonly definition: ServerDefinition<D>;
  readonly #process: SwarmProcess;
  readonly #tools = new Map<string, Tool<D>>();
  readonly #resources: readonly Resource<D>[];
  #mountedResources: Promise<MountedResources<D>> | undefined;
  #domain: Promise<D> | undefined;
  /** The domain before, while it gives back what it held. */
  #closing: Promise<void> = Promise.resolve();
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
    process.whenShutOut(() => this.#closeDomain());
    this.#resources = (definition.resources ?? []).filter(({ toolset }) => selection.toolsets?.includes(toolset) ?? true);
  }

  /**
   * The domain, opened by whoever first needs it, and anew after this process was shut out for a while.
   * @throws SwarmError what opening the store does; unauthenticated, permission_denied, failed_precondition while this process is shut out
   */
  domain(): Promise<D> {
    if (!this.#domain) {
      const opening = this.#closing.then(() => this.#openDomain());
      this.#domain = opening;
      opening.catch(() => {
        if (this.#domain === opening) this.#domain = undefined; // the caller reads why; the next call tries again
      });
    }
    return this.#domain;
  }

  async #openDomain(): Promise<D> {
    const { config, clock, random, log, processId } = this.#process;
    const { store, presence, guard, security } = await this.#process.ground();
    guard.checkProcess();
    const secured = security ? { signatures: security.trust, security } : {};
    return await this.definition.open({ store, presence, config, clock, random, log, processId, ...secured });
  }

  #closeDomain(): Promise<void> {
    const domain = this.#domain;
    this.#domain = undefined;
    const closed = this.#closing.then(async () => {
      const opened = await domain?.catch(() => undefined); // one that never opened holds nothing
      await opened?.close();
    });
    this.#closing = closed.catch(() => {}); // whoever asked for it is told
    return closed;
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

  /** Patterns that together cover every operation of this server, for those who ask for a token. */
  get scopes(): string[] {
    const operations = [...this.#tools.values(), ...this.#resources].map(({ operation }) => operation);
    return [...new Set(operations.map((operation) => `${operation.slice(0, operation.indexOf(":"))}:*`))].sort();
  }

  /** The operations that a request of the protocol is about, as policies name them; none for what is the same for every caller. */
  async operationsOf(request: unknown): Promise<readonly string[]> {
    const { method, params } = (typeof request === "object" && request !== null ? request : {}) as {
      method?: unknown;
      params?: { name?: unknown; uri?: unknown } | null;
    };
    if (method === "tools/call") {
      const tool = typeof params?.name === "string" ? this.#tools.get(params.name) : undefined;
      return tool ? [tool.operation] : [];
    }
    if (method === "resources/list") return this.#resources.map(({ operation }) => operation);
    const uris = method === LISTEN ? askedUris({ method, params }) : [params?.uri];
    if (!this.hasResources || !uris) return [];
    const resources = await this.resources();
    return uris.flatMap((uri) => (typeof uri === "string" ? (resources.operationOn(uri) ?? []) : []));
  }

  /** Runs a tool. What the tool throws comes back as a result that the model reads; an unknown tool is a protocol error. */
  async call({ name, arguments: args }: CalledTool, origin: Origin): Promise<CallToolResult> {
    const tool = this.#tools.get(name);
    // the name is whatever was sent
    if (!tool) throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Unknown tool: tools/list names those there are.");
    try {
      return await this.#run(tool, args, origin);
    } catch (error) {
      if (error instanceof ProtocolError || error instanceof SamplePending) throw error; // the call is made again with the answer
      if (origin.signal.aborted && error === origin.signal.reason) throw error; // cancelled, or the host is gone: no failure, and nobody hears of it
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
    const { presence, guard } = await this.#process.ground();
    const once =
      typeof idempotencyKey === "string"
        ? { key: idempotencyKey, fingerprint: fingerprintOf(tool.name, withoutSecrets(tool, input)) }
        : undefined;
    const { name, operation } = tool;
    const admission = await guard.admit(
      caller,
      { operation, resource: tool.resource(input, caller), arguments: input, tool: name },
      once,
    );
    const attachments = new Attachments();
    const output = await settled(admission, async () => {
      const domain = await this.domain();
      if (caller.agentId !== ANONYMOUS) await presence.touch(caller);
      const { call } = admission;
      const { progress, sample } = origin;
      const sampling = sample && tool.effects.readOnly ? { sample } : {};
      return await tool.handle(domain, input, {
        call,
        caller,
        get signal() {
          return admission.ended ? AbortSignal.any([origin.signal, admission.ended]) : origin.signal; // most tools never ask
        },
        progress,
        attach: (part) => attachments.add(part),
        ...sampling,
      });
    });
    return answer(tool.output.parse(attributed(output, tool.untrusted, caller), checks) as JsonObject, attachments.parts);
  }

  async close(): Promise<void> {
    await this.#closeDomain();
  }
}

/** The input but for its secrets: a hash of a short one would give it away. */
function withoutSecrets(tool: Pick<Tool<unknown>, "secretInput">, input: JsonObject): JsonObject {
  const secret = tool.secretInput(input);
  if (secret.length === 0) return input;
  return Object.fromEntries(Object.entries(input).filter(([name]) => !secret.includes(name)));
}

/** Runs what was let in, and writes down what became of it before anybody is told. */
export async function settled<T>(admission: Admission, run: () => Promise<T>): Promise<T> {
  let result: T;
  try {
    result = await run();
  } catch (error) {
    await admission.settle(error instanceof SamplePending ? undefined : error); // that is made again with an answer, and no failure
    throw error;
  }
  await admission.settle();
  return result;
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
