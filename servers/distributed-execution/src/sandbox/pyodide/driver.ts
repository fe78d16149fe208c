/**
 * Python in Pyodide, within Deno without permissions: what Python cannot do because it is WebAssembly, and what its JavaScript cannot do
 * because Deno permits nothing. A process serves one task, or one session, and dies. The memory of an interpreter that had just
 * started is kept in a file, from which each further one starts in a tenth of the time; one is kept ready ahead.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SwarmError, systemClock } from "@mcp-swarm/core";
import type { Capabilities, Driver, Limits, Probe, RunHooks, SandboxOutcome, SandboxSession, SandboxTask } from "../driver.ts";
import type { DriverOptions } from "../drivers.ts";
import { createWorkFolder, type WorkFolder } from "../work-folder.ts";
import { findInstalled, type Installed } from "./installed.ts";
import { Interpreter } from "./interpreter.ts";
import { probeTask } from "./probe.ts";

/** How long the one that is ready waits for a task, in ms; it takes about 200 MiB. */
const IDLE_MS = 120_000;

const CAPABILITIES: Omit<Capabilities, "runtimes"> = {
  limits: {
    wallMs: "enforced",
    cpuMs: "watched",
    memoryMiB: "watched",
    processes: "not_applicable",
    outputBytes: "enforced",
    fileBytes: "enforced",
    diskBytes: "watched",
    files: "enforced",
  },
  isolates: [
    "the machine's files: it has its own, in memory",
    "the network, other processes, the environment: Deno permits none of them",
    "memory: Python's own is capped, all of the process is watched",
    "other tasks: each has an interpreter of its own",
  ],
  opens: { network: "none", mounts: false, packages: false },
  session: "state",
};

export function openPyodideDriver(options: Pick<DriverOptions, "onError">): Driver {
  return new PyodideDriver(options);
}

/** An interpreter that has been started ahead, for tasks with this much memory. */
interface Spare {
  readonly memoryMiB: number;
  readonly interpreter: Promise<Interpreter>;
}

class PyodideDriver implements Driver {
  readonly name = "pyodide";
  readonly #onError: DriverOptions["onError"];
  #ground: Promise<{ installed: Installed; folder: WorkFolder; snapshot: string }> | undefined;
  #spare: Spare | undefined;
  #idle: Disposable | undefined;
  readonly #running = new Set<Interpreter>();
  /** Aborts when the driver is closed. */
  readonly #closing = new AbortController();
  readonly #starting = new Set<Promise<Interpreter>>();

  constructor({ onError }: Pick<DriverOptions, "onError">) {
    this.#onError = onError;
  }

  async probe(): Promise<Probe> {
    const installed = await findInstalled();
    if (typeof installed === "string") return { available: false, reason: installed };
    const failed = (why: string): Probe => ({ available: false, reason: `Python in Deno does not hold here: ${why}` });
    const task = probeTask();
    const interpreter = await this.#start(task.limits.memoryMiB);
    try {
      const outcome = await interpreter.run(task, { signal: new AbortController().signal, onOutput() {} });
      if (JSON.stringify(outcome.value) !== JSON.stringify("held")) {
        return failed(`a check ended with ${JSON.stringify(outcome.value ?? outcome.ending).slice(0, 200)}.`);
      }
      const { python, pyodide, deno } = interpreter.versions;
      const version = `${python} (Pyodide ${pyodide}, Deno ${deno})`;
      const memoryMiB = interpreter.bounded ? "enforced" : "watched";
      const limits = { ...CAPABILITIES.limits, memoryMiB } as const;
      return { available: true, capabilities: { ...CAPABILITIES, limits, runtimes: { python: { version } } } };
    } finally {
      await this.#end(interpreter);
    }
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    refuseOpening(task);
    const interpreter = await this.#take(task.limits);
    try {
      return await interpreter.run(task, hooks);
    } finally {
      await this.#end(interpreter);
    }
  }

