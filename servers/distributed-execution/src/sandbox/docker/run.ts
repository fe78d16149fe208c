/** One run in a container: watched, ended at its limits, and told how it ended. */
import { constants } from "node:os";
import { SwarmError } from "@mcp-swarm/core";
import { OutputBudget } from "../child-process.ts";
import type { Ending, LimitName, RunHooks, SandboxOutcome, SandboxTask, Usage } from "../driver.ts";
import { demultiplexer } from "./output.ts";
import { OWN_PROCESSES, type Place, WORK } from "./place.ts";
import { CONTAINER_RUNTIMES } from "./runtimes.ts";

/** How often the engine is asked what a container uses, in ms. */
const WATCH_EVERY_MS = 250;
/** How long the last output of a dead container may take to arrive, in ms. */
const DRAIN_MS = 1_000;
/** What is limited for each process, which code cannot raise again; where it cannot be, the code does not run. */
const START = 'ulimit -c 0 && ulimit -f "$1" && ulimit -t "$2" && shift 2 && exec "$@"';
/** What a shell counts the size of files in (POSIX, ulimit). */
const BLOCK_BYTES = 512;

/**
 * All code is dead when this settles; its container is there until the place is cleared or removed.
 * @param command instead of the runtime's
 * @throws SwarmError unavailable when the code did not run, or could not be followed to its end
 */
export async function runInContainer(
  place: Place,
  task: SandboxTask,
  hooks: RunHooks,
  command?: readonly string[],
): Promise<SandboxOutcome> {
  const { limits } = task;
  const runtime = Object.hasOwn(CONTAINER_RUNTIMES, task.runtime) ? CONTAINER_RUNTIMES[task.runtime] : undefined;
  if (runtime === undefined) {
    throw new SwarmError("failed_precondition", "Containers do not run that runtime.", {
      hint: `Give the environment one of the runtimes ${Object.keys(CONTAINER_RUNTIMES).join(", ")}.`,
    });
  }
  if (task.network.mode === "hosts" || task.packages.length > 0) {
    throw new SwarmError("failed_precondition", "Containers open no network to some hosts alone, and add no packages.", {
      hint: "Use an image that has what is needed, or an environment of another driver.",
    });
  }
  const [container] = await Promise.all([
    place.container(task),
    place.write([...task.files, { path: runtime.file, bytes: Buffer.from(task.code) }]),
  ]);
  try {
    const started = await container.exec(
      [
        ...["sh", "-c", START, "run", String(Math.max(1, Math.floor(limits.fileBytes / BLOCK_BYTES)))],
        String(Math.max(1, Math.ceil(limits.cpuMs / 1_000))),
        ...(command ?? [...runtime.command(limits), ...task.args]),
      ],
      { cwd: WORK, env: { HOME: WORK, TMPDIR: "/tmp", LANG: "C.UTF-8", ...runtime.env, ...task.env } },
    );
    const startedAt = performance.now();
    let ended: Extract<Ending, { kind: "limit" | "killed" }> | undefined;
    let killing: Promise<void> | undefined;
    let broken: unknown;
    const { stream } = started;
    const finished = Promise.withResolvers<void>();
    const kill = (): Promise<void> => {
      killing ??= container.kill().catch((cause) => {
        broken ??= cause;
        finished.resolve();
      });
      return killing;
    };
    const end = (reason: NonNullable<typeof ended>): void => {
      if (ended !== undefined) return;
      ended = reason;
      void kill().then(() => setTimeout(finished.resolve, DRAIN_MS).unref());
    };
    const limit = (name: LimitName): void => end({ kind: "limit", limit: name });
    const onAbort = (): void => end({ kind: "killed" });

    const budget = new OutputBudget(limits.outputBytes, hooks, () => limit("outputBytes"));
    const take = demultiplexer((name, bytes) => budget.take(name, bytes));
    stream.on("data", (piece: Buffer) => {
      try {
        take(piece);
      } catch (cause) {
        broken ??= cause;
        stream.destroy();
      }
    });
    for (const event of ["end", "close", "error"]) stream.once(event, () => finished.resolve());
    stream.on("error", () => {}); // its end is what counts; how the code ended is asked for
    const used = new Used();
    const watch = setInterval(() => {
      if (used.asking) return;
      used.look(container.usage()).then(
        (now) => {
          if (now === undefined) return;
          if (now.cpuMs > limits.cpuMs) limit("cpuMs");
          else if (now.processes > limits.processes + OWN_PROCESSES) limit("processes");
        },
        (cause) => {
          broken ??= cause; // nothing is watched any more, so it must not go on
          finished.resolve();
        },
      );
    }, WATCH_EVERY_MS);
    const wall = setTimeout(() => limit("wallMs"), limits.wallMs);
    hooks.signal.addEventListener("abort", onAbort, { once: true });
    if (hooks.signal.aborted) onAbort();
    stream.end(task.stdin);
    stream.resume();
    try {
      await finished.promise;
      const wallMs = Math.round(performance.now() - startedAt);
      clearInterval(watch);
      if (ended === undefined && broken === undefined) await used.look(container.usage());
      const code = ended === undefined && broken === undefined ? await started.exitCode() : undefined;
      const outOfMemory = ended === undefined && broken === undefined && code !== 0 && (await container.outOfMemory());
      await kill();
      if (broken !== undefined) throw lost(broken);
      const ending = ended ?? (await endingOf(code, outOfMemory, place));
      const { files, refused } = ending.kind === "killed" ? { files: [], refused: [] } : await place.collect(limits);
      return {
        ending,
        usage: used.usage(wallMs),
        files,
        cut: { ...budget.cut(), ...(refused.length > 0 ? { files: refused } : {}) },
      };
    } finally {
      clearInterval(watch);
      clearTimeout(wall);
      hooks.signal.removeEventListener("abort", onAbort);
      stream.destroy();
    }
  } catch (error) {
    await container.kill();
    throw error;
  }
}

