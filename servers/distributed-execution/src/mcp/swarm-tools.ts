/** The runner's own servers of the suite, called as any host calls them: over the protocol, as one agent. */
import { type Clock, type Json, type JsonObject, newId, SwarmError } from "@mcp-swarm/core";
import type { Leash } from "./leash.ts";
import { isHttp, type McpServer, parseServer } from "./mcp-config.ts";
import { McpConnection } from "./mcp-connection.ts";

/** How long a server of the suite may take to give back what it held, in ms. */
const GRACE_MS = 3_000;
/** It is told of its host's end by the end of its input, and then gives back; killed with its host it could not. */
const ON_ITS_OWN: Leash = { kind: "process", command: [], stdio: ["pipe", "pipe", "pipe"], detached: false, graceMs: GRACE_MS };
/** Besides SWARM_*: by these a server finds where its store is when nothing names it. */
const PASSED_ON = ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "APPDATA", "LOCALAPPDATA", "CLAUDE_PROJECT_DIR"];
/** Code of an answer that says nothing about a code. */
const UNKNOWN_CODE = "internal";

type Environment = Readonly<Record<string, string | undefined>>;

/** Where a server of the suite is, as its operator wrote it; started by npx when that says nothing. */
export function swarmServer(input: Json | undefined, name: string, agentId: string, env: Environment): McpServer {
  const server = parseServer(input ?? { command: "npx", args: ["-y", `@mcp-swarm/${name}`] }, `runner.${name}`);
  if (isHttp(server)) {
    // in a secured swarm the name is in the token
    const anonymous = Object.keys(server.headers).every((header) => !/^(authorization|swarm-agent)$/i.test(header));
    return anonymous ? { ...server, headers: { ...server.headers, "Swarm-Agent": agentId } } : server;
  }
  const own = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && (entry[0].startsWith("SWARM_") || PASSED_ON.includes(entry[0])),
  );
  // an agent with keys has its name from them
  const named = env.SWARM_AGENT === undefined && env.SWARM_KEY_FILE === undefined ? { SWARM_AGENT: agentId } : {};
  return { cwd: process.cwd(), ...server, env: { ...Object.fromEntries(own), ...named, ...server.env } };
}

/** What a tool of the suite answered when it refused. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
}

export class SwarmTools {
  readonly #connection: McpConnection;

  private constructor(connection: McpConnection) {
    this.#connection = connection;
  }

  /** @throws SwarmError unavailable */
  static async open(
    name: string,
    server: McpServer,
    { env, clock, signal }: { env: Environment; clock: Clock; signal: AbortSignal },
  ): Promise<SwarmTools> {
    return new SwarmTools(await McpConnection.open({ name, server, env, clock, leash: ON_ITS_OWN }, signal));
  }

  get alive(): boolean {
    return this.#connection.alive;
  }

  /**
   * Calls a tool; a write is repeatable, because it carries a key of its own.
   * @throws SwarmError unavailable when the server is gone; the signal's reason when it aborts
   */
  async call(tool: string, args: JsonObject, signal: AbortSignal): Promise<{ result: JsonObject } | { refusal: Refusal }> {
    this.#connection.renew();
    const answer = await this.#connection.call(tool, args, { signal, onProgress: () => {} });
    if ("failure" in answer) {
      signal.throwIfAborted();
      throw new SwarmError("unavailable", `The server behind ${tool} did not answer.`, { hint: "It is connected to again." });
    }
    const { isError, structuredContent, _meta } = answer.result;
    if (isError === true) return { refusal: refusalIn(_meta) };
    return { result: (structuredContent ?? {}) as JsonObject };
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}

function refusalIn(meta: Record<string, unknown> | undefined): Refusal {
  const detail = meta?.["mcp-swarm/error"] as { code?: unknown; message?: unknown } | undefined;
  return {
    code: typeof detail?.code === "string" ? detail.code : UNKNOWN_CODE,
    message: typeof detail?.message === "string" ? detail.message : "",
  };
}

/** The same for every repetition of one write. */
export function writeKey(): string {
  return newId("write");
}
