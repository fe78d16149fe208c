/**
 * A host with nothing in it: JSON-RPC by the line over a server's stdin and stdout. What an official client adds (it checks
 * every answer) would be the same for both sides of a comparison, and hide the servers' share.
 */
import { type ChildProcess, spawn } from "node:child_process";

export type Era = "modern" | "legacy";

/** How to start a server. */
export interface Launch {
  command: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
}

export interface ToolResult {
  isError?: boolean;
  content: { type: string; text?: string }[];
  structuredContent?: Record<string, unknown>;
}

interface Reply {
  id?: number;
  result?: unknown;
  error?: { code: number; message: string };
}

const CLIENT = { name: "bench", version: "1.0.0" };
const ENVELOPE = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientInfo": CLIENT,
  "io.modelcontextprotocol/clientCapabilities": {},
};
/** Longest that an answer may take. */
const ANSWER_MS_MAX = 60_000;
const END_MS_MAX = 5_000;

export class LineClient {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #era: Era;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #lastId = 0;
  #rest = "";
  #stderr = "";

  constructor({ command, args, env }: Launch, era: Era = "modern") {
    this.#era = era;
    this.#child = spawn(command, args, { env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", ...env } });
    this.pid = this.#child.pid ?? -1;
    this.#child.stdout?.setEncoding("utf8").on("data", (chunk: string) => this.#hear(chunk));
    this.#child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-4_000);
    });
    const failed = (why: string) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`The server ${why}:\n${this.#stderr}`));
      this.#waiting.clear();
    };
    this.#child.on("error", (error) => failed(`did not start (${error.message})`));
    this.#child.on("close", () => failed("ended"));
  }

  /** The first exchange: what a host asks before anything else. */
  async open(): Promise<void> {
    if (this.#era === "modern") return void (await this.request("server/discover", {}));
    await this.request("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: CLIENT });
    this.#send({ jsonrpc: "2.0", method: "notifications/initialized" });
  }

  /** Calls a tool; its refusal is an answer, a protocol error throws. */
  async call(name: string, args: Record<string, unknown> = {}): Promise<ToolResult> {
    return (await this.request("tools/call", { name, arguments: args })) as ToolResult;
  }

  /** Calls a tool that must succeed, and answers what it holds. */
  async ask(name: string, args: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const result = await this.call(name, args);
    const text = result.content[0]?.text ?? "";
    if (result.isError) throw new Error(`${name} was refused: ${text}\n${this.#stderr}`);
    return result.structuredContent ?? { text };
  }

  request(method: string, params: Record<string, unknown>): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`No answer to ${method} within ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX);
      const settled =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(late);
          then(value);
        };
      this.#waiting.set(id, { resolve: settled(resolve), reject: settled(reject) });
      this.#send({ jsonrpc: "2.0", id, method, params: this.#era === "modern" ? { ...params, _meta: ENVELOPE } : params });
    });
  }

  /** Ends the server as a host does: its stdin ends. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#child.once("close", () => resolve()));
    this.#child.stdin?.end();
    const kill = setTimeout(() => this.#child.kill("SIGKILL"), END_MS_MAX);
    await ended;
    clearTimeout(kill);
  }

  #send(message: object): void {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  #hear(chunk: string): void {
    const lines = (this.#rest + chunk).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const reply = JSON.parse(line) as Reply;
      const waiting = reply.id === undefined ? undefined : this.#waiting.get(reply.id);
      if (!waiting || reply.id === undefined) continue;
      this.#waiting.delete(reply.id);
      if (reply.error) waiting.reject(new Error(`${reply.error.code}: ${reply.error.message}`));
      else waiting.resolve(reply.result);
    }
  }
}
