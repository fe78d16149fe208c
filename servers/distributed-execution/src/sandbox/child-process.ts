/**
 * What every driver whose sandbox is a process shares: a child with nothing of the worker's environment, in a process group of its own,
 * that dies with the worker; its output cut at a number of bytes, its time, CPU time, memory and processes watched, its whole tree killed.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import type { Duplex, Readable, Writable } from "node:stream";
import { SwarmError } from "@mcp-swarm/core";
import type { Cut, Ending, LimitName, Limits, RunHooks, Usage } from "./driver.ts";
import { guard, unguard } from "./guardian.ts";
import { killGroup, killTree, type ProcessId, proportionalMemory, sampleTree } from "./process-tree.ts";

/** How often a tree is looked at, in ms; the first time sooner, so that short runs are measured too. */
const WATCH_FIRST_MS = 15;
const WATCH_EVERY_MS = 50;
/** Sooner when memory might be full before: so much is taken in a ms, in MiB, by a few processes with large pages. */
const WATCH_LEAST_MS = 5;
const GROWTH_MIB_PER_MS = 20;
/** Looking takes at most one part in so many of the worker's time, whatever the size of the tree. */
const WATCH_SHARE = 8;
/** How long the last output of a dead tree may take to arrive, in ms. */
const DRAIN_MS = 1_000;
/** Most processes that are remembered of one tree. Where more come and go, only a PID namespace holds them. */
const KNOWN_MAX = 4_096;
const MIB = 1_048_576;

export interface ChildSpec {
  /** Absolute, or found by the PATH of `env`. */
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** All of its environment: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Runs it as this user and group; only a worker that is root can. */
  readonly user?: number;
  /** A pipe for both directions besides the three, as file descriptor 3. */
  readonly channel?: boolean;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Child {
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** When the spec asked for one. */
  readonly channel: Duplex | undefined;
  /** Never rejects. Descendants may live on; `kill` ends them. */
  readonly exited: Promise<Exit>;
  /** Processes that descend from it, as they are seen: `kill` finds them even when their parents are gone by then. */
  remember(processes: Iterable<ProcessId>): void;
  /** Kills it with all its descendants; settles when none runs any more. To be called always, also after it has exited. */
  kill(): Promise<void>;
}

/** Highest file descriptor that is looked for among those that this process was started with. */
const INHERITED_MAX = 4_096;
/** Standard streams and the channel. */
const OWN_STREAMS = 4;
let inherited: readonly number[] | undefined;

/**
 * Open files that whoever started this process left open for it, and which it would hand on: Node closes its own and the first few of
 * others. A child gets nothing in their place (macOS closes them all by itself).
 */
function inheritedFiles(): readonly number[] {
  if (inherited !== undefined) return inherited;
  const closesOnExec = 0o2000000;
  const open: number[] = [];
  for (const name of process.platform === "linux" ? readdirSync("/proc/self/fd") : []) {
    const number = Number(name);
    if (number < OWN_STREAMS - 1 || number > INHERITED_MAX) continue;
    try {
      const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, "latin1"))?.[1];
      if ((Number.parseInt(flags ?? "0", 8) & closesOnExec) === 0) open.push(number);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // it was the folder that is being read
    }
  }
  inherited = open;
  return open;
}

function streams(channel: boolean, nothing: number): StdioOptions {
  const stdio: ("pipe" | "ignore" | number)[] = ["pipe", "pipe", "pipe", channel ? "pipe" : "ignore"];
  for (const file of inheritedFiles()) {
    while (stdio.length <= file) stdio.push("ignore");
    if (stdio[file] === "ignore") stdio[file] = nothing;
  }
  return stdio;
}

/** @throws SwarmError unavailable when the program could not be started */
export async function startChild(spec: ChildSpec): Promise<Child> {
  const nothing = openSync("/dev/null", "r");
  const child: ChildProcess = spawn(spec.command, spec.args, {
    cwd: spec.cwd,
    env: { ...spec.env },
    detached: true,
    windowsHide: true,
    stdio: streams(spec.channel === true, nothing),
    ...(spec.user === undefined ? {} : { uid: spec.user, gid: spec.user }),
  });
  closeSync(nothing);
  const { pid, stdin, stdout, stderr } = child;
  if (pid === undefined || stdin === null || stdout === null || stderr === null) {
    const cause = await new Promise<unknown>((resolve) => child.once("error", resolve));
    throw new SwarmError("unavailable", "The program of a sandbox could not be started.", {
      hint: "Ask list_environments which environments run here; the worker's log names the program.",
      cause,
    });
  }
  guard(pid);
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  child.on("error", ignoreClosed); // a signal that could not be sent: it had ended
  const channel = child.stdio[3] as Duplex | null | undefined;
  // whoever does not read its input, or is killed before, breaks the pipe: that is seen by how it ends
  for (const stream of [stdin, stdout, stderr, channel]) stream?.on("error", ignoreClosed);
  const known = new Map<string, ProcessId>();
  const killAll = async (): Promise<void> => {
    await killTree(pid, { known: known.values() });
    await exited;
    await killGroup(pid);
    unguard(pid);
  };
  let killing: Promise<void> | undefined;
  return {
    pid,
    stdin,
    stdout,
    stderr,
    channel: channel ?? undefined,
    exited,
    remember: (processes) => {
      for (const id of processes) {
        if (known.size >= KNOWN_MAX) return;
        known.set(`${id.pid} ${id.startedAt}`, id);
      }
    },
    kill: () => {
      killing ??= killAll();
      return killing;
    },
  };
}

