/** A host as users have it: an official client with a stdio server process of its own, or one that reaches a server over HTTP. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClientOptions, Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioV2 } from "@modelcontextprotocol/client/stdio";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

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

export interface ToolAnswer {
  isError: boolean;
  text: string;
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
}

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

/** The least of both clients' `Client` that the tests use. */
interface AnyClient {
  callTool(request: { name: string; arguments: Record<string, unknown> }, options?: CallOptions): Promise<unknown>;
  listTools(): Promise<{ tools: ToolListing[] }>;
  getInstructions(): string | undefined;
  close(): Promise<void>;
}

const CLIENT_INFO = { name: "test-host", version: "1.0.0" };

/** An official client of one era, connected. */
async function connect(era: Era, transports: { v1: () => StdioV1 | HttpV1; v2: () => StdioV2 | HttpV2 }): Promise<AnyClient> {
  if (era === "v1") {
    const v1 = new ClientV1(CLIENT_INFO);
    await v1.connect(transports.v1() as Parameters<typeof v1.connect>[0]);
    return {
      callTool: (request, options) => v1.callTool(request, undefined, options as Parameters<typeof v1.callTool>[2]),
      listTools: async () => (await v1.listTools()) as { tools: ToolListing[] },
      getInstructions: () => v1.getInstructions(),
      close: () => v1.close(),
    };
  }
  const modes = { "v2-legacy": "legacy", "v2-modern": { pin: MODERN }, "v2-auto": "auto" } as const;
  const negotiation: ClientOptions = { versionNegotiation: { mode: modes[era] } };
  const v2 = new ClientV2(CLIENT_INFO, negotiation);
  await v2.connect(transports.v2());
  if (v2.getProtocolEra() !== (era === "v2-legacy" ? "legacy" : "modern")) throw new Error(`Not connected as ${era}`);
  return {
    callTool: (request, options) => v2.callTool(request, options as Parameters<typeof v2.callTool>[1]),
    listTools: async () => (await v2.listTools()) as { tools: ToolListing[] },
    getInstructions: () => v2.getInstructions(),
    close: () => v2.close(),
  };
}

export class Host {
  readonly client: AnyClient;
  readonly pid: number;
  readonly agent: string | undefined;
  readonly #heard: { text: string };

  private constructor(client: AnyClient, pid: number, agent: string | undefined, heard: { text: string }) {
    this.client = client;
    this.pid = pid;
    this.agent = agent;
    this.#heard = heard;
  }

  /** Starts the server's bin with nothing inherited but PATH and HOME, and connects. */
  static async start(options: HostOptions = {}): Promise<Host> {
    const { server = "task-coordination", era = "v2-modern", agent, store, args = [], env = {} } = options;
    const { command = process.execPath, prefix = [binOf(server)] } = options;
    const transportOptions = {
      command,
      args: [...prefix, ...args],
      env: {
        PATH: process.env.PATH ?? "",
        HOME: process.env.HOME ?? "",
        ...(agent === undefined ? {} : { SWARM_AGENT: agent }),
        ...(store === undefined ? {} : { SWARM_STORE: store }),
        ...env,
      },
      stderr: "pipe" as const,
    };
    const heard = { text: "" };
    let transport: StdioV1 | StdioV2 | undefined;
    const listen = <T extends StdioV1 | StdioV2>(made: T): T => {
      made.stderr?.on("data", (chunk: Buffer) => {
        heard.text += chunk.toString();
      });
      transport = made;
      return made;
    };
    try {
      const client = await connect(era, {
        v1: () => listen(new StdioV1(transportOptions)),
        v2: () => listen(new StdioV2(transportOptions)),
      });
      return new Host(client, transport?.pid ?? -1, agent, heard);
    } catch (error) {
      throw new Error(`The server did not answer. Its stderr:\n${heard.text}`, { cause: error });
    }
  }

  /** A host that reaches a server over Streamable HTTP; it says who it is in the `Swarm-Agent` header. */
  static async http(url: string, options: { era?: Era; agent?: string } = {}): Promise<Host> {
    const { era = "v2-modern", agent } = options;
    const requestInit = agent === undefined ? {} : { headers: { "Swarm-Agent": agent } };
    const client = await connect(era, {
      v1: () => new HttpV1(new URL(url), { requestInit }),
      v2: () => new HttpV2(new URL(url), { requestInit }),
    });
    return new Host(client, -1, agent, { text: "(the server is another process)" });
  }

  get stderr(): string {
    return this.#heard.text;
  }

  /** Calls a tool and returns what came, error or not. */
  async try(tool: string, args: Record<string, unknown> = {}, options?: CallOptions): Promise<ToolAnswer> {
    const result = (await this.client.callTool({ name: tool, arguments: args }, options)) as {
      isError?: boolean;
      content?: { type: string; text?: string }[];
      structuredContent?: Record<string, unknown>;
    };
    const text = (result.content ?? []).map((part) => part.text ?? "").join("\n");
    return { isError: result.isError === true, text, structured: result.structuredContent ?? {} };
  }

  /** Calls a tool that must succeed; the whole answer and the server's stderr are in the error when it does not. */
  async call<T = Record<string, unknown>>(tool: string, args: Record<string, unknown> = {}, options?: CallOptions): Promise<T> {
    const answer = await this.try(tool, args, options);
    if (answer.isError) throw new Error(`${tool}(${JSON.stringify(args)}) failed:\n${answer.text}\nstderr:\n${this.stderr}`);
    return answer.structured as T;
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
