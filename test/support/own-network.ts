/**
 * A machine of its own for a process, as far as the network goes: a network namespace with one cable to this one (Linux, root), through
 * which it reaches a server here, and which can be pulled out. Where namespaces cannot be made, a relay on the loopback that falls
 * silent stands for the cable, and says so on stderr.
 */
import { execFile } from "node:child_process";
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { promisify } from "node:util";

const run = promisify(execFile);
const ip = async (...args: string[]): Promise<void> => void (await run("ip", args));

/** Each takes a network of four addresses of its own, out of 10.213.0.0/16. */
let made = 0;

export interface OwnNetwork extends AsyncDisposable {
  /** Whether it is a namespace, and no stand-in. */
  readonly isNamespace: boolean;
  /** `url` of a server on this machine's loopback, as it is reached from within. */
  readonly url: string;
  /** What starts a program within; the program takes its place, so the process is the program's. */
  command(program: string, args: readonly string[]): { command: string; args: string[] };
  /** Nothing gets through any more, and nobody is told. */
  cut(): Promise<void>;
  mend(): Promise<void>;
}

export async function ownNetwork(url: string): Promise<OwnNetwork> {
  const target = new URL(url);
  made += 1;
  const name = `swarm-${process.pid}-${made}`;
  const block = (process.pid * 8 + made) % 16_384;
  const at = (last: number) => `10.213.${block >> 6}.${(block & 63) * 4 + last}`;
  const near = `sw${process.pid.toString(36)}${made}`;
  const far = `${near}x`;
  try {
    await ip("netns", "add", name);
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n")[0] : "unknown";
    process.stderr.write(
      `No network namespace can be made here (${why}): a silent relay stands for a cable that is pulled out.\n`,
    );
    return await standIn(target);
  }
  const undo: (() => Promise<unknown>)[] = [() => ip("netns", "del", name)];
  try {
    await ip("link", "add", near, "type", "veth", "peer", "name", far);
    undo.unshift(() => ip("link", "del", near).catch(() => {})); // gone with the namespace that held its other end
    await ip("link", "set", far, "netns", name);
    await ip("addr", "add", `${at(1)}/30`, "dev", near);
    await ip("link", "set", near, "up");
    await ip("-n", name, "addr", "add", `${at(2)}/30`, "dev", far);
    await ip("-n", name, "link", "set", far, "up");
    await ip("-n", name, "link", "set", "lo", "up");
    const relay = await startRelay(target, at(1));
    undo.unshift(() => relay.close());
    const inside = new URL(url);
    inside.hostname = at(1);
    inside.port = String(relay.port);
    return {
      isNamespace: true,
      url: inside.href,
      command: (program, args) => ({ command: "ip", args: ["netns", "exec", name, program, ...args] }),
      cut: () => ip("link", "set", near, "down"),
      mend: () => ip("link", "set", near, "up"),
      [Symbol.asyncDispose]: () => all(undo),
    };
  } catch (error) {
    await all(undo);
    throw error;
  }
}

async function standIn(target: URL): Promise<OwnNetwork> {
  const relay = await startRelay(target, "127.0.0.1");
  const inside = new URL(target);
  inside.port = String(relay.port);
  return {
    isNamespace: false,
    url: inside.href,
    command: (program, args) => ({ command: program, args: [...args] }),
    cut: async () => relay.silence(true),
    mend: async () => relay.silence(false),
    [Symbol.asyncDispose]: () => relay.close(),
  };
}

async function all(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const step of steps) await step();
}

interface Relay {
  readonly port: number;
  silence(on: boolean): void;
  close(): Promise<void>;
}

/** Passes connections to `host` on to the target. */
async function startRelay(target: URL, host: string): Promise<Relay> {
  const sockets = new Set<Socket>();
  let silent = false;
  const keep = (socket: Socket, other: Socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      other.destroy();
    });
    socket.pipe(other);
    if (silent) socket.pause();
  };
  const server: Server = createServer((client) => {
    const upstream = dial(Number(target.port), target.hostname);
    keep(client, upstream);
    keep(upstream, client);
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, host, resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The relay has no port");
  return {
    port: address.port,
    silence(on) {
      silent = on;
      for (const socket of sockets) on ? socket.pause() : socket.resume();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
