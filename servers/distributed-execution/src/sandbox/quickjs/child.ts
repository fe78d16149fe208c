/**
 * The program of a child: reads a task, runs it in a module of its own, writes how it ended, and so on, until its input ends. It does
 * one thing at a time and waits by blocking: code in the sandbox that never yields keeps nobody from being heard, because nobody speaks
 * to it meanwhile; whoever wants it dead kills it.
 */
import { readFileSync, readSync, writeSync } from "node:fs";
import type { Cut } from "../driver.ts";
import { stripTypes, TypeScriptError } from "./typescript.ts";
import { VirtualFiles } from "./virtual-files.ts";
import { cpuMs, MEMORY_MIB_MIN, Vm, type VmOutcome } from "./vm.ts";
import { ENDED, type EndHead, framePieces, PREFIX_BYTES, READY, RUN, type RunHead, readPrefix, STDERR, STDOUT } from "./wire.ts";

const STDIN = 0;
const TO_WORKER = 1;
/** What comes back of one task at most, in bytes: as much as of other sandboxes. */
const COLLECTED_BYTES_MAX = 32 * 1_048_576;
/** How long output waits for more of it, in ms, and how much waits. */
const OUTPUT_WAIT_MS = 50;
const OUTPUT_BYTES = 16_384;
const MIB = 1_048_576;
/** One module is made ahead: before there was a task, for the memory that environments ask for by default. */
const MEMORY_MIB_AHEAD = 256;

const worker = process.ppid;
const asleep = new Int32Array(new SharedArrayBuffer(4));

/** @returns false when there is no more */
function fill(into: Uint8Array): boolean {
  let at = 0;
  while (at < into.length) {
    const count = readSync(STDIN, into, at, into.length - at, null);
    if (count === 0) return false;
    at += count;
  }
  return true;
}

function send(kind: number, head: unknown, body: readonly Uint8Array[]): void {
  const whole = Buffer.concat(framePieces(kind, head, body));
  for (let at = 0; at < whole.length; ) at += writeSync(TO_WORKER, whole, at);
}

/** What a task prints, on its way: gathered, so that a short task sends one frame. */
class Output {
  #left: number;
  #waiting: { stream: 1 | 2; bytes: Buffer }[] = [];
  #waitingBytes = 0;
  #since = 0;
  readonly #cut = { 1: 0, 2: 0 };

  constructor(bytesMax: number) {
    this.#left = bytesMax;
  }

