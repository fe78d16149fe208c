/**
 * One QuickJS: a WebAssembly module of its own in a memory that cannot grow beyond its limit. It runs one task, or the tasks of one
 * session. Whatever stops a run stops it through the interrupt handler, which the engine asks all the time and code cannot catch.
 */
import { randomBytes } from "node:crypto";
import releaseSync from "@jitl/quickjs-wasmfile-release-sync";
import {
  newQuickJSWASMModuleFromVariant,
  newVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSRuntime,
  type QuickJSSyncVariant,
} from "quickjs-emscripten-core";
import type { LimitName, Limits } from "../driver.ts";
import { guest, VALUE_BYTES_MAX, VALUE_DEPTH_MAX } from "./guest.ts";
import { guestLibrary } from "./guest-library.ts";
import type { VirtualFiles } from "./virtual-files.ts";

/** More of it, and a recursion is stopped by the host's stack instead of as an error that the code can catch. */
const STACK_BYTES = 128 * 1024;
const PAGE_BYTES = 65_536;
const MIB = 1_048_576;
/** What the engine was linked for; a limit below it cannot be held. */
export const MEMORY_MIB_MIN = 16;
/** What a WebAssembly module with 32-bit addresses can use, as this one was linked. */
const MEMORY_MIB_MAX = 2_048;
/** How many jobs of promises run between two looks at the clock. */
const JOBS_AT_ONCE = 256;
/** How often CPU time is asked for, and `idle` is called while code runs, in ms. */
const LOOK_EVERY_MS = 20;
/** How often in a row the engine's allocator asks for less before it gives up (1.2, 1.1 and 1.05 times of what it has). */
const GROW_TRIES = 3;
/** A global script in which `await` may stand (JS_EVAL_FLAG_ASYNC); its completion value is the promise's. */
const EVAL_SCRIPT = 1 << 7;
const EVAL_MODULE = 1;
const EVAL_COMPILE_ONLY = 1 << 5;
const LOOKS_LIKE_MODULE = /^[\t ]*(?:import\s*[\w{*"']|export\b)/m;
/** Node's for a top-level await that nothing will end. */
const NEVER_SETTLED = 13;

/** Its types are written for CommonJS, where the default is one deeper. */
const VARIANT = releaseSync as unknown as QuickJSSyncVariant;
const GUEST = `(${guest.toString()})`;
const GUEST_LIBRARY = `(${guestLibrary.toString()})`;
const GUEST_OPTIONS = JSON.stringify({ valueBytes: VALUE_BYTES_MAX, valueDepth: VALUE_DEPTH_MAX });

export type VmEnding = { readonly code: number } | { readonly limit: LimitName };

export interface VmTask {
  readonly fileName: string;
  readonly code: string;
  /** JSON of `{args, stdin, env}`. */
  readonly given: string;
  readonly limits: Limits;
  readonly files: VirtualFiles;
  /** @returns false when there is no room for more */
  readonly print: (stream: 1 | 2, text: string) => boolean;
  /** Called several times a second while code runs. */
  readonly idle: () => void;
  /** Waits without using the processor. */
  readonly sleep: (ms: number) => void;
  readonly toSource?: (stack: string) => string;
}

export interface VmOutcome {
  readonly ending: VmEnding;
  readonly value?: string;
  /** Bytes of a value that was too long, as far as it was written. */
  readonly valueBytes?: number;
  /** False when the engine itself broke: nothing more can be run in it. */
  readonly sound: boolean;
}

interface Hooks {
  readonly begin: QuickJSHandle;
  readonly follow: QuickJSHandle;
  readonly state: QuickJSHandle;
  readonly tick: QuickJSHandle;
  readonly value: QuickJSHandle;
  readonly fail: QuickJSHandle;
  readonly thrown: QuickJSHandle;
}

/** The run has been stopped; how is in `#ending`. */
class Stopped extends Error {}

export class Vm {
  readonly memoryMiB: number;
  readonly #memory: WebAssembly.Memory;
  readonly #runtime: QuickJSRuntime;
  readonly #context: QuickJSContext;
  readonly #hooks: Hooks;
  #task: VmTask | undefined;
  #ending: VmEnding | undefined;
  #deadline = Number.POSITIVE_INFINITY;
  #cpuEnd = Number.POSITIVE_INFINITY;
  #lookAt = 0;
  #refusals = 0;

  /**
   * @param memoryMiB from MEMORY_MIB_MIN on
   * @param before whose memory is taken over, every byte of it zero again: a new one for each task would keep Node collecting garbage
   */
  static async create(module: WebAssembly.Module, memoryMiB: number, before?: Vm): Promise<Vm> {
    const maximum = Math.floor((Math.min(memoryMiB, MEMORY_MIB_MAX) * MIB) / PAGE_BYTES);
    const initial = (MEMORY_MIB_MIN * MIB) / PAGE_BYTES;
    const old = before?.memoryMiB === memoryMiB && before.memoryBytes === initial * PAGE_BYTES ? before.#memory : undefined;
    if (old) new Uint8Array(old.buffer).fill(0);
    const memory = old ?? new WebAssembly.Memory({ initial, maximum });
    const engine = await newQuickJSWASMModuleFromVariant(newVariant(VARIANT, { wasmModule: module, wasmMemory: memory }));
    return new Vm(memory, engine.newRuntime(), memoryMiB);
  }

  private constructor(memory: WebAssembly.Memory, runtime: QuickJSRuntime, memoryMiB: number) {
    this.memoryMiB = memoryMiB;
    this.#memory = memory;
    this.#runtime = runtime;
    memory.grow = (pages) => this.#grow(pages);
    runtime.setMaxStackSize(STACK_BYTES);
    runtime.setInterruptHandler(() => this.#mustStop());
    runtime.setModuleLoader(() => ({
      error: new Error(
        "There are no modules to import here: all that code has is in its own text, and readFile reads its input files",
      ),
    }));
    this.#context = runtime.newContext();
    this.#hooks = this.#install();
  }

  get memoryBytes(): number {
    return this.#memory.buffer.byteLength;
  }

  /** Runs it to its end. Never throws. */
  run(task: VmTask): VmOutcome {
    this.#task = task;
    this.#ending = undefined;
    this.#refusals = 0;
    const now = performance.now();
    this.#deadline = now + task.limits.wallMs;
    this.#cpuEnd = cpuMs() + task.limits.cpuMs;
    this.#lookAt = now + LOOK_EVERY_MS;
    try {
      const outcome = this.#follow(task);
      return this.#ending ? { ending: this.#ending, sound: true } : outcome;
    } catch (error) {
      if (this.#ending) return { ending: this.#ending, sound: error instanceof Stopped };
      return this.#broken(task, error);
    } finally {
      this.#task = undefined;
    }
  }

  /** The engine threw what no code can throw. */
  #broken(task: VmTask, error: unknown): VmOutcome {
    const overflow = error instanceof RangeError;
    task.print(2, overflow ? "Uncaught InternalError: stack overflow\n" : "The engine that ran this code broke.\n");
    return { ending: { code: overflow ? 1 : 134 }, sound: false };
  }

  #follow(task: VmTask): VmOutcome {
    this.#call(this.#hooks.begin, this.#text(task.given));
    const started = this.#start(task);
    if (started.error) return this.#failed(started.error);
    const { running, isModule } = started;
    this.#call(this.#hooks.follow, running, isModule ? this.#context.true : this.#context.false).dispose();
    running.dispose();
    for (;;) {
      const wrong = this.#jobs();
      if (wrong) return this.#failed(wrong);
      const state = this.#string(this.#call(this.#hooks.state));
      if (state === "failed") return this.#failed(this.#call(this.#hooks.thrown));
      const ticked = this.#context.callFunction(this.#hooks.tick, this.#context.undefined);
      if (ticked.error) return this.#failed(ticked.error);
      const waitMs = this.#context.getNumber(ticked.value);
      ticked.value.dispose();
      if (waitMs > 0) this.#sleep(task, waitMs);
      if (waitMs >= 0) continue;
      if (state === "done") return this.#succeeded();
      task.print(2, "Uncaught: what is awaited never ends; nothing is left that could end it\n");
      return { ending: { code: NEVER_SETTLED }, sound: true };
    }
  }

  #start({ code, fileName }: VmTask): { error: QuickJSHandle } | { error?: never; running: QuickJSHandle; isModule: boolean } {
    const isModule = LOOKS_LIKE_MODULE.test(code) && !this.#compiles(code, fileName);
    const result = this.#context.evalCode(code, fileName, isModule ? EVAL_MODULE : EVAL_SCRIPT);
    return result.error ? { error: result.error } : { running: result.value, isModule };
  }

  /** As a script: then it is no module, whatever it looks like. */
  #compiles(code: string, fileName: string): boolean {
    const result = this.#context.evalCode(code, fileName, EVAL_SCRIPT | EVAL_COMPILE_ONLY);
    (result.error ?? result.value).dispose();
    return !result.error;
  }

  #succeeded(): VmOutcome {
    const value = this.#call(this.#hooks.value);
    const type = this.#context.typeof(value);
    if (type === "number") return { ending: { code: 0 }, valueBytes: this.#context.getNumber(value), sound: true };
    const json = this.#context.getString(value);
    value.dispose();
    return { ending: { code: 0 }, ...(json === "" ? {} : { value: json }), sound: true };
  }

  /** Code threw, or could not be parsed. */
  #failed(thrown: QuickJSHandle): VmOutcome {
    this.#check();
    this.#call(this.#hooks.fail, thrown).dispose();
    thrown.dispose();
    return { ending: { code: 1 }, sound: true };
  }

  /** @returns what a job threw that no promise took */
  #jobs(): QuickJSHandle | undefined {
    while (this.#runtime.hasPendingJob()) {
      const done = this.#runtime.executePendingJobs(JOBS_AT_ONCE);
      this.#mustStop();
      this.#check();
      if (done.error) return done.error;
      done.dispose();
    }
    return undefined;
  }

  #sleep(task: VmTask, ms: number): void {
    task.idle();
    const left = this.#deadline - performance.now();
    task.sleep(Math.max(0, Math.min(ms, left)));
    this.#mustStop();
    this.#check();
  }

  /** The interrupt handler. Once it has said yes it goes on saying so, whatever code still begins. */
  #mustStop(): boolean {
    if (this.#ending) return true;
    const now = performance.now();
    if (now < this.#lookAt) return false;
    this.#lookAt = now + LOOK_EVERY_MS;
    if (now >= this.#deadline) this.#ending = { limit: "wallMs" };
    else if (cpuMs() >= this.#cpuEnd) this.#ending = { limit: "cpuMs" };
    else this.#task?.idle();
    return this.#ending !== undefined;
  }

  /** Memory that is asked for and refused is the end of the run, though code might have caught it. */
  #grow(pages: number): number {
    try {
      const before = WebAssembly.Memory.prototype.grow.call(this.#memory, pages);
      this.#refusals = 0;
      return before;
    } catch (error) {
      this.#refusals++;
      if (this.#refusals >= GROW_TRIES) this.#ending ??= { limit: "memoryMiB" };
      throw error;
    }
  }

  #check(): void {
    if (this.#ending) throw new Stopped();
  }

  /** Calls a function of ours in the guest. What it throws is not the code's: the engine is out of something. */
  #call(hook: QuickJSHandle, ...given: QuickJSHandle[]): QuickJSHandle {
    const result = this.#context.callFunction(hook, this.#context.undefined, ...given);
    this.#check();
    if (!result.error) return result.value;
    result.error.dispose();
    throw new RangeError("The engine is out of stack or memory");
  }

  /** A text, or its bytes where a text cannot cross. */
  #printed(given: QuickJSHandle): string {
    if (this.#context.typeof(given) === "string") return this.#context.getString(given);
    using lifetime = this.#context.getArrayBuffer(given);
    return Buffer.from(lifetime.value).toString("utf8");
  }

  #text(text: string): QuickJSHandle {
    return this.#context.newString(text);
  }

  #string(handle: QuickJSHandle): string {
    const text = this.#context.getString(handle);
    handle.dispose();
    return text;
  }

  #install(): Hooks {
    const context = this.#context;
    const host = context.newObject();
    const offer = (name: string, call: (task: VmTask, ...given: QuickJSHandle[]) => QuickJSHandle | undefined) => {
      const made = context.newFunction(name, (...given) => {
        const task = this.#task;
        // while the guest is installed there is none, and nothing but chance is asked for
        return task === undefined && name !== "randomBytes" ? context.undefined : call(task as VmTask, ...given);
      });
      context.setProp(host, name, made);
      made.dispose();
    };
    const bytes = (from: Uint8Array): QuickJSHandle => context.newArrayBuffer(new Uint8Array(from).buffer);
    const written = (wrong: "fileBytes" | "diskBytes" | string | undefined): QuickJSHandle => {
      if (wrong !== "fileBytes" && wrong !== "diskBytes") return context.newString(wrong ?? "");
      this.#ending ??= { limit: wrong };
      return context.newString("limit");
    };
    offer("print", (task, stream, text) => {
      const given = text === undefined ? "" : this.#printed(text);
      const first = stream !== undefined && context.getNumber(stream) === 1;
      const roomLeft = task.print(first ? 1 : 2, first ? given : (task.toSource?.(given) ?? given));
      if (!roomLeft) this.#ending ??= { limit: "outputBytes" };
      return roomLeft ? context.true : context.false;
    });
    offer("exit", (_task, code) => {
      this.#ending ??= { code: code === undefined ? 0 : context.getNumber(code) };
      return context.undefined;
    });
    offer("readText", (task, path) => {
      const found = path && task.files.read(context.getString(path));
      if (!found) return context.undefined;
      return found.includes(0) ? context.false : context.newString(Buffer.from(found).toString("utf8"));
    });
    offer("readBytes", (task, path) => {
      const found = path && task.files.read(context.getString(path));
      return found ? bytes(found) : context.undefined;
    });
    offer("writeText", (task, path, text) => {
      if (!path || !text) return context.undefined;
      return written(task.files.write(context.getString(path), Buffer.from(context.getString(text), "utf8"), task.limits));
    });
    offer("writeBytes", (task, path, content) => {
      if (!path || !content) return context.undefined;
      using lifetime = context.getArrayBuffer(content);
      return written(task.files.write(context.getString(path), new Uint8Array(lifetime.value), task.limits));
    });
    offer("listFiles", (task) => context.newString(JSON.stringify(task.files.paths())));
    offer("now", () => context.newNumber(Math.floor(performance.now())));
    offer("randomBytes", (_task, count) => bytes(randomBytes(count === undefined ? 0 : context.getNumber(count))));

    offer("library", () => context.unwrapResult(context.evalCode(GUEST_LIBRARY, "guest.js", { type: "global", strict: true })));

    const api = context.unwrapResult(context.evalCode(GUEST, "guest.js", { type: "global", strict: true }));
    const options = context.unwrapResult(context.evalCode(`(${GUEST_OPTIONS})`, "guest.js"));
    const hooks = context.unwrapResult(context.callFunction(api, context.undefined, host, options));
    for (const handle of [api, options, host]) handle.dispose();
    const hook = (name: keyof Hooks): QuickJSHandle => context.getProp(hooks, name);
    const found: Hooks = {
      begin: hook("begin"),
      follow: hook("follow"),
      state: hook("state"),
      tick: hook("tick"),
      value: hook("value"),
      fail: hook("fail"),
      thrown: hook("thrown"),
    };
    hooks.dispose();
    return found;
  }
}

/** Of this process, as the kernel counts it. */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
