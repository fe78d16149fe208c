/** A child as its worker sees it: started with nothing, fed one task at a time, killed when a task goes too far. */
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Json, SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { isCleanPath } from "../../file-path.ts";
import { type Child, OutputBudget, startChild } from "../child-process.ts";
import { COLLECTED_BYTES_MAX, shownPath } from "../collector.ts";
import { type Ending, LIMIT_NAMES, type RunHooks, type SandboxOutcome, type SandboxTask } from "../driver.ts";
import { sampleTree } from "../process-tree.ts";
import { VALUE_BYTES_MAX, VALUE_DEPTH_MAX } from "./guest.ts";
import { ENDED, type Frame, FrameReader, framePieces, READY, RUN, type RunHead, STDERR, STDOUT } from "./wire.ts";

const MIB = 1_048_576;
const FRAME_BYTES_MAX = COLLECTED_BYTES_MAX + 4 * MIB;
/** How long a child may take to start, in ms. */
const START_MS = 15_000;
/** A child stops its code at the wall limit by itself; when it has not so many ms later, it is killed. */
const GRACE_MS = 1_000;
/** From when on a run is watched from outside, and how often, in ms: what the engine does in one step it does not interrupt. */
const WATCH_AFTER_MS = 100;
const WATCH_EVERY_MS = 100;
/** What a child takes besides the memory of its code, in MiB: Node itself, files, and what reads TypeScript. */
const OVERHEAD_MIB = 192;
/** For Node's own heap, in MiB: texts on their way in and out. */
const HEAP_MIB = 128;
/** The last of what a child says on stderr, in characters: why it died. */
const SAID_CHARS = 2_000;

const FROM_SOURCES = import.meta.filename.endsWith(".ts");

/** The program, and what it may read: itself. In the sources, where packages lie in folders of their own, those as well. */
function program(): { path: string; wasm: string; readable: readonly string[] } {
  if (!FROM_SOURCES) {
    const path = join(import.meta.dirname, "quickjs-child.js");
    const wasm = join(import.meta.dirname, "quickjs.wasm");
    return { path, wasm, readable: [path, wasm] };
  }
  const path = join(import.meta.dirname, "child.ts");
  const wasm = createRequire(import.meta.url).resolve("@jitl/quickjs-wasmfile-release-sync/wasm");
  const workspace = fileURLToPath(new URL("../../../../../", import.meta.url));
  const readable = ["node_modules", "shared/core", "servers/distributed-execution"].map((folder) => join(workspace, folder, "*"));
  return { path, wasm, readable };
}

function commandLine(): string[] {
  const { path, wasm, readable } = program();
  return [
    "--permission",
    ...readable.map((file) => `--allow-fs-read=${file}`),
    `--max-old-space-size=${HEAP_MIB}`,
    "--single-threaded-gc", // there is little to collect, and threads for it cost more than they save
    "--no-warnings",
    path,
    wasm,
  ];
}

/** How a run ended, in the words of a child; it may be the code's own, so it is read as such. */
const endHead = z.object({
  ending: z.union([
    z.strictObject({ code: z.int().min(0).max(255) }),
    z.strictObject({ limit: z.enum(LIMIT_NAMES as unknown as [string, ...string[]]).pipe(z.enum(LIMIT_NAMES)) }),
  ]),
  value: z.string().max(VALUE_BYTES_MAX).exactOptional(),
  usage: z.object({
    wallMs: z.number().nonnegative(),
    cpuMs: z.number().nonnegative(),
    peakMemoryMiB: z.number().nonnegative(),
  }),
  cut: z.object({
    stdoutBytes: z.int().positive().exactOptional(),
    stderrBytes: z.int().positive().exactOptional(),
    valueBytes: z.int().positive().exactOptional(),
    files: z
      .array(z.object({ path: z.string().max(400), because: z.string().max(200) }))
      .max(20)
      .exactOptional(),
  }),
  files: z.array(z.object({ path: z.string().max(400), bytes: z.int().nonnegative() })).max(4_096),
  usable: z.boolean(),
});

export class QuickJsChild {
  readonly #child: Child;
  readonly #reader: FrameReader;
  #take: (frame: Frame) => void = () => {};
  #gone: () => void = () => {};
  #said = "";
  #usable = true;
  #runs = 0;

