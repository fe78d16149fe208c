/** One process with a Python in it: started, given tasks one at a time, and dead afterwards. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { devNull, tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { JSON_DEPTH_MAX, type Json, SwarmError } from "@mcp-swarm/core";
import { isCleanPath } from "../../file-path.ts";
import { type Child, type Exit, startChild, supervise } from "../child-process.ts";
import { COLLECTED_BYTES_MAX, shownPath } from "../collector.ts";
import type { Cut, Ending, LimitName, RunHooks, SandboxOutcome, SandboxTask } from "../driver.ts";
import { sampleTree } from "../process-tree.ts";
import * as frames from "./frames.ts";
import type { Installed } from "./installed.ts";

/** What Deno and Pyodide take by themselves, in MiB: of a task's memory the rest is Python's. */
const RUNTIME_MIB = 192;
const PYTHON_MIB_MIN = 64;
const PYTHON_MIB_MAX = 4_095;
const PAGES_PER_MIB = 16;
const MIB = 1_048_576;
/** How long a start may take, in ms; a machine under load takes many times what it takes alone. */
const START_MS_MAX = 60_000;
/** What is kept of what Deno itself says, in characters. */
const SAID_MAX = 4_000;
/** Largest value, in bytes of JSON. */
const VALUE_BYTES_MAX = 256 * 1_024;
const REFUSED_MAX = 20;
const PRLIMIT_MS_MAX = 5_000;
/** Paths and refusals together with a value fit in here by far, in bytes. */
const END_BYTES_MAX = 4 * VALUE_BYTES_MAX;

/** The program in this folder, or beside the bundle. */
const SOURCES = ["child.ts", "frames.ts", "guest.ts"].map((name) => join(import.meta.dirname, name));
const BUNDLED = join(import.meta.dirname, "pyodide-child.js");

const runFile = promisify(execFile);

/**
 * Has the kernel refuse it more writable memory than it has and may still take, and files altogether. What V8 sets aside without using
 * it counts from the start, so the bound is set when it is ready. Linux alone counts this.
 * @returns whether it did; where it did not, the memory is watched like elsewhere
 */
async function boundMemory(pid: number, memoryMiB: number): Promise<boolean> {
  if (process.platform !== "linux") return false;
  try {
    const status = await readFile(`/proc/${pid}/status`, "latin1");
    const setAside = Number(/^VmData:\s+(\d+) kB/m.exec(status)?.[1]) * 1_024;
    const args = ["--pid", `${pid}`, `--data=${setAside + memoryMiB * MIB}`, "--fsize=0", "--core=0"];
    await runFile("prlimit", args, { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" }, timeout: PRLIMIT_MS_MAX });
    return true;
  } catch {
    return false; // there is no such program: the answer says so
  }
}

export interface InterpreterOptions extends Installed {
  /** Of the whole process. */
  readonly memoryMiB: number;
  /** Path of a snapshot; without one the interpreter makes one, and runs nothing. */
  readonly snapshot?: string;
  /** When it aborts, what starts is killed. */
  readonly signal: AbortSignal;
}

/** What a frame's JSON says; nothing of it is believed. */
function parse(payload: Uint8Array): unknown {
  if (payload.length > END_BYTES_MAX) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(payload));
  } catch {
    return undefined; // treated as what it is: nothing that was agreed on
  }
}

/** Text as it is. Of anything else not even the kind is asked: making text of it could throw, or take forever. */
function textOf(said: unknown): string {
  return typeof said === "string" ? said : "?";
}

/** Its bytes lie in one piece: parts of a byte each, kept apart, would take a hundred times what they say. */
type File = { room: Uint8Array; bytes: number };

/** Files as they come, within bounds. */
class Files {
  readonly #limits: SandboxTask["limits"];
  readonly #files = new Map<string, File>();
  readonly #refused: { path: string; because: string }[] = [];
  #current: (File & { readonly path: string }) | undefined;
  #left: number;

  constructor(limits: SandboxTask["limits"]) {
    this.#limits = limits;
    this.#left = Math.min(limits.diskBytes, COLLECTED_BYTES_MAX);
  }

