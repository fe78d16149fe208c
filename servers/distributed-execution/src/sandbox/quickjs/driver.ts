/**
 * JavaScript and TypeScript in QuickJS compiled to WebAssembly: no I/O but what it is given, memory that cannot grow beyond its limit, in
 * processes without environment or permissions. Processes are kept warm, each for one task at a time; every task gets a module of its own.
 */
import { SwarmError, systemClock } from "@mcp-swarm/core";
import type { Capabilities, Driver, Probe, RunHooks, SandboxOutcome, SandboxSession, SandboxTask } from "../driver.ts";
import type { DriverOptions } from "../drivers.ts";
import { QuickJsChild } from "./child-handle.ts";
import { probeTasks } from "./probe.ts";

/** How long a warm child waits for a task, in ms; it takes about 60 MiB. */
const IDLE_MS = 120_000;
/** A child is replaced after so many tasks, so that nothing it might leak grows. */
const TASKS_PER_CHILD_MAX = 2_000;
/** The engine cannot be given less. */
const MEMORY_MIB_MIN = 16;

const VERSION = "ES2024, QuickJS of quickjs-emscripten 0.32";
const CAPABILITIES: Capabilities = {
  limits: {
    wallMs: "enforced",
    cpuMs: "watched",
    memoryMiB: "enforced",
    processes: "not_applicable",
    outputBytes: "enforced",
    fileBytes: "enforced",
    diskBytes: "enforced",
    files: "enforced",
  },
  isolates: [
    "the machine's files: it has its own, in memory",
    "the network, other processes, the environment: there is no way to ask for them",
    "memory: a WebAssembly memory with a maximum",
    "other tasks: each has a WebAssembly module of its own",
  ],
  runtimes: { javascript: { version: VERSION }, typescript: { version: `${VERSION}, types taken off` } },
  opens: { network: "none", mounts: false, packages: false },
  session: "state",
};

export function openQuickJs(options: Pick<DriverOptions, "slots" | "onError">): Driver {
  return new QuickJsDriver(options);
}

class QuickJsDriver implements Driver {
  readonly name = "quickjs";
  readonly #slots: number;
  readonly #onError: DriverOptions["onError"];
  readonly #idle: QuickJsChild[] = [];
  readonly #all = new Set<QuickJsChild>();
  #idleTimer: Disposable | undefined;
  #closed = false;

  constructor({ slots, onError }: Pick<DriverOptions, "slots" | "onError">) {
    this.#slots = slots;
    this.#onError = onError;
  }

  async probe(): Promise<Probe> {
    const wrong = await probeTasks(async (task, hooks) => {
      const child = await this.#start();
      try {
        return await child.run(task, hooks, false);
      } finally {
        await this.#end(child);
      }
    });
    return wrong === undefined ? { available: true, capabilities: CAPABILITIES } : { available: false, reason: wrong };
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    check(task);
    const child = await this.#warm();
    try {
      return await child.run(task, hooks, false);
    } finally {
      await this.#put(child);
    }
  }

  async openSession(given: Parameters<NonNullable<Driver["openSession"]>>[0]): Promise<SandboxSession> {
    check(given);
    const child = await this.#start();
    const { memoryMiB } = given.limits;
    return {
      run: async (task, hooks) => {
        if (!child.usable) throw gone();
        check(task);
        try {
          // its memory is what it was when it was opened
          return await child.run({ ...task, limits: { ...task.limits, memoryMiB } }, hooks, true);
        } finally {
          if (!child.usable) await this.#end(child);
        }
      },
      close: () => this.#end(child),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#idleTimer?.[Symbol.dispose]();
    this.#idle.length = 0;
    await Promise.all([...this.#all].map((child) => this.#end(child)));
  }

  async #warm(): Promise<QuickJsChild> {
    for (let child = this.#idle.pop(); child; child = this.#idle.pop()) {
      if (child.usable) return child;
      await this.#end(child); // it died while nothing ran in it
    }
    return await this.#start();
  }

  async #start(): Promise<QuickJsChild> {
    if (this.#closed) throw new SwarmError("unavailable", "This worker is stopping.", { hint: "Submit the task again." });
    const child = await QuickJsChild.start();
    this.#all.add(child);
    if (!this.#closed) return child;
    await this.#end(child);
    throw gone();
  }

  async #put(child: QuickJsChild): Promise<void> {
    const keeps = child.usable && !this.#closed && child.runs < TASKS_PER_CHILD_MAX && this.#idle.length < this.#slots;
    if (!keeps) return await this.#end(child);
    this.#idle.push(child);
    this.#idleTimer?.[Symbol.dispose]();
    this.#idleTimer = systemClock.timer(IDLE_MS, () => {
      for (const old of this.#idle.splice(0)) {
        this.#end(old).catch((error: unknown) => this.#onError(error, "A warm process for JavaScript could not be ended"));
      }
    });
  }

  async #end(child: QuickJsChild): Promise<void> {
    await child.kill();
    this.#all.delete(child);
  }
}

/** @throws SwarmError when it is not for this driver: whoever chose it did not look at what it can do */
function check({ limits, runtime }: Pick<SandboxTask, "limits" | "runtime">): void {
  if (!Object.hasOwn(CAPABILITIES.runtimes, runtime)) {
    throw new SwarmError("failed_precondition", "QuickJS runs JavaScript and TypeScript alone.", {
      hint: "Choose an environment whose runtime is javascript or typescript.",
    });
  }
  if (limits.memoryMiB < MEMORY_MIB_MIN) {
    throw new SwarmError("failed_precondition", `QuickJS cannot be held to less than ${MEMORY_MIB_MIN} MiB.`, {
      hint: `Make the environment anew with a memoryMiB of at least ${MEMORY_MIB_MIN}.`,
    });
  }
}

function gone(): SwarmError {
  return new SwarmError("unavailable", "The session's sandbox is gone, and its state with it.", {
    hint: "Start a new session.",
    retryable: false,
  });
}