  /** @throws SwarmError unavailable when it could not be started */
  static async start(): Promise<QuickJsChild> {
    const child = await startChild({
      command: process.execPath,
      args: commandLine(),
      cwd: tmpdir(),
      // dates are the same wherever code runs; Windows starts nothing without its root
      env: { TZ: "UTC", ...(process.env.SystemRoot === undefined ? {} : { SystemRoot: process.env.SystemRoot }) },
    });
    const started = new QuickJsChild(child);
    try {
      await started.#ready();
      return started;
    } catch (cause) {
      await child.kill();
      throw new SwarmError("unavailable", "The sandbox for JavaScript did not start.", {
        hint: "Submit the task again; the worker's log names the cause.",
        cause,
      });
    }
  }

  private constructor(child: Child) {
    this.#child = child;
    this.#reader = new FrameReader(FRAME_BYTES_MAX, (frame) => this.#take(frame));
    child.stdout.on("data", (bytes: Uint8Array) => {
      if (this.#reader.push(bytes)) return;
      this.#usable = false;
      void child.kill();
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-SAID_CHARS);
    });
    void child.exited.then(() => {
      this.#usable = false;
      this.#gone();
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Whether another task may be run in it. */
  get usable(): boolean {
    return this.#usable;
  }

  /** Tasks that were run in it. */
  get runs(): number {
    return this.#runs;
  }

  async kill(): Promise<void> {
    this.#usable = false;
    await this.#child.kill();
  }

  async #ready(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const late = setTimeout(() => reject(new Error(`it took longer than ${START_MS} ms`)), START_MS);
    this.#take = ({ kind }) => (kind === READY ? resolve() : reject(new Error("it said something else")));
    void this.#child.exited.then(({ code, signal }) => reject(new Error(`it ended with ${signal ?? code}: ${this.#said}`)));
    await promise.finally(() => clearTimeout(late));
  }

  /** Runs one task to its end. After a limit, or when it was killed, the child is gone when this settles. */
  async run(task: SandboxTask, hooks: RunHooks, session: boolean): Promise<SandboxOutcome> {
    const startedAt = performance.now();
    const { promise: settled, resolve: settle } = Promise.withResolvers<SandboxOutcome>();
    const elapsed = () => Math.round(performance.now() - startedAt);
    let killedBy: Ending | undefined;
    const kill = (ending: Ending): void => {
      killedBy ??= ending;
      this.#usable = false;
      void this.#child.kill();
    };
    const budget = new OutputBudget(task.limits.outputBytes, hooks, () => kill({ kind: "limit", limit: "outputBytes" }));
    this.#runs++;
    this.#take = ({ kind, head, body }) => {
      if (killedBy) return;
      if (kind === STDOUT || kind === STDERR) return budget.take(kind === STDOUT ? "stdout" : "stderr", body);
      const end = kind === ENDED ? outcomeOf(head, body, task) : undefined;
      if (!end) return kill({ kind: "signal", signal: "SIGKILL" });
      if (!end.usable) this.#usable = false;
      settle(end.outcome);
    };
    // what had arrived is read before it counts as gone without a word
    this.#gone = () => {
      const finish = () =>
        settle({ ending: killedBy ?? this.#death(), usage: { wallMs: elapsed() }, files: [], cut: budget.cut() });
      if (this.#child.stdout.closed) finish();
      else this.#child.stdout.once("close", finish);
    };
    const onAbort = () => kill({ kind: "killed" });
    const wall = setTimeout(() => kill({ kind: "limit", limit: "wallMs" }), task.limits.wallMs + GRACE_MS);
    const watch = this.#watch(task, kill);
    hooks.signal.addEventListener("abort", onAbort, { once: true });
    if (hooks.signal.aborted) onAbort();
    else for (const piece of piecesOf(task, session)) this.#child.stdin.write(piece);
    if (!this.#usable) this.#gone();
    try {
      return await settled;
    } finally {
      clearTimeout(wall);
      watch[Symbol.dispose]();
      hooks.signal.removeEventListener("abort", onAbort);
      this.#take = () => {};
      this.#gone = () => {};
      if (!this.#usable) await this.kill();
    }
  }

  /** It died by itself, or the machine killed it. */
  #death(): Ending {
    if (/heap out of memory|Allocation failed/.test(this.#said)) return { kind: "limit", limit: "memoryMiB" };
    return { kind: "signal", signal: "SIGABRT" };
  }

  /** Memory and CPU time, looked at from outside; a short run is over before. */
  #watch({ limits }: SandboxTask, kill: (ending: Ending) => void): Disposable {
    let stopped = false;
    let timer: NodeJS.Timeout;
    let cpuBefore: number | undefined;
    const look = async (): Promise<void> => {
      const { processes, cpuMs, memoryBytes } = await sampleTree(this.#child.pid);
      if (stopped || processes.length === 0) return;
      // what it used before the first look, it used in that time at most
      cpuBefore ??= Math.max(0, cpuMs - WATCH_AFTER_MS);
      if (memoryBytes > (limits.memoryMiB + OVERHEAD_MIB) * MIB) kill({ kind: "limit", limit: "memoryMiB" });
      else if (cpuMs - cpuBefore > limits.cpuMs + GRACE_MS) kill({ kind: "limit", limit: "cpuMs" });
      else timer = setTimeout(next, WATCH_EVERY_MS);
    };
    // unwatched it must not go on
    const next = () => void look().catch(() => kill({ kind: "signal", signal: "SIGKILL" }));
    timer = setTimeout(next, WATCH_AFTER_MS);
    return {
      [Symbol.dispose]: () => {
        stopped = true;
        clearTimeout(timer);
      },
    };
  }
}

function piecesOf(task: SandboxTask, session: boolean): Uint8Array[] {
  const code = Buffer.from(task.code, "utf8");
  const head: RunHead = {
    runtime: task.runtime === "typescript" ? "typescript" : "javascript",
    args: task.args,
    env: task.env,
    limits: task.limits,
    codeBytes: code.length,
    stdinBytes: task.stdin.length,
    files: task.files.map(({ path, bytes }) => ({ path, bytes: bytes.length })),
    session,
  };
  return [Buffer.concat(framePieces(RUN, head, [code, task.stdin, ...task.files.map(({ bytes }) => bytes)]))];
}

/** @returns undefined when it is not what a child says: whoever broke out of the engine could say anything */
export function outcomeOf(
  head: Uint8Array,
  body: Uint8Array,
  { limits }: Pick<SandboxTask, "limits">,
): { outcome: SandboxOutcome; usable: boolean } | undefined {
  const end = parsed(head);
  if (!end || end.files.length > limits.files) return undefined;
  let at = 0;
  const files: { path: string; bytes: Uint8Array }[] = [];
  const names = new Set(end.files.map(({ path }) => path));
  if (names.size < end.files.length) return undefined;
  for (const { path, bytes } of end.files) {
    if (!isCleanPath(path) || bytes > limits.fileBytes || at + bytes > body.length) return undefined;
    files.push({ path, bytes: body.slice(at, at + bytes) });
    at += bytes;
  }
  const value = end.value === undefined ? undefined : jsonValue(end.value);
  const ending: Ending =
    "code" in end.ending ? { kind: "exit", code: end.ending.code } : { kind: "limit", limit: end.ending.limit };
  const { usage, usable } = end;
  const refused = end.cut.files?.map(({ path, because }) => ({ path: shownPath(path), because: shownPath(because) }));
  const cut = { ...end.cut, ...(refused === undefined ? {} : { files: refused }) };
  return { outcome: { ending, ...(value === undefined ? {} : { value }), usage, files, cut }, usable };
}

function parsed(head: Uint8Array): z.infer<typeof endHead> | undefined {
  try {
    return endHead.parse(JSON.parse(Buffer.from(head.buffer, head.byteOffset, head.length).toString("utf8")));
  } catch {
    return undefined; // it is not one of ours any more: the child is killed
  }
}

/** @returns undefined when it is nested deeper, or longer, than a value may be, or is no JSON */
function jsonValue(json: string): Json | undefined {
  if (Buffer.byteLength(json) > VALUE_BYTES_MAX) return undefined;
  let value: Json;
  try {
    value = JSON.parse(json);
  } catch {
    return undefined; // a child that is whole says none such
  }
  return depthWithin(value, VALUE_DEPTH_MAX) ? value : undefined;
}

function depthWithin(value: Json, left: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (left === 0) return false;
  return Object.values(value).every((item) => depthWithin(item as Json, left - 1));
}
