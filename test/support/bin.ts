/** The bins as processes: run to their end, serving HTTP, or spoken to line by line. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { homeOfTests } from "./home.ts";
import { binOf, eventually } from "./host.ts";

/** How long a command may run before a test gives up on it. */
const COMMAND_MS_MAX = 30_000;
const ANSWER_MS_MAX = 20_000;

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** Given to stdin, which is then closed. */
  input?: string | Buffer;
  withinMs?: number;
}

/** The environment of a user with nothing set, and what is given. */
export function plainEnv(env: Record<string, string | undefined> = {}): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: homeOfTests(), ...env };
}

/** Runs a command to its end. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const child = spawn(command, args, { env: plainEnv(options.env), cwd: options.cwd, stdio: ["pipe", "pipe", "pipe"] });
  const late = setTimeout(() => child.kill("SIGKILL"), options.withinMs ?? COMMAND_MS_MAX);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdin.on("error", () => {}); // a process that ends early does not read its input; its exit code tells
  child.stdin.end(options.input ?? "");
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
  });
  clearTimeout(late);
  return { code, signal, stdout, stderr };
}

/** Runs a server's bin to its end. */
export function runBin(server: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return run(process.execPath, [binOf(server), ...args], options);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A server that serves HTTP in a process of its own. */
export interface HttpServerProcess {
  readonly url: string;
  readonly pid: number;
  output(): string;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a program that says its URL, and waits until it has. */
export async function startHttp(
  args: readonly string[],
  env: Record<string, string | undefined>,
  options: { says?: RegExp; cwd?: string; command?: string } = {},
): Promise<HttpServerProcess> {
  const { says = /at (http:\/\/[^\s/]+)/, cwd, command = process.execPath } = options;
  const child = spawn(command, args, { env: plainEnv(env), cwd, stdio: ["ignore", "pipe", "pipe"] });
  let heard = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
    });
  }
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), ANSWER_MS_MAX);
    await ended;
    clearTimeout(late);
  };
  const url = await eventually("the server says its URL", () => {
    if (child.exitCode !== null) throw new Error(`The server ended with ${child.exitCode}:\n${heard}`);
    return says.exec(heard)?.[1];
  }).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  return { url, pid: child.pid ?? -1, output: () => heard, stop, [Symbol.asyncDispose]: stop };
}

export function startServerHttp(
  server: string,
  env: Record<string, string | undefined>,
  args: readonly string[] = [],
): Promise<HttpServerProcess> {
  return startHttp([binOf(server), "--http", "0", ...args], env);
}

interface Message {
  jsonrpc: "2.0";
  id?: number | string | null;
  method?: string;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: Record<string, unknown> };
  params?: Record<string, unknown>;
}

/**
 * A host that writes what it likes: JSON-RPC by hand over a server's stdin. Every line that the server writes to stdout must
 * be a JSON-RPC message, else `answer` fails and `strays` names it.
 */
export class RawHost {
  readonly child: ChildProcess;
  readonly messages: Message[] = [];
  /** Lines of stdout that are no protocol messages. */
  readonly strays: string[] = [];
  stderr = "";
  #nextId = 1;
  /** Told of each message, and with undefined of the end. */
  readonly #listeners = new Set<(message: Message | undefined) => void>();
  readonly #ended: Promise<void>;

  /** `server`: a server's name, or the file of another one. */
  constructor(server: string | { file: string }, env: Record<string, string | undefined>, args: readonly string[] = []) {
    const file = typeof server === "string" ? binOf(server) : server.file;
    const child = spawn(process.execPath, [file, ...args], { env: plainEnv(env), stdio: ["pipe", "pipe", "pipe"] });
    this.child = child;
    child.stdin.on("error", () => {}); // a server that ended does not read on; `alive` tells
    child.stderr.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    createInterface({ input: child.stdout }).on("line", (line) => this.#heard(line));
    this.#ended = new Promise((resolve) => child.once("close", () => resolve()));
    void this.#ended.then(() => {
      for (const listener of this.#listeners) listener(undefined);
    });
  }

  #heard(line: string): void {
    try {
      const message = JSON.parse(line) as Message;
      if (message.jsonrpc !== "2.0") throw new Error("no protocol message");
      this.messages.push(message);
      for (const listener of this.#listeners) listener(message);
    } catch {
      this.strays.push(line.slice(0, 200));
    }
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  write(text: string | Buffer): void {
    this.child.stdin?.write(text);
  }

  /** Sends a request with these parameters as they are, and answers the response. */
  async ask(method: string, params?: unknown): Promise<Message> {
    const id = this.#nextId++;
    this.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
    return await this.answer(id);
  }

  /** Sends a `tools/call` whose arguments are this JSON text, which need not be what an encoder would write. */
  async callText(tool: string, argumentsText: string): Promise<Message> {
    const id = this.#nextId++;
    this.write(
      `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":${JSON.stringify(tool)},"arguments":${argumentsText}}}\n`,
    );
    return await this.answer(id);
  }

  /** The response to a request that was written, whenever it comes. */
  async answer(id: number): Promise<Message> {
    const isAnswer = (message: Message) => message.id === id && message.method === undefined;
    const known = this.messages.find(isAnswer);
    if (known) return known;
    return await new Promise<Message>((resolve, reject) => {
      const failed = (what: string) =>
        reject(new Error(`${what} before an answer to request ${id}. Its stderr:\n${this.stderr}`));
      const late = setTimeout(() => failed(`${ANSWER_MS_MAX} ms passed`), ANSWER_MS_MAX);
      const settle = (message: Message | undefined) => {
        if (message !== undefined && !isAnswer(message)) return;
        clearTimeout(late);
        this.#listeners.delete(settle);
        if (message) resolve(message);
        else failed("The server ended");
      };
      this.#listeners.add(settle);
    });
  }

  /** The handshake of a host of the 2025 protocol. */
  async initialize(): Promise<Message> {
    const answer = await this.ask("initialize", {
      protocolVersion: "2025-11-25",
      capabilities: {},
      clientInfo: { name: "raw-host", version: "1.0.0" },
    });
    this.write(`${JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })}\n`);
    return answer;
  }

  async end(): Promise<void> {
    this.child.stdin?.end();
    const late = setTimeout(() => this.child.kill("SIGKILL"), ANSWER_MS_MAX);
    await this.#ended;
    clearTimeout(late);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
