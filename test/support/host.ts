/** A host as users have it: an official client with a stdio server process of its own, or one that reaches a server over HTTP. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClientOptions, Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioV2 } from "@modelcontextprotocol/client/stdio";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CreateMessageRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { homeOfTests } from "./home.ts";

export const ROOT = join(import.meta.dirname, "..", "..");

/**
 * `v1`: the maintenance line's client, revision 2025-11-25. `v2`: the stable line's, either revision; `v2-auto` finds out which
 * by asking, over stdio in a process of its own.
 */
export type Era = "v1" | "v2-legacy" | "v2-modern" | "v2-auto";
export const ERAS = ["v1", "v2-legacy", "v2-modern"] as const;
const MODERN = "2026-07-28";

export function binOf(server: string): string {
  return join(ROOT, "servers", server, "dist", "main.js");
}

/** One part of an answer, as far as tests look at it. */
export interface ContentPart {
  type: string;
  text?: string;
  data?: string;
  mimeType?: string;
  uri?: string;
}

export interface ToolAnswer {
  isError: boolean;
  /** The parts that are text. */
  text: string;
  content: readonly ContentPart[];
  structured: Record<string, unknown>;
}

export interface HostOptions {
  server?: string;
  era?: Era;
  agent?: string;
  store?: string;
  args?: readonly string[];
  env?: Record<string, string>;
  /** What starts the server instead of this Node, with the arguments before `args`. */
  command?: string;
  prefix?: readonly string[];
  /** The host's model, which a server may then ask; what it throws is a refusal. */
  model?: Model;
}

/** Answers a prompt as a host's model does. */
export type Model = (asked: { prompt: string; system: string | undefined; maxTokens: number }) => string | Promise<string>;

export interface CallOptions {
  signal?: AbortSignal;
  onprogress?: (progress: { progress: number; message?: string | undefined }) => void;
  timeout?: number;
}

export interface ToolListing {
  name: string;
  title?: string;
  description?: string;
  inputSchema: Record<string, unknown>;
  outputSchema?: Record<string, unknown>;
  annotations?: Record<string, unknown>;
}

/** What a server said without being asked. */
export interface Notification {
  method: string;
  params?: Record<string, unknown>;
}

export interface ResourceListing {
  uri: string;
  name: string;
  title?: string;
  mimeType?: string;
}

/** What a host is told about until it ends it. */
export interface Subscribed {
  /** Those of the resources that the server agreed to. */
  uris: readonly string[];
  end(): Promise<void>;
  /** How it ended, when the server can say so. */
  ended?: Promise<string>;
}

/** The least of both clients' `Client` that the tests use. */
interface AnyClient {
  listResources(params?: { cursor: string }): Promise<{ resources: ResourceListing[]; nextCursor?: string }>;
  listResourceTemplates(): Promise<{ resourceTemplates: (ResourceListing & { uriTemplate: string })[] }>;
  readResource(params: {
    uri: string;
  }): Promise<{ contents: { uri: string; mimeType?: string; text?: string; blob?: string }[] }>;
  subscribe(uris: readonly string[]): Promise<Subscribed>;
  getServerCapabilities(): Record<string, unknown> | undefined;
  callTool(request: { name: string; arguments: Record<string, unknown> }, options?: CallOptions): Promise<unknown>;
  listTools(): Promise<{ tools: ToolListing[] }>;
  getInstructions(): string | undefined;
  close(): Promise<void>;
}

const CLIENT_INFO = { name: "test-host", version: "1.0.0" };

/** What the host's side of a connection does besides asking. */
interface Surroundings {
  notifications: Notification[];
  model: Model | undefined;
}

const MODEL = "test-model";

interface SampleParams {
  messages: readonly { content: unknown }[];
  systemPrompt?: string | undefined;
  maxTokens: number;
}

async function sampled(model: Model, { messages, systemPrompt, maxTokens }: SampleParams) {
  const asked = messages[0]?.content as { text: string } | undefined;
  const text = await model({ prompt: asked?.text ?? "", system: systemPrompt, maxTokens });
  return { role: "assistant" as const, model: MODEL, content: { type: "text" as const, text } };
}

/** Each by itself, as the 2025 protocol has it: all or none are there when this returns. */
async function subscribeEach(
  client: {
    subscribeResource(of: { uri: string }): Promise<unknown>;
    unsubscribeResource(of: { uri: string }): Promise<unknown>;
  },
  uris: readonly string[],
): Promise<Subscribed> {
  for (const uri of uris) await client.subscribeResource({ uri });
  return {
    uris,
    end: async () => {
      for (const uri of uris) await client.unsubscribeResource({ uri });
    },
  };
}

