/** The client's end of a server that talks over stdio: its process, what it may say, and the end of it. */
import { type ChildProcess, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import type { Clock } from "@mcp-swarm/core";
import { deserializeMessage, type JSONRPCMessage, serializeMessage, type Transport } from "@modelcontextprotocol/client";
import { type Leash, Leashed } from "./leash.ts";
import type { StdioServer } from "./mcp-config.ts";

/** Most bytes of one message. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;
/** Most that a server may say during one task, protocol and diagnostics together, in bytes. */
export const RECEIVED_BYTES_MAX = 16 * 1024 * 1024;
/** Lines that are no messages, during one task; some servers greet on stdout. */
export const NOISE_LINES_MAX = 1_000;
/** What is kept of its diagnostics, in bytes: the last of them. */
const DIAGNOSTICS_BYTES = 4_096;
/** How long it may take to end by itself when its input ends, in ms, where its leash does not say otherwise. */
const GRACE_MS = 500;

const NEWLINE = 10;

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
  /** The beginning of a line whose end has not come. */
  #begun: Buffer[] = [];
  #begunBytes = 0;
  #noise = 0;
  #child: ChildProcess | undefined;
  #leashed: Leashed | undefined;
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
    this.#noise = 0;
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
    this.#leashed = new Leashed(child, this.#leash);
    this.pid = child.pid ?? null;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    child.once("close", () => {
      this.#ended("ended");
      resolve();
    });
    const [input, output, errors, held] = child.stdio;
    for (const stream of [input, output, errors, held]) stream?.on("error", (error) => this.onerror?.(error));
    output?.once("data", () => this.#leashed?.look());
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
    let begin = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0 && this.#end === undefined; end = chunk.indexOf(NEWLINE, begin)) {
      const line = Buffer.concat([...this.#begun, chunk.subarray(begin, end)]);
      this.#begun = [];
      this.#begunBytes = 0;
      begin = end + 1;
      this.#hearLine(line);
    }
    this.#begun.push(chunk.subarray(begin));
    this.#begunBytes += chunk.length - begin;
    if (this.#begunBytes > MESSAGE_BYTES_MAX) this.#stop("said_too_much");
  }

  #hearLine(line: Buffer): void {
    let message: JSONRPCMessage;
    try {
      message = deserializeMessage(line.toString("utf8"));
    } catch {
      this.#noise += 1; // no message of the protocol; the next line may be one
      if (this.#noise > NOISE_LINES_MAX) this.#stop("said_too_much");
      return;
    }
    this.onmessage?.(message);
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
    this.#begun = [];
    this.onclose?.();
  }

  #kill(): void {
    this.#leashed?.kill();
    for (const stream of this.#child?.stdio ?? []) stream?.destroy();
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const input = this.#child?.stdin;
    if (!input || this.#end !== undefined) throw new Error("The server has ended.");
    await new Promise<void>((resolve, reject) => {
      input.write(serializeMessage(message), (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Resolves when all its processes are dead. It may end by itself for a while. */
  async close(): Promise<void> {
    const child = this.#child;
    this.#ended("closed");
    if (!child) return;
    child.stdin?.end();
    const late = this.#clock.timer(this.#leash.graceMs ?? GRACE_MS, () => this.#kill());
    await Promise.race([this.#gone, exited(child)]);
    late[Symbol.dispose]();
    this.#kill(); // what it left behind
    await this.#gone;
    for (let looked = 0; looked < LOOKS_MAX && this.#leashed?.remains(); looked++) await this.#pause();
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.timer(LOOK_MS, resolve);
    });
  }
}

/** How often it is looked whether the last of its processes is gone, and the pause between, in ms; they die within a few of them. */
const LOOKS_MAX = 400;
const LOOK_MS = 5;

function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}
