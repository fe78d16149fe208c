/**
 * Message brokers that people use, spoken to over a bare socket: what the same hand-over costs where a daemon is running.
 * They are measured when their servers are found on PATH.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A broker with a sender and a receiver connected to it. */
export interface Peer {
  /** Sends a text, and answers when the receiver, which was waiting, has it: the ms in between. */
  handOver(text: string): Promise<number>;
  close(): Promise<void>;
}

export interface PeerKind {
  name: string;
  binary: string;
  open(binary: string, folder: string): Promise<Peer>;
}

const START_ATTEMPTS_MAX = 200;
const START_PAUSE_MS = 25;

export const PEER_KINDS: readonly PeerKind[] = [
  {
    name: "Redis Streams, appendfsync always",
    binary: "redis-server",
    open: (binary, folder) => openRedis(binary, folder, "always"),
  },
  {
    name: "Redis Streams, appendfsync everysec",
    binary: "redis-server",
    open: (binary, folder) => openRedis(binary, folder, "everysec"),
  },
  { name: "NATS core, which keeps nothing", binary: "nats-server", open: openNats },
];

/** The path of a program on PATH. */
export function findProgram(name: string): string | undefined {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, "exit");
  server.kill("SIGTERM");
  await ended;
}

/** Bytes that come over a socket, taken from the front as they are needed. */
class Incoming {
  #held = Buffer.alloc(0);
  #more: () => void = () => {};
  #failed: Error | undefined;

  constructor(socket: Socket) {
    socket.on("data", (chunk: Buffer) => {
      this.#held = Buffer.concat([this.#held, chunk]);
      this.#more();
    });
    const fail = (error?: Error) => {
      this.#failed = error ?? new Error("The peer closed the connection");
      this.#more();
    };
    socket.on("error", fail).on("close", () => fail());
  }

  /** Up to the next end of line, without it. */
  async line(): Promise<string> {
    for (;;) {
      const at = this.#held.indexOf("\r\n");
      if (at >= 0) {
        const line = this.#held.toString("utf8", 0, at);
        this.#held = this.#held.subarray(at + 2);
        return line;
      }
      await this.#wait();
    }
  }

  /** So many bytes, and the end of line behind them. */
  async block(bytes: number): Promise<string> {
    while (this.#held.length < bytes + 2) await this.#wait();
    const text = this.#held.toString("utf8", 0, bytes);
    this.#held = this.#held.subarray(bytes + 2);
    return text;
  }

  #wait(): Promise<void> {
    if (this.#failed) throw this.#failed;
    return new Promise((resolve, reject) => {
      this.#more = () => (this.#failed ? reject(this.#failed) : resolve());
    });
  }
}

// ── Redis ──

type Resp = string | number | null | Resp[];

class Redis {
  readonly socket: Socket;
  readonly #incoming: Incoming;

  constructor(path: string) {
    this.socket = connect(path).setNoDelay(true);
    this.#incoming = new Incoming(this.socket);
  }

  async command(...words: string[]): Promise<Resp> {
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    this.socket.write(`*${words.length}\r\n${parts.join("")}`);
    return await this.#reply();
  }

  async #reply(): Promise<Resp> {
    const line = await this.#incoming.line();
    const rest = line.slice(1);
    switch (line[0]) {
      case "+":
        return rest;
      case ":":
        return Number(rest);
      case "$":
        return Number(rest) < 0 ? null : await this.#incoming.block(Number(rest));
      case "*": {
        if (Number(rest) < 0) return null;
        const items: Resp[] = [];
        for (let left = Number(rest); left > 0; left--) items.push(await this.#reply());
        return items;
      }
      default:
        throw new Error(`Redis: ${rest}`);
    }
  }
}

async function openRedis(binary: string, folder: string, fsync: "always" | "everysec"): Promise<Peer> {
  const path = join(folder, `redis-${fsync}.sock`);
  const durable = ["--save", "", "--appendonly", "yes", "--appendfsync", fsync, "--appenddirname", `log-${fsync}`];
  const server = spawn(binary, ["--port", "0", "--unixsocket", path, "--dir", folder, ...durable], { stdio: "ignore" });
  await startedWhen(server, () => existsSync(path));
  const sender = new Redis(path);
  const receiver = new Redis(path);
  await sender.command("XGROUP", "CREATE", "box", "readers", "$", "MKSTREAM");
  return {
    async handOver(text) {
      const received = receiver.command(
        "XREADGROUP",
        "GROUP",
        "readers",
        "me",
        "COUNT",
        "1",
        "BLOCK",
        "0",
        "STREAMS",
        "box",
        ">",
      );
      await sender.command("PING"); // the reader's command has gone out before
      const start = performance.now();
      const sent = sender.command("XADD", "box", "*", "text", text);
      const [[, [[id, fields] = []] = []] = []] = (await received) as [string, [string, string[]][]][];
      const ms = performance.now() - start;
      await sent;
      if (id === undefined || fields?.[1] !== text) throw new Error("Redis gave another message than was sent");
      await receiver.command("XACK", "box", "readers", id);
      return ms;
    },
    async close() {
      sender.socket.destroy();
      receiver.socket.destroy();
      await end(server);
    },
  };
}

// ── NATS ──

class Nats {
  readonly socket: Socket;
  readonly incoming: Incoming;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1").setNoDelay(true);
    this.incoming = new Incoming(this.socket);
  }

  async open(...commands: string[]): Promise<void> {
    await this.incoming.line(); // INFO
    this.socket.write(`${['CONNECT {"verbose":false}', ...commands, "PING"].join("\r\n")}\r\n`);
    if ((await this.incoming.line()) !== "PONG") throw new Error("NATS did not answer as it should");
  }
}

async function openNats(binary: string): Promise<Peer> {
  const server = spawn(binary, ["-a", "127.0.0.1", "-p", "-1"], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  server.stderr?.on("data", (chunk: Buffer) => {
    log += chunk.toString();
  });
  const port = () => Number(/Listening for client connections on 127\.0\.0\.1:(\d+)/.exec(log)?.[1] ?? 0);
  await startedWhen(server, () => log.includes("Server is ready") && port() > 0);
  const sender = new Nats(port());
  const receiver = new Nats(port());
  await sender.open();
  await receiver.open("SUB box 1");
  return {
    async handOver(text) {
      const start = performance.now();
      sender.socket.write(`PUB box ${Buffer.byteLength(text)}\r\n${text}\r\n`);
      const head = await receiver.incoming.line();
      const got = await receiver.incoming.block(Number(head.split(" ").at(-1)));
      const ms = performance.now() - start;
      if (got !== text) throw new Error("NATS gave another message than was sent");
      return ms;
    },
    async close() {
      sender.socket.destroy();
      receiver.socket.destroy();
      await end(server);
    },
  };
}

async function startedWhen(server: ChildProcess, ready: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < START_ATTEMPTS_MAX; attempt++) {
    if (ready()) return;
    if (server.exitCode !== null) throw new Error(`${server.spawnfile} ended with ${server.exitCode}`);
    await sleep(START_PAUSE_MS);
  }
  server.kill("SIGKILL");
  throw new Error(`${server.spawnfile} did not start`);
}