  /** @returns false when there was more than may come */
  print(stream: 1 | 2, text: string): boolean {
    const bytes = Buffer.from(text, "utf8");
    const taken = bytes.subarray(0, this.#left);
    this.#left -= taken.length;
    this.#cut[stream] += bytes.length - taken.length;
    if (taken.length > 0) {
      if (this.#waitingBytes === 0) this.#since = performance.now();
      this.#waiting.push({ stream, bytes: taken });
      this.#waitingBytes += taken.length;
      if (this.#waitingBytes >= OUTPUT_BYTES) this.flush();
    }
    return taken.length === bytes.length;
  }

  flushOld(): void {
    if (this.#waitingBytes > 0 && performance.now() - this.#since >= OUTPUT_WAIT_MS) this.flush();
  }

  flush(): void {
    for (let at = 0; at < this.#waiting.length; ) {
      const stream = this.#waiting[at]?.stream;
      const from = at;
      while (at < this.#waiting.length && this.#waiting[at]?.stream === stream) at++;
      const pieces = this.#waiting.slice(from, at).map(({ bytes }) => bytes);
      send(stream === 1 ? STDOUT : STDERR, undefined, pieces);
    }
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  cut(): Pick<Cut, "stdoutBytes" | "stderrBytes"> {
    return {
      ...(this.#cut[1] > 0 ? { stdoutBytes: this.#cut[1] } : {}),
      ...(this.#cut[2] > 0 ? { stderrBytes: this.#cut[2] } : {}),
    };
  }
}

/** Several times a second while code runs: it would go on for nobody. */
function dieWithWorker(): void {
  if (process.ppid !== worker) process.kill(process.pid, "SIGKILL");
}

/** The code as the engine takes it. */
function translate({ runtime }: RunHead, source: string): { code: string; toSource?: (stack: string) => string } {
  return runtime === "typescript" ? stripTypes(source) : { code: source };
}

function run(vm: Vm, files: VirtualFiles, head: RunHead, body: Buffer): boolean {
  const startedAt = performance.now();
  const cpuBefore = cpuMs();
  const output = new Output(head.limits.outputBytes);
  let at = 0;
  const next = (bytes: number): Buffer => {
    const from = at;
    at += bytes;
    return body.subarray(from, at);
  };
  const source = next(head.codeBytes).toString("utf8");
  const stdin = next(head.stdinBytes).toString("utf8");
  for (const { path, bytes } of head.files) files.give(path, Buffer.from(next(bytes)));

  const outcome = ((): VmOutcome => {
    try {
      const { code, toSource } = translate(head, source);
      return vm.run({
        fileName: head.runtime === "typescript" ? "task.ts" : "task.js",
        code,
        given: JSON.stringify({ args: head.args, stdin, env: head.env }),
        limits: { ...head.limits, wallMs: head.limits.wallMs - (performance.now() - startedAt) },
        files,
        print: (stream, text) => output.print(stream, text),
        idle: () => {
          dieWithWorker();
          output.flushOld();
        },
        sleep: (ms) => {
          if (ms >= OUTPUT_WAIT_MS) output.flush();
          const until = performance.now() + ms;
          for (let left = ms; left > 0; left = until - performance.now()) {
            Atomics.wait(asleep, 0, 0, Math.min(left, 1_000));
            dieWithWorker();
          }
        },
        ...(toSource ? { toSource } : {}),
      });
    } catch (error) {
      if (!(error instanceof TypeScriptError)) throw error;
      output.print(2, `Uncaught ${error.message}\n`);
      return { ending: { code: 1 }, sound: !error.broken };
    }
  })();

  const { files: collected, refused } = files.collect(head.limits.files, COLLECTED_BYTES_MAX);
  const end: EndHead = {
    ending: outcome.ending,
    ...(outcome.value === undefined ? {} : { value: outcome.value }),
    usage: {
      wallMs: Math.round(performance.now() - startedAt),
      cpuMs: Math.round(cpuMs() - cpuBefore),
      peakMemoryMiB: Math.round((vm.memoryBytes / MIB) * 10) / 10,
    },
    cut: {
      ...output.cut(),
      ...(outcome.valueBytes === undefined ? {} : { valueBytes: outcome.valueBytes }),
      ...(refused.length > 0 ? { files: refused } : {}),
    },
    files: collected.map(({ path, bytes }) => ({ path, bytes: bytes.length })),
    usable: outcome.sound && "code" in outcome.ending,
  };
  output.flush();
  send(
    ENDED,
    end,
    collected.map(({ bytes }) => bytes),
  );
  return end.usable;
}

async function main(wasm: string): Promise<void> {
  const module = new WebAssembly.Module(readFileSync(wasm));
  let ahead: Vm | undefined = await Vm.create(module, MEMORY_MIB_AHEAD);
  let kept: { vm: Vm; files: VirtualFiles } | undefined;
  send(READY, { memoryMiBMin: MEMORY_MIB_MIN }, []);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  while (fill(prefix)) {
    const { kind, headBytes, bodyBytes } = readPrefix(prefix);
    const headText = Buffer.alloc(headBytes);
    const body = Buffer.alloc(bodyBytes);
    if (kind !== RUN || !fill(headText) || !fill(body)) return;
    const head = JSON.parse(headText.toString("utf8")) as RunHead;
    const { memoryMiB } = head.limits;
    if (!kept) {
      const vm = ahead?.memoryMiB === memoryMiB ? ahead : await Vm.create(module, memoryMiB);
      ahead = undefined;
      kept = { vm, files: new VirtualFiles() };
    }
    const usable = run(kept.vm, kept.files, head, body);
    if (!usable) return;
    if (head.session) continue;
    ahead = await Vm.create(module, memoryMiB, kept.vm);
    kept = undefined;
  }
}

const [wasm] = process.argv.slice(2);
if (wasm !== undefined) await main(wasm);