  async openSession(task: Pick<SandboxTask, "limits" | "network" | "mounts" | "packages">): Promise<SandboxSession> {
    refuseOpening(task);
    const interpreter = await this.#take(task.limits);
    interpreter.rest();
    return {
      run: async (next, hooks) => {
        if (!interpreter.alive) throw gone();
        interpreter.wake();
        const outcome = await interpreter.run(next, hooks);
        const { kind } = outcome.ending;
        if (kind === "limit" || kind === "killed") await this.#end(interpreter);
        else interpreter.rest();
        return outcome;
      },
      close: () => this.#end(interpreter),
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#starting); // whoever asked for them is told
    await this.#dropSpare();
    await Promise.all([...this.#running].map((interpreter) => this.#end(interpreter)));
    const ground = this.#ground;
    this.#ground = undefined;
    await ground?.then(
      ({ folder }) => folder.remove(),
      () => {}, // what it failed with was told to whoever asked first
    );
  }

  /** What every start needs. The first one, without a snapshot, takes seconds. */
  async #prepare(): Promise<{ installed: Installed; folder: WorkFolder; snapshot: string }> {
    if (this.#closing.signal.aborted)
      throw new SwarmError("unavailable", "The worker is being stopped.", { hint: "Submit the task again." });
    if (this.#ground !== undefined) return await this.#ground;
    const ground = this.#makeSnapshot();
    this.#ground = ground;
    ground.catch(() => {
      if (this.#ground === ground) this.#ground = undefined; // the callers are told; the next one tries again
    });
    return await ground;
  }

  async #makeSnapshot(): Promise<{ installed: Installed; folder: WorkFolder; snapshot: string }> {
    const installed = await findInstalled();
    if (typeof installed === "string") throw new SwarmError("unavailable", installed);
    const first = await Interpreter.start({ ...installed, memoryMiB: 0, signal: this.#closing.signal });
    await first.kill();
    const folder = await createWorkFolder();
    const snapshot = join(folder.path, "python.snapshot");
    await writeFile(snapshot, first.snapshot, { mode: 0o600, flag: "wx" });
    return { installed, folder, snapshot };
  }

  async #start(memoryMiB: number): Promise<Interpreter> {
    const { installed, snapshot } = await this.#prepare();
    const starting = Interpreter.start({ ...installed, snapshot, memoryMiB, signal: this.#closing.signal });
    this.#starting.add(starting);
    try {
      const interpreter = await starting;
      this.#running.add(interpreter);
      return interpreter;
    } finally {
      this.#starting.delete(starting);
    }
  }

  async #end(interpreter: Interpreter): Promise<void> {
    await interpreter.kill();
    this.#running.delete(interpreter);
  }

  /** The one that is ready, when it fits; and the next is made ready. */
  async #take({ memoryMiB }: Limits): Promise<Interpreter> {
    const spare = this.#spare?.memoryMiB === memoryMiB ? this.#spare : undefined;
    if (spare !== undefined) this.#spare = undefined;
    const ready = await spare?.interpreter.catch(() => undefined); // that was told when it happened
    const interpreter = ready?.alive === true ? ready : await this.#start(memoryMiB);
    this.#prepareNext(memoryMiB);
    return interpreter;
  }

  #prepareNext(memoryMiB: number): void {
    this.#idle?.[Symbol.dispose]();
    this.#idle = systemClock.timer(IDLE_MS, () => void this.#dropSpare());
    if (this.#closing.signal.aborted || this.#spare?.memoryMiB === memoryMiB) return;
    void this.#dropSpare();
    this.#idle = systemClock.timer(IDLE_MS, () => void this.#dropSpare());
    const interpreter = this.#start(memoryMiB);
    this.#spare = { memoryMiB, interpreter };
    interpreter.catch((error: unknown) => {
      if (!this.#closing.signal.aborted) this.#onError(error, "A Python could not be started ahead");
    });
  }

  async #dropSpare(): Promise<void> {
    this.#idle?.[Symbol.dispose]();
    const spare = this.#spare;
    this.#spare = undefined;
    const interpreter = await spare?.interpreter.catch(() => undefined); // that was told when it happened
    if (interpreter !== undefined) await this.#end(interpreter);
  }
}

function gone(): SwarmError {
  return new SwarmError("unavailable", "The session's Python is gone.", { hint: "Start another session.", retryable: false });
}

/** Whoever chose this driver knows what it opens. */
function refuseOpening({ network, mounts, packages }: Pick<SandboxTask, "network" | "mounts" | "packages">): void {
  if (network.mode === "none" && mounts.length === 0 && packages.length === 0) return;
  throw new SwarmError("unavailable", "Python in Deno opens no network, no folders and no packages.", { retryable: false });
}
