/**
 * Python in Pyodide, within Deno without permissions: what Python cannot do because it is WebAssembly, and what its JavaScript cannot do
 * because Deno permits nothing. A process serves one task, or one session, and dies. The memory of an interpreter that had just
 * started is kept in a file, from which each further one starts in a tenth of the time; the next are kept ready.
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

/** How many are ready ahead at most, and for how long without a task, in ms; each takes about 190 MiB. */
const SPARES_MAX = 2;
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

export function openPyodideDriver(options: Pick<DriverOptions, "onError" | "slots">): Driver {
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
  readonly #slots: number;
  /** In the order in which they were started. */
  #spares: Spare[] = [];
  #idle: Disposable | undefined;
  readonly #running = new Set<Interpreter>();
  /** Aborts when the driver is closed. */
  readonly #closing = new AbortController();
  readonly #starting = new Set<Promise<Interpreter>>();

  constructor({ onError, slots }: Pick<DriverOptions, "onError" | "slots">) {
    this.#onError = onError;
    this.#slots = slots;
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
    await this.#dropSpares();
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

  /** One that is ready, when it fits; and the next are made ready. */
  async #take({ memoryMiB }: Limits): Promise<Interpreter> {
    const at = this.#spares.findIndex((spare) => spare.memoryMiB === memoryMiB);
    const [spare] = at < 0 ? [] : this.#spares.splice(at, 1);
    if (spare !== undefined) this.#prepareNext(memoryMiB);
    const ready = await spare?.interpreter.catch(() => undefined); // that was told when it happened
    const interpreter = ready?.alive === true ? ready : await this.#start(memoryMiB);
    this.#prepareNext(memoryMiB);
    return interpreter;
  }

  /** As many as may be needed at once, for tasks like the last one. */
  #prepareNext(memoryMiB: number): void {
    if (this.#closing.signal.aborted) return;
    if (this.#spares.some((spare) => spare.memoryMiB !== memoryMiB)) this.#dropInBackground();
    this.#idle?.[Symbol.dispose]();
    this.#idle = systemClock.timer(IDLE_MS, () => this.#dropInBackground());
    while (this.#spares.length < Math.min(this.#slots, SPARES_MAX)) {
      const interpreter = this.#start(memoryMiB);
      this.#spares.push({ memoryMiB, interpreter });
      interpreter.catch((error: unknown) => {
        if (!this.#closing.signal.aborted) this.#onError(error, "A Python could not be started ahead");
      });
    }
  }

  #dropInBackground(): void {
    this.#dropSpares().catch((error: unknown) => this.#onError(error, "A Python that was started ahead could not be ended"));
  }

  async #dropSpares(): Promise<void> {
    this.#idle?.[Symbol.dispose]();
    const spares = this.#spares;
    this.#spares = [];
    for (const { interpreter } of spares) {
      const started = await interpreter.catch(() => undefined); // that was told when it happened
      if (started !== undefined) await this.#end(started);
    }
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