/** An official client of one era, connected. */
async function connect(
  era: Era,
  transports: { v1: () => StdioV1 | HttpV1; v2: () => StdioV2 | HttpV2 },
  { notifications, model }: Surroundings,
): Promise<AnyClient> {
  const capabilities = model ? { sampling: {} } : {};
  const hear = async (heard: Notification) => void notifications.push(heard);
  if (era === "v1") {
    const v1 = new ClientV1(CLIENT_INFO, { capabilities });
    v1.fallbackNotificationHandler = hear as NonNullable<typeof v1.fallbackNotificationHandler>;
    if (model) v1.setRequestHandler(CreateMessageRequestSchema, ({ params }) => sampled(model, params));
    await v1.connect(transports.v1() as Parameters<typeof v1.connect>[0]);
    return {
      callTool: (request, options) => v1.callTool(request, undefined, options as Parameters<typeof v1.callTool>[2]),
      listTools: async () => (await v1.listTools()) as { tools: ToolListing[] },
      listResources: async (page) => (await v1.listResources(page)) as Awaited<ReturnType<AnyClient["listResources"]>>,
      listResourceTemplates: async () =>
        (await v1.listResourceTemplates()) as unknown as Awaited<ReturnType<AnyClient["listResourceTemplates"]>>,
      readResource: async (of) => (await v1.readResource(of)) as Awaited<ReturnType<AnyClient["readResource"]>>,
      subscribe: (uris) => subscribeEach(v1, uris),
      getServerCapabilities: () => v1.getServerCapabilities(),
      getInstructions: () => v1.getInstructions(),
      close: () => v1.close(),
    };
  }
  const modes = { "v2-legacy": "legacy", "v2-modern": { pin: MODERN }, "v2-auto": "auto" } as const;
  const options: ClientOptions = { versionNegotiation: { mode: modes[era] }, capabilities };
  const v2 = new ClientV2(CLIENT_INFO, options);
  v2.fallbackNotificationHandler = hear as NonNullable<typeof v2.fallbackNotificationHandler>;
  if (model) v2.setRequestHandler("sampling/createMessage", ({ params }) => sampled(model, params));
  await v2.connect(transports.v2());
  if (v2.getProtocolEra() !== (era === "v2-legacy" ? "legacy" : "modern")) throw new Error(`Not connected as ${era}`);
  return {
    callTool: (request, options) => v2.callTool(request, options as Parameters<typeof v2.callTool>[1]),
    listTools: async () => (await v2.listTools()) as { tools: ToolListing[] },
    listResources: async (page) => (await v2.listResources(page)) as Awaited<ReturnType<AnyClient["listResources"]>>,
    listResourceTemplates: async () =>
      (await v2.listResourceTemplates()) as unknown as Awaited<ReturnType<AnyClient["listResourceTemplates"]>>,
    readResource: async (of) => (await v2.readResource(of)) as Awaited<ReturnType<AnyClient["readResource"]>>,
    subscribe: async (uris) => {
      if (era === "v2-legacy") return await subscribeEach(v2, uris);
      const stream = await v2.listen({ resourceSubscriptions: [...uris] });
      return { uris: stream.honoredFilter.resourceSubscriptions ?? [], end: () => stream.close(), ended: stream.closed };
    },
    getServerCapabilities: () => v2.getServerCapabilities(),
    getInstructions: () => v2.getInstructions(),
    close: () => v2.close(),
  };
}

export class Host {
  readonly client: AnyClient;
  readonly pid: number;
  readonly agent: string | undefined;
  /** Everything the server said without being asked, but for progress. */
  readonly notifications: readonly Notification[];
  readonly #heard: { text: string };

  private constructor(
    client: AnyClient,
    pid: number,
    agent: string | undefined,
    heard: { text: string },
    notifications: readonly Notification[],
  ) {
    this.client = client;
    this.pid = pid;
    this.agent = agent;
    this.#heard = heard;
    this.notifications = notifications;
  }

