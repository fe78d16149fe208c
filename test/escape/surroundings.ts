/** What a sandbox must keep from code: a machine with secrets, open sockets and other processes, and what has become of them. */
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newId, systemRandom } from "@mcp-swarm/core";

/** How long the victim and stray children would live, in s; the battery ends them by pid. */
export const LIFE_S = 900;

export class Surroundings {
  /** Names everything of this battery, and nothing else on the machine. */
  readonly marker: string = newId("escape", systemRandom).replaceAll("_", "");
  /** In files and in the victim's environment; nothing that code prints may hold it. */
  readonly secret: string;
  readonly folder: string;
  /** A folder like a person's home, which everybody may read. */
  readonly canary: string;
  /** A folder that everybody may write. */
  readonly outside: string;
  readonly #servers: Server[] = [];
  #udp: DatagramSocket | undefined;
  #victim: ChildProcess | undefined;
  tcpPort = 0;
  udpPort = 0;
  /** What reached any of the sockets since `reset`. */
  arrivals = 0;

  constructor() {
    this.secret = `secret-${this.marker}`;
    this.folder = mkdtempSync(join(tmpdir(), `${this.marker}-`));
    chmodSync(this.folder, 0o755);
    mkdirSync(join(this.folder, "home"));
    this.canary = join(this.folder, "home", "canary.txt");
    writeFileSync(this.canary, `${this.secret}\n`);
    this.outside = join(this.folder, "outside");
    mkdirSync(this.outside);
    chmodSync(this.outside, 0o777);
  }

  static async open(): Promise<Surroundings> {
    const surroundings = new Surroundings();
    await surroundings.#listen();
    return surroundings;
  }

  get socketPath(): string {
    return join(this.outside, "socket");
  }

  /** A name in the abstract namespace of UNIX sockets, without its leading NUL. */
  get abstractName(): string {
    return this.marker;
  }

  async #listen(): Promise<void> {
    const arrived = (): void => {
      this.arrivals += 1;
    };
    const listen = async (where: { port: number; host: string } | { path: string }): Promise<Server> => {
      const server = createServer((socket) => {
        arrived();
        socket.destroy();
      });
      server.listen(where);
      await once(server, "listening");
      this.#servers.push(server);
      return server;
    };
    this.tcpPort = ((await listen({ port: 0, host: "127.0.0.1" })).address() as AddressInfo).port;
    await listen({ path: this.socketPath });
    chmodSync(this.socketPath, 0o777);
    if (process.platform === "linux") await listen({ path: `\0${this.abstractName}` });
    const udp = createSocket("udp4", arrived);
    udp.bind(0, "127.0.0.1");
    await once(udp, "listening");
    this.udpPort = udp.address().port;
    this.#udp = udp;
  }

  /** A process of somebody else's: started anew when code has ended it. */
  async victim(): Promise<number> {
    const alive = this.#victim !== undefined && this.#victim.exitCode === null && this.#victim.signalCode === null;
    if (!alive) {
      this.#victim = spawn("sleep", [`${LIFE_S}`], {
        cwd: join(this.folder, "home"),
        env: { PATH: process.env.PATH ?? "", CANARY: this.secret },
        stdio: "ignore",
      });
      await once(this.#victim, "spawn");
    }
    const pid = this.#victim?.pid;
    if (pid === undefined) throw new Error("the victim has no pid");
    return pid;
  }

  victimLives(): boolean {
    const pid = this.#victim?.pid;
    return pid !== undefined && isRunning(pid);
  }

  victimOomScore(): string {
    return readFileSync(`/proc/${this.#victim?.pid}/oom_score_adj`, "utf8").trim();
  }

  /** Whether anything was written that should not be there. */
  wroteOutside(): boolean {
    return readdirSync(this.outside).some((name) => name !== "socket") || existsSync(join(tmpdir(), this.marker));
  }

  /** Pids of processes that code left behind, known by their arguments or what they were told to wait for. */
  strays(): number[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map(Number)
      .filter((pid) => commandOf(pid).includes(this.marker) && isRunning(pid));
  }

  /** Ends strays by pid, and forgets what was counted. */
  reset(): void {
    for (const pid of this.strays()) process.kill(pid, "SIGKILL");
    for (const name of readdirSync(this.outside)) if (name !== "socket") rmSync(join(this.outside, name), { recursive: true });
    rmSync(join(tmpdir(), this.marker), { force: true });
    this.arrivals = 0;
  }

  async close(): Promise<void> {
    this.reset();
    for (const server of this.#servers) server.close();
    this.#udp?.close();
    if (this.victimLives()) {
      const gone = once(this.#victim as ChildProcess, "exit");
      this.#victim?.kill("SIGKILL");
      await gone;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return ""; // it has ended meanwhile
  }
}

export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const state = stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
    return state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}
