/** The client's end of a server that talks over stdio: its process, what it may say, and the end of it. */
import { type ChildProcess, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import type { Clock } from "@mcp-swarm/core";
import { type JSONRPCMessage, ReadBuffer, serializeMessage, type Transport } from "@modelcontextprotocol/client";
import { killLeashed, type Leash } from "./leash.ts";
import type { StdioServer } from "./mcp-config.ts";

/** Most bytes of one message. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;
/** Most that a server may say during one task, protocol and diagnostics together, in bytes. */
export const RECEIVED_BYTES_MAX = 16 * 1024 * 1024;
/** What is kept of its diagnostics, in bytes: the last of them. */
const DIAGNOSTICS_BYTES = 4_096;
/** How long it may take to end by itself when its input ends, in ms. */
const GRACE_MS = 500;

export type LinkEnd = "closed" | "ended" | "said_too_much";

export class StdioLink implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  /** The protocol's client tells by these two that it talks to a process, in which silence may mean an older revision. */
  readonly stderr = null;
  pid: number | null = null;
  readonly #server: StdioServer;
  readonly #leash: Leash;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #buffer = new ReadBuffer({ maxBufferSize: MESSAGE_BYTES_MAX });
  #child: ChildProcess | undefined;
  #gone: Promise<void> = Promise.resolve();
  #end: LinkEnd | undefined;
  #received = 0;
  #diagnostics = Buffer.alloc(0);

  /** @param path PATH of the server, all that it gets besides what its operator lists */
  constructor(server: StdioServer, { leash, path, clock }: { leash: Leash; path: string; clock: Clock }) {
    this.#server = server;
    this.#leash = leash;
    this.#path = path;
    this.#clock = clock;
  }

  /** How it ended; undefined while it is there. */
  get end(): LinkEnd | undefined {
    return this.#end;
  }

  /** The last that it wrote to stderr: a stranger's text. */
  get diagnostics(): string {
    return this.#diagnostics.toString("utf8");
  }

  /** From now on it may say as much as one task may have it say. */
  allowAnew(): void {
    this.#received = 0;
  }

  async start(): Promise<void> {
    const [command = "", ...args] = [...this.#leash.command, this.#server.command, ...this.#server.args];
    const child = spawn(command, args, {
      env: { PATH: this.#path, ...this.#server.env },
      cwd: this.#server.cwd ?? tmpdir(),
      stdio: this.#leash.stdio,
      detached: this.#leash.detached,
      windowsHide: true,
    });
    this.#child = child;
    this.pid = child.pid ?? null;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    child.once("close", () => {
      this.#ended("ended");
      resolve();
    });
    const [input, output, errors, held] = child.stdio;
    for (const stream of [input, output, errors, held]) stream?.on("error", (error) => this.onerror?.(error));
    output?.on("data", (chunk: Buffer) => this.#hear(chunk));
    // whoever holds it open besides, a server that says no more is of no use
    output?.once("end", () => this.#stop("ended"));
    errors?.on("data", (chunk: Buffer) => this.#note(chunk));
    await new Promise<void>((started, failed) => {
      child.once("spawn", started);
      child.once("error", (error) => {
        this.#ended("ended");
        resolve();
        failed(error);
      });
    });
  }

  #hear(chunk: Buffer): void {
    if (!this.#within(chunk.length)) return;
    try {
      this.#buffer.append(chunk);
    } catch {
      this.#stop("said_too_much");
      return;
    }
    for (;;) {
      try {
        const message = this.#buffer.readMessage();
        if (message === null || this.#end !== undefined) return;
        this.onmessage?.(message);
      } catch (error) {
        this.onerror?.(error instanceof Error ? error : new Error("not a message")); // the next line may be one
      }
    }
  }

  #note(chunk: Buffer): void {
    if (this.#within(chunk.length)) this.#diagnostics = Buffer.concat([this.#diagnostics, chunk]).subarray(-DIAGNOSTICS_BYTES);
  }

  #within(bytes: number): boolean {
    if (this.#end !== undefined) return false;
    this.#received += bytes;
    if (this.#received <= RECEIVED_BYTES_MAX) return true;
    this.#stop("said_too_much");
    return false;
  }

  /** It has no more to say that is heard. */
  #stop(end: LinkEnd): void {
    this.#ended(end);
    this.#kill();
  }

  #ended(end: LinkEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#buffer.clear();
    this.onclose?.();
  }

  #kill(): void {
    if (this.#child) killLeashed(this.#child, this.#leash);
    for (const stream of this.#child?.stdio ?? []) stream?.destroy();
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const input = this.#child?.stdin;
    if (!input || this.#end !== undefined) throw new Error("The server has ended.");
    await new Promise<void>((resolve, reject) => {
      input.write(serializeMessage(message), (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Resolves when all its processes are dead. It may end by itself for `GRACE_MS`. */
  async close(): Promise<void> {
    const child = this.#child;
    this.#ended("closed");
    if (!child) return;
    child.stdin?.end();
    const late = this.#clock.timer(GRACE_MS, () => this.#kill());
    await Promise.race([this.#gone, exited(child)]);
    late[Symbol.dispose]();
    this.#kill(); // what it left behind
    await this.#gone;
  }
}

function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}
