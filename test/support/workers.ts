/** Workers of distributed-execution as people start them, and what their sandboxes leave in the table of processes. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { plainEnv } from "./bin.ts";
import { binOf, eventually } from "./host.ts";
import type { OwnNetwork } from "./own-network.ts";

const SERVER = "distributed-execution";

export interface WorkerOptions {
  readonly store: string;
  readonly leaseMs?: number;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Where it runs; on this machine's own network when absent. */
  readonly network?: OwnNetwork;
}

export class WorkerProcess implements AsyncDisposable {
  /** As it calls itself in the store. */
  readonly id: string;
  readonly #child: ChildProcess;
  readonly #heard: { text: string };
  readonly #closed: Promise<void>;

  private constructor(id: string, child: ChildProcess, heard: { text: string }, closed: Promise<void>) {
    this.id = id;
    this.#child = child;
    this.#heard = heard;
    this.#closed = closed;
  }

  /** Answers when it takes work. */
  static async start({ store, leaseMs, args = [], env = {}, network }: WorkerOptions): Promise<WorkerProcess> {
    const words = [binOf(SERVER), "worker", "--slots", "2", ...args];
    const { command, args: all } = network?.command(process.execPath, words) ?? { command: process.execPath, args: words };
    const child = spawn(command, all, {
      env: plainEnv({
        SWARM_STORE: network?.url ?? store,
        ...(leaseMs === undefined ? {} : { SWARM_LEASE_MS: String(leaseMs) }),
        ...env,
      }),
      stdio: ["ignore", "ignore", "pipe"],
    });
    const heard = { text: "" };
    child.stderr?.on("data", (chunk: Buffer) => {
      heard.text += chunk.toString();
    });
    const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
    const id = await eventually("the worker says that it works", () => {
      if (child.exitCode !== null) throw new Error(`The worker ended with ${child.exitCode}:\n${heard.text}`);
      return /^Worker (\S+) \(/m.exec(heard.text)?.[1];
    }).catch((error: unknown) => {
      child.kill("SIGKILL");
      throw error;
    });
    return new WorkerProcess(id, child, heard, closed);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get stderr(): string {
    return this.#heard.text;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** kill -9, with whatever runs in it. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.#closed;
  }

  /** Asks it to end; answers its exit code. */
  async end(): Promise<number | null> {
    this.signal("SIGTERM");
    await this.#closed;
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.signal("SIGCONT");
    this.signal("SIGTERM");
    const late = setTimeout(() => this.signal("SIGKILL"), 5_000);
    await this.#closed;
    clearTimeout(late);
  }
}

/** Processes anywhere on this machine whose command line holds the marker, this one and its children's shells excepted. */
export function processesWith(marker: string): number[] {
  return pids().filter((pid) => {
    if (pid === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(marker);
    } catch {
      return false; // it ended meanwhile
    }
  });
}

/** All that descend from a process, each as `<pid> <start time>`, which no later process has again. */
export function descendantsOf(pid: number): string[] {
  const all = pids().flatMap((one) => {
    const stat = statOf(one);
    return stat ? [stat] : [];
  });
  const found = new Set([pid]);
  for (let grown = true; grown; ) {
    grown = false;
    for (const { pid: one, parent } of all) {
      if (!found.has(parent) || found.has(one)) continue;
      found.add(one);
      grown = true;
    }
  }
  return all.filter(({ pid: one }) => one !== pid && found.has(one)).map(({ pid: one, startedAt }) => `${one} ${startedAt}`);
}

/** Those of them that still run. */
export function stillThere(processes: readonly string[]): string[] {
  return processes.filter((one) => {
    const stat = statOf(Number(one.split(" ")[0]));
    return stat !== undefined && stat.state !== "Z" && `${stat.pid} ${stat.startedAt}` === one;
  });
}

function pids(): number[] {
  if (!existsSync("/proc/self/stat")) throw new Error("Processes are looked up in /proc: run this test on Linux.");
  return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
}

function statOf(pid: number): { pid: number; parent: number; state: string; startedAt: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" "); // the name may hold anything
    return { pid, state: fields[0] ?? "", parent: Number(fields[1]), startedAt: fields[19] ?? "" };
  } catch {
    return undefined;
  }
}