  refuse(path: string, because: string): void {
    if (this.#refused.length < REFUSED_MAX) this.#refused.push({ path: shownPath(path), because });
  }

  begin(path: unknown): void {
    this.#current = undefined;
    const wrong = this.#wrong(path);
    if (wrong !== undefined) this.refuse(textOf(path), wrong);
    else if (typeof path === "string") {
      this.#current = { path, room: new Uint8Array(), bytes: 0 };
      this.#files.set(path, this.#current);
    }
  }

  #wrong(path: unknown): string | undefined {
    if (typeof path !== "string" || !isCleanPath(path)) return "its path is not a clean one";
    if (this.#files.has(path)) return "it came twice";
    if (this.#files.size >= this.#limits.files) return `more than ${this.#limits.files} files were left`;
    return undefined;
  }

  add(bytes: Uint8Array): void {
    const file = this.#current;
    if (file === undefined) return;
    const before = file.bytes;
    file.bytes += bytes.length;
    this.#left -= bytes.length;
    if (file.bytes <= this.#limits.fileBytes && this.#left >= 0) {
      if (file.bytes > file.room.length) {
        const larger = new Uint8Array(Math.min(Math.max(2 * before, file.bytes), this.#limits.fileBytes));
        larger.set(file.room.subarray(0, before));
        file.room = larger;
      }
      file.room.set(bytes, before);
      return;
    }
    this.#current = undefined;
    this.#files.delete(file.path);
    this.#left += file.bytes;
    if (file.bytes > this.#limits.fileBytes) this.refuse(file.path, `it is larger than ${this.#limits.fileBytes} bytes`);
    else this.refuse(file.path, "all files together are too large");
  }

  result(): { files: SandboxOutcome["files"]; refused: NonNullable<Cut["files"]> } {
    return {
      files: [...this.#files].map(([path, { room, bytes }]) => ({ path, bytes: room.subarray(0, bytes) })),
      refused: this.#refused,
    };
  }
}

/** What the interpreter says of a run's end, as far as it is what was agreed on. */
function readEnd(payload: Uint8Array, files: Files): { exit: Exit; limit?: LimitName; value?: Json; valueBytes?: number } {
  const said = parse(payload);
  const end = (typeof said === "object" && said !== null ? said : {}) as Partial<Record<keyof frames.End, unknown>>;
  const code = Number.isInteger(end.code) ? Number(end.code) & 0xff : 1;
  const limit = (["memoryMiB", "fileBytes", "diskBytes"] as const).find((name) => name === end.limit);
  for (const one of Array.isArray(end.refused) ? end.refused.slice(0, REFUSED_MAX) : []) {
    const { path, because } = (one ?? {}) as Record<string, unknown>;
    files.refuse(textOf(path), shownPath(textOf(because)));
  }
  const text = typeof end.value === "string" && Buffer.byteLength(end.value) <= VALUE_BYTES_MAX ? end.value : undefined;
  const value = text === undefined ? undefined : (parse(Buffer.from(text)) as Json | undefined);
  return {
    exit: { code, signal: null },
    ...(limit === undefined ? {} : { limit }),
    ...(value === undefined || isDeep(value) ? {} : { value }),
    ...(Number.isSafeInteger(end.valueBytes) && Number(end.valueBytes) > 0 ? { valueBytes: Number(end.valueBytes) } : {}),
  };
}

function isDeep(value: Json): boolean {
  let level: Json[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > JSON_DEPTH_MAX) return true;
    level = level.flatMap((one) => (typeof one === "object" && one !== null ? (Object.values(one) as Json[]) : []));
  }
  return false;
}

export class Interpreter {
  readonly memoryMiB: number;
  readonly versions: frames.Ready;
  /** What it sent while it started. */
  readonly snapshot: Uint8Array;
  /** Whether the kernel holds its memory too. */
  readonly bounded: boolean;
  readonly #child: Child;
  readonly #said: () => string;
  #take: (type: number, payload: Uint8Array) => void = () => {};
  #broken: () => void = () => {};
  #gone = false;

  private constructor(
    child: Child,
    ready: Pick<Interpreter, "versions" | "snapshot" | "bounded" | "memoryMiB"> & { said: () => string },
  ) {
    this.#child = child;
    this.#said = ready.said;
    this.memoryMiB = ready.memoryMiB;
    this.versions = ready.versions;
    this.snapshot = ready.snapshot;
    this.bounded = ready.bounded;
    void child.exited.then(() => {
      this.#gone = true;
    });
  }

  /** @throws SwarmError unavailable when it does not come up */
  static async start({ deno, pyodide, memoryMiB, snapshot, signal }: InterpreterOptions): Promise<Interpreter> {
    const program = existsSync(BUNDLED) ? [BUNDLED] : SOURCES;
    const readable = [pyodide, ...program, ...(snapshot === undefined ? [] : [snapshot])];
    const child = await startChild({
      command: deno,
      args: [
        ...[
          "run",
          "--quiet",
          "--no-prompt",
          "--no-remote",
          "--no-npm",
          "--no-config",
          "--no-lock",
          "--no-check",
          "--no-code-cache",
        ],
        `--allow-read=${readable.map((path) => path.replaceAll(",", ",,")).join(",")}`,
        program[0] ?? "",
      ],
      cwd: tmpdir(),
      // a folder that cannot be made: nothing is cached, so nothing is left and nothing is shared
      env: { DENO_DIR: join(devNull, "none"), DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-SAID_MAX);
    });
    let interpreter: Interpreter | undefined;
    const parts: Uint8Array[] = [];
    let timer: NodeJS.Timeout | undefined;
    let stop = (): void => {};
    try {
      const versions = await new Promise<frames.Ready>((resolve, reject) => {
        const reader = new frames.FrameReader((type, payload) => {
          if (interpreter !== undefined) interpreter.#take(type, payload);
          else if (type === frames.SNAPSHOT_BYTES) parts.push(payload);
          else if (type === frames.READY) resolve(parse(payload) as frames.Ready);
        });
        child.stdout.on("data", (bytes: Uint8Array) => {
          if (!reader.push(bytes) && interpreter !== undefined) interpreter.#broken();
        });
        stop = () => reject(new Error("the worker is being stopped"));
        signal.addEventListener("abort", stop, { once: true });
        if (signal.aborted) stop();
        timer = setTimeout(() => reject(new Error("it did not come up in time")), START_MS_MAX);
        void child.exited.then(() => reject(new Error(`it ended: ${said}`)));
        const heap = Math.min(PYTHON_MIB_MAX, Math.max(PYTHON_MIB_MIN, memoryMiB - RUNTIME_MIB));
        child.stdin.write(
          frames.jsonFrame(frames.START, {
            pyodide: pathToFileURL(join(pyodide, "/")).href,
            pages: heap * PAGES_PER_MIB,
            ...(snapshot === undefined ? {} : { snapshot }),
          } satisfies frames.Start),
        );
      });
      const bounded = snapshot !== undefined && (await boundMemory(child.pid, memoryMiB));
      interpreter = new Interpreter(child, { versions, bounded, snapshot: Buffer.concat(parts), memoryMiB, said: () => said });
      return interpreter;
    } catch (cause) {
      await child.kill();
      throw new SwarmError("unavailable", "Python could not be started.", {
        hint: "Ask list_environments which environments run here; the worker's log names the cause.",
        cause,
      });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }

  /** Whether it can take a task. */
  get alive(): boolean {
    return !this.#gone;
  }

  get pid(): number {
    return this.#child.pid;
  }

  kill(): Promise<void> {
    this.#gone = true;
    return this.#child.kill();
  }

  /** Stops it where it stands until the next task: what a task left running uses nothing meanwhile. */
  rest(): void {
    if (!this.#gone) process.kill(this.pid, "SIGSTOP");
  }

  wake(): void {
    if (!this.#gone) process.kill(this.pid, "SIGCONT");
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    const { limits } = task;
    const before = (await sampleTree(this.pid)).cpuMs;
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    const files = new Files(limits);
    let end: ReturnType<typeof readEnd> | undefined;
    const ended = new Promise<Exit>((resolve) => {
      this.#take = (type, payload) => {
        if (end !== undefined) return;
        if (type === frames.STDOUT) stdout.write(payload);
        else if (type === frames.STDERR) stderr.write(payload);
        else if (type === frames.FILE) files.begin(parse(payload));
        else if (type === frames.FILE_BYTES) files.add(payload);
        else if (type === frames.END) {
          end = readEnd(payload, files);
          resolve(end.exit);
        }
      };
      // only code that writes to our pipe itself makes frames of such a length
      this.#broken = () => void this.kill();
      void this.#child.exited.then(resolve);
    }).then((exit) => {
      if (end === undefined && exit.signal === null) stderr.write(`Python ended: ${this.#said()}\n`);
      stdout.end();
      stderr.end();
      return exit;
    });
    this.#child.stdin.write(
      frames.jsonFrame(frames.RUN, {
        code: task.code,
        args: task.args,
        env: task.env,
        stdin: Buffer.from(task.stdin).toString("base64"),
        files: task.files.map(({ path, bytes }) => ({ path, bytes: Buffer.from(bytes).toString("base64") })),
        fileBytes: limits.fileBytes,
        diskBytes: limits.diskBytes,
        filesMax: limits.files,
        valueBytes: VALUE_BYTES_MAX,
      } satisfies frames.Run),
    );
    const { wallMs, outputBytes, memoryMiB } = limits;
    const run = await supervise(
      { ...this.#child, stdout, stderr },
      { limits: { wallMs, outputBytes, memoryMiB, cpuMs: before + limits.cpuMs }, hooks, ended, kill: () => this.kill() },
    );
    const { usage, cut } = run;
    const taken = run.ended === undefined ? files.result() : { files: [], refused: [] };
    return {
      ending: run.ended ?? endingOf(run.exit, end?.limit, this.#said()),
      ...(run.ended === undefined && end?.value !== undefined ? { value: end.value } : {}),
      usage: { ...usage, ...(usage.cpuMs === undefined ? {} : { cpuMs: Math.max(0, usage.cpuMs - before) }) },
      files: taken.files,
      cut: {
        ...cut,
        ...(end?.valueBytes === undefined ? {} : { valueBytes: end.valueBytes }),
        ...(taken.refused.length === 0 ? {} : { files: taken.refused }),
      },
    };
  }
}

/** V8 ends the process when it gets no memory. */
function endingOf(exit: Exit, limit: LimitName | undefined, said: string): Ending {
  if (limit !== undefined) return { kind: "limit", limit };
  if (exit.code === null && /out of memory/i.test(said)) return { kind: "limit", limit: "memoryMiB" };
  if (exit.code === null) return { kind: "signal", signal: exit.signal ?? "SIGKILL" };
  return { kind: "exit", code: exit.code };
}