  /** Starts the server's bin with nothing inherited but PATH, and a home of this run, and connects. */
  static async start(options: HostOptions = {}): Promise<Host> {
    const { server = "task-coordination", era = "v2-modern", agent, store, args = [], env = {} } = options;
    const { command = process.execPath, prefix = [binOf(server)] } = options;
    const transportOptions = {
      command,
      args: [...prefix, ...args],
      env: {
        PATH: process.env.PATH ?? "",
        HOME: homeOfTests(),
        ...(agent === undefined ? {} : { SWARM_AGENT: agent }),
        ...(store === undefined ? {} : { SWARM_STORE: store }),
        ...env,
      },
      stderr: "pipe" as const,
    };
    const heard = { text: "" };
    const notifications: Notification[] = [];
    let transport: StdioV1 | StdioV2 | undefined;
    const listen = <T extends StdioV1 | StdioV2>(made: T): T => {
      made.stderr?.on("data", (chunk: Buffer) => {
        heard.text += chunk.toString();
      });
      transport = made;
      return made;
    };
    try {
      const client = await connect(
        era,
        { v1: () => listen(new StdioV1(transportOptions)), v2: () => listen(new StdioV2(transportOptions)) },
        { notifications, model: options.model },
      );
      return new Host(client, transport?.pid ?? -1, agent, heard, notifications);
    } catch (error) {
      throw new Error(`The server did not answer. Its stderr:\n${heard.text}`, { cause: error });
    }
  }

  /** A host that reaches a server over Streamable HTTP; it says who it is in the `Swarm-Agent` header, and proves it by a token. */
  static async http(url: string, options: { era?: Era; agent?: string; token?: string; model?: Model } = {}): Promise<Host> {
    const { era = "v2-modern", agent, token } = options;
    const named: Record<string, string> = agent === undefined ? {} : { "Swarm-Agent": agent };
    const requestInit = { headers: token === undefined ? named : { ...named, Authorization: `Bearer ${token}` } };
    const notifications: Notification[] = [];
    const client = await connect(
      era,
      { v1: () => new HttpV1(new URL(url), { requestInit }), v2: () => new HttpV2(new URL(url), { requestInit }) },
      { notifications, model: options.model },
    );
    return new Host(client, -1, agent, { text: "(the server is another process)" }, notifications);
  }

  get stderr(): string {
    return this.#heard.text;
  }

  /** Calls a tool and returns what came, error or not. */
  async try(tool: string, args: Record<string, unknown> = {}, options?: CallOptions): Promise<ToolAnswer> {
    const result = (await this.client.callTool({ name: tool, arguments: args }, options)) as {
      isError?: boolean;
      content?: ContentPart[];
      structuredContent?: Record<string, unknown>;
    };
    const content = result.content ?? [];
    const text = content.flatMap((part) => (part.type === "text" ? (part.text ?? "") : [])).join("\n");
    return { isError: result.isError === true, text, content, structured: result.structuredContent ?? {} };
  }

  /** Calls a tool that must succeed; the whole answer and the server's stderr are in the error when it does not. */
  async call<T = Record<string, unknown>>(tool: string, args: Record<string, unknown> = {}, options?: CallOptions): Promise<T> {
    const answer = await this.try(tool, args, options);
    if (answer.isError) throw new Error(`${tool}(${JSON.stringify(args)}) failed:\n${answer.text}\nstderr:\n${this.stderr}`);
    return answer.structured as T;
  }

  /** Reads a resource, which is JSON. */
  async read<T = Record<string, unknown>>(uri: string): Promise<T> {
    const { contents } = await this.client.readResource({ uri });
    return JSON.parse(contents[0]?.text ?? "null") as T;
  }

  /** Asks to be told of changes to these resources, in the way of the host's protocol revision. */
  async subscribe(...uris: string[]): Promise<Subscribed> {
    return await this.client.subscribe(uris);
  }

  /** How often the server said that this resource has changed. */
  updates(uri: string): number {
    return this.notifications.filter(({ method, params }) => method === "notifications/resources/updated" && params?.uri === uri)
      .length;
  }

  /** SIGKILL: what a crash or the kernel's memory killer does. */
  async kill(): Promise<void> {
    process.kill(this.pid, "SIGKILL");
    await this.client.close();
  }

  async close(): Promise<void> {
    await this.client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A folder of its own for one test, removed at the end. */
export function temporaryFolder(): { path: string; store: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), "mcp-swarm-test-"));
  return {
    path,
    store: `sqlite:${join(path, "swarm.db")}`,
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Looks every few ms until `probe` gives something; fails after `withinMs` saying what was awaited. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  withinMs = 20_000,
): Promise<T> {
  const until = performance.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > until) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