function lost(cause: unknown): SwarmError {
  return new SwarmError("unavailable", "The container engine did not follow a run to its end.", {
    hint: "Submit the task again; the worker's log names the cause.",
    cause,
  });
}

async function endingOf(code: number | undefined, outOfMemory: boolean, place: Place): Promise<Ending> {
  if (outOfMemory) return { kind: "limit", limit: "memoryMiB" };
  if (code === undefined) throw lost(new Error("a container ended without the code's exit code"));
  const signal = code - 128;
  if (signal === constants.signals.SIGXCPU) return { kind: "limit", limit: "cpuMs" };
  if (signal === constants.signals.SIGXFSZ) return { kind: "limit", limit: "fileBytes" };
  if (code !== 0 && (await place.isFull())) return { kind: "limit", limit: "diskBytes" };
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
  return name === undefined ? { kind: "exit", code } : { kind: "signal", signal: name };
}

/** What was used, by what was seen of it. */
class Used {
  asking = false;
  #peakMemoryMiB = 0;
  #cpuMs: number | undefined;

  async look<T extends { cpuMs: number; memoryMiB: number } | undefined>(asked: Promise<T>): Promise<T> {
    this.asking = true;
    try {
      const now = await asked;
      if (now !== undefined) {
        this.#cpuMs = Math.max(this.#cpuMs ?? 0, now.cpuMs);
        this.#peakMemoryMiB = Math.max(this.#peakMemoryMiB, now.memoryMiB);
      }
      return now;
    } finally {
      this.asking = false;
    }
  }

  usage(wallMs: number): Usage {
    return {
      wallMs,
      ...(this.#cpuMs === undefined ? {} : { cpuMs: this.#cpuMs }),
      ...(this.#peakMemoryMiB === 0 ? {} : { peakMemoryMiB: Math.round(this.#peakMemoryMiB * 10) / 10 }),
    };
  }
}