function ignoreClosed(): void {
  // what it says reaches us as the end of the stream and of the process
}

/** Counts stdout and stderr together and passes on no more than may come. */
export class OutputBudget {
  readonly #hooks: Pick<RunHooks, "onOutput">;
  readonly #over: () => void;
  readonly #cut = { stdout: 0, stderr: 0 };
  #left: number;

  /** @param over is called once, when there was more than `outputBytes` */
  constructor(outputBytes: number, hooks: Pick<RunHooks, "onOutput">, over: () => void) {
    this.#left = outputBytes;
    this.#hooks = hooks;
    let called = false;
    this.#over = () => {
      if (called) return;
      called = true;
      over();
    };
  }

  take(stream: "stdout" | "stderr", bytes: Uint8Array): void {
    const taken = bytes.subarray(0, this.#left);
    this.#left -= taken.length;
    if (taken.length > 0) this.#hooks.onOutput(stream, taken);
    if (taken.length === bytes.length) return;
    this.#cut[stream] += bytes.length - taken.length;
    this.#over();
  }

  /** How much came that was not passed on; more may have been written. */
  cut(): Pick<Cut, "stdoutBytes" | "stderrBytes"> {
    return {
      ...(this.#cut.stdout > 0 ? { stdoutBytes: this.#cut.stdout } : {}),
      ...(this.#cut.stderr > 0 ? { stderrBytes: this.#cut.stderr } : {}),
    };
  }
}

export interface WatchedLimits {
  readonly cpuMs?: number;
  readonly memoryMiB?: number;
  /** Of the whole tree, the sandbox's own processes included. */
  readonly processes?: number;
  /** Bytes besides those that processes have for themselves, asked at each look. */
  readonly memoryBeside?: (processes: readonly ProcessId[]) => number;
  /** Asked at each look for a limit that something else counts. */
  readonly also?: (processes: readonly ProcessId[]) => LimitName | undefined;
}

/** Looks at a tree several times a second, says which limit it passed, and knows what it has used. */
export class TreeWatch {
  readonly #child: Pick<Child, "pid" | "remember">;
  readonly #limits: WatchedLimits;
  readonly #passed: (limit: LimitName) => void;
  readonly #blind: (cause: unknown) => void;
  readonly #startedAt = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;
  #cpuMs: number | undefined;
  /** CPU time of processes that went unseen by whoever might have waited for them. */
  #lostCpuMs = 0;
  #lastCpuMs = 0;
  /** At the last look. */
  #memoryBytes = 0;
  #peakBytes = 0;

  /**
   * @param passed is called at most once for each look, with the first limit that was passed
   * @param blind is called when looking failed: nothing is watched any more, so the run must not go on
   */
  constructor(
    child: Pick<Child, "pid" | "remember">,
    limits: WatchedLimits,
    passed: (limit: LimitName) => void,
    blind: (cause: unknown) => void,
  ) {
    this.#child = child;
    this.#limits = limits;
    this.#passed = passed;
    this.#blind = blind;
    this.#next(WATCH_FIRST_MS);
  }

  #next(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().then((tookMs) => {
        if (!this.#stopped) this.#next(Math.max(this.#pauseMs(), tookMs * WATCH_SHARE));
      }, this.#blind);
    }, ms);
  }

  #pauseMs(): number {
    const { memoryMiB = Number.POSITIVE_INFINITY } = this.#limits;
    const left = memoryMiB - this.#memoryBytes / MIB;
    return Math.min(Math.max(left / GROWTH_MIB_PER_MS, WATCH_LEAST_MS), WATCH_EVERY_MS);
  }

  async #look(): Promise<number> {
    const before = performance.now();
    const { processes, cpuMs, memoryBytes } = await sampleTree(this.#child.pid);
    if (processes.length > 0) {
      this.#child.remember(processes);
      if (cpuMs < this.#lastCpuMs) this.#lostCpuMs += this.#lastCpuMs - cpuMs;
      this.#lastCpuMs = cpuMs;
      this.#cpuMs = cpuMs + this.#lostCpuMs;
      const { memoryMiB, processes: most, cpuMs: cpuMax, also, memoryBeside } = this.#limits;
      const beside = memoryBeside?.(processes) ?? 0;
      let memory = memoryBytes + beside;
      if (memoryMiB !== undefined && memory > memoryMiB * MIB) memory = (proportionalMemory(processes) ?? memoryBytes) + beside;
      this.#memoryBytes = memory;
      this.#peakBytes = Math.max(this.#peakBytes, memory);
      if (this.#stopped) return 0; // it has ended by itself: only what it used is of interest
      if (memoryMiB !== undefined && memory > memoryMiB * MIB) this.#passed("memoryMiB");
      else if (most !== undefined && processes.length > most) this.#passed("processes");
      else if (cpuMax !== undefined && this.#cpuMs > cpuMax) this.#passed("cpuMs");
      else {
        const other = also?.(processes);
        if (other !== undefined) this.#passed(other);
      }
    }
    return performance.now() - before;
  }

  /** Looks no more. */
  cancel(): void {
    clearTimeout(this.#timer);
    this.#stopped = true;
  }

  /** One more look, if there is still something to look at; then what was used since the watch began. */
  async stop(): Promise<Usage> {
    this.cancel();
    await this.#looking;
    await this.#look();
    return {
      wallMs: Math.round(performance.now() - this.#startedAt),
      ...(this.#cpuMs === undefined ? {} : { cpuMs: this.#cpuMs }),
      ...(this.#peakBytes === 0 ? {} : { peakMemoryMiB: Math.round((this.#peakBytes / MIB) * 10) / 10 }),
    };
  }
}

export interface SuperviseOptions {
  readonly limits: Pick<Limits, "wallMs" | "outputBytes"> & WatchedLimits;
  readonly hooks: RunHooks;
  /** Written to the child's input, which is closed then; without it the input stays open and is the caller's. */
  readonly stdin?: Uint8Array;
  /** When the code's own end is not the child's: settles with it. The child then lives on until its `kill`. */
  readonly ended?: Promise<Exit>;
  /** Ends the code at a limit; the child's `kill` unless given. */
  readonly kill?: () => Promise<void>;
}

export interface Supervised {
  /** Why it was ended from outside; undefined when it ended by itself, as `exit` says. */
  readonly ended: Extract<Ending, { kind: "limit" | "killed" }> | undefined;
  readonly exit: Exit;
  readonly usage: Usage;
  readonly cut: Pick<Cut, "stdoutBytes" | "stderrBytes">;
}

/**
 * Follows one run to its end: passes its output on, and kills it when it passes a limit, or when the hooks' signal aborts. All of it is
 * dead when this settles, except for a child whose `ended` was given.
 */
export async function supervise(child: Child, options: SuperviseOptions): Promise<Supervised> {
  const { limits, hooks } = options;
  const kill = options.kill ?? child.kill;
  let ended: Supervised["ended"];
  let killed: Promise<void> = Promise.resolve();
  let fail: (cause: unknown) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  const end = (reason: NonNullable<Supervised["ended"]>): void => {
    if (ended !== undefined) return;
    ended = reason;
    killed = kill();
    killed.catch(fail);
  };
  const limit = (name: LimitName): void => end({ kind: "limit", limit: name });
  const onAbort = (): void => end({ kind: "killed" });

  const budget = new OutputBudget(limits.outputBytes, hooks, () => limit("outputBytes"));
  const drained = Promise.all([
    drain(child.stdout, (bytes) => budget.take("stdout", bytes)),
    drain(child.stderr, (bytes) => budget.take("stderr", bytes)),
  ]);
  const watch = new TreeWatch(child, limits, limit, fail);
  const wall = setTimeout(() => limit("wallMs"), limits.wallMs);
  hooks.signal.addEventListener("abort", onAbort, { once: true });
  if (hooks.signal.aborted) onAbort();
  if (options.stdin !== undefined) child.stdin.end(options.stdin);

  try {
    const exit = await Promise.race([options.ended ?? child.exited, failed]);
    const usage = await watch.stop();
    await killed;
    if (options.ended === undefined) await child.kill();
    const late = setTimeout(() => {
      child.stdout.destroy();
      child.stderr.destroy();
    }, DRAIN_MS);
    await drained;
    clearTimeout(late);
    return { ended, exit, usage, cut: budget.cut() };
  } catch (cause) {
    await child.kill();
    throw new SwarmError("unavailable", "A sandbox was ended because it could not be watched.", {
      hint: "Submit the task again; the worker's log names the cause.",
      cause,
    });
  } finally {
    clearTimeout(wall);
    watch.cancel();
    hooks.signal.removeEventListener("abort", onAbort);
  }
}

/** Settles when the stream has ended, however it did. */
function drain(stream: Readable, take: (bytes: Uint8Array) => void): Promise<void> {
  return new Promise((resolve) => {
    stream.on("data", take);
    stream.once("close", resolve);
    if (stream.closed) resolve();
  });
}
