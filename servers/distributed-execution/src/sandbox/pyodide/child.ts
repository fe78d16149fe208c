/**
 * The program that Deno runs, without any permission but to read Pyodide. Its main thread reads what the worker sends, and ends the
 * process when its input ends; Python runs in a thread of its own, so that it cannot keep the process from ending, and writes its frames
 * itself. Code can reach the thread's JavaScript (`import js`): what keeps it in is that Deno permits nothing, not what is hidden here.
 */
import type { End, Ready, Run, Start } from "./frames.ts";
import * as frames from "./frames.ts";
import { GUEST } from "./guest.ts";

/** What of Deno is used here. */
declare const Deno: {
  readonly stdin: { readonly readable: AsyncIterable<Uint8Array> };
  readonly stdout: { writeSync(bytes: Uint8Array): number };
  readonly version: { readonly deno: string };
  readFileSync(path: string): Uint8Array<ArrayBuffer>;
  exit(code: number): never;
};
/** What is missing in the types of a language without a browser. */
declare const WebAssembly: { instantiate(source: unknown, imports: unknown): Promise<unknown> };
type Message = { start: Start } | { run: Run };
declare class Worker {
  constructor(url: string, options: { type: "module" });
  onerror: ((event: { preventDefault(): void }) => void) | null;
  postMessage(message: Message): void;
}
declare const self: {
  onmessage: ((event: { data: Message }) => void) | null;
  addEventListener(type: "unhandledrejection", listener: (event: { reason: unknown; preventDefault(): void }) => void): void;
};

/** What of Pyodide is used here. */
interface Pyodide {
  readonly version: string;
  readonly FS: FileSystem;
  runPython(code: string): unknown;
  pyimport(name: string): { run(task: string): Promise<string> };
  setStdin(options: { read(buffer: Uint8Array): number }): void;
  setStdout(options: { write(buffer: Uint8Array): number }): void;
  setStderr(options: { write(buffer: Uint8Array): number }): void;
  makeMemorySnapshot(): Uint8Array<ArrayBuffer>;
}
interface FileNode {
  readonly mode: number;
  readonly usedBytes: number;
  readonly contents: Readonly<Record<string, FileNode>>;
}
/** Emscripten's, in memory. */
interface FileSystem {
  readonly root: FileNode;
  readonly filesystems: {
    readonly MEMFS: {
      readonly ops_table: {
        readonly file: {
          readonly node: { setattr(node: FileNode, attributes: { size?: number }): void };
          readonly stream: {
            write(stream: { node: FileNode }, buffer: unknown, offset: number, length: number, position: number): number;
          };
        };
      };
    };
  };
  readonly ErrnoError: new (code: number) => Error;
  mkdirTree(path: string): void;
  writeFile(path: string, bytes: Uint8Array): void;
  readFile(path: string): Uint8Array;
  readdir(path: string): string[];
  lstat(path: string): { mode: number; size: number };
  isFile(mode: number): boolean;
  isDir(mode: number): boolean;
  unlink(path: string): void;
  rmdir(path: string): void;
}

const WORK = "/work";
const OUT = "/work/out";
/** Python's own files, which no limit counts. */
const LIB = "lib";
/** Deepest folder that is looked into, and most entries of one look. */
const DEPTH_MAX = 16;
const ENTRIES_MAX = 10_000;
/** Most refusals that are told. */
const REFUSED_MAX = 20;
/** What Pyodide instantiates besides is small. */
const MAIN_MODULE_BYTES_MIN = 1_000_000;
/** Emscripten's numbers. */
const EFBIG = 22;
const ENOSPC = 51;
/** Imported before the snapshot is made, because many tasks want them. */
const COMMON =
  "collections, csv, dataclasses, datetime, decimal, enum, fractions, functools, io, itertools, json, math, operator, re, statistics, string, textwrap, typing";
/**
 * Reached by way of JavaScript; without permissions they are of no use, and nobody should have to find that out. What Deno itself is
 * written in needs the rest.
 */
const HIDDEN = ["Worker", "WebSocket", "EventSource", "BroadcastChannel", "caches", "GPU"];

const CONSOLE = {
  log: frames.STDOUT,
  info: frames.STDOUT,
  debug: frames.STDERR,
  warn: frames.STDERR,
  error: frames.STDERR,
} as const;

const text = new TextEncoder();
const write = Deno.stdout.writeSync.bind(Deno.stdout);

function send(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += write(bytes.subarray(at));
}

function sendParts(type: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += frames.PART_BYTES) {
    send(frames.frame(type, bytes.subarray(at, at + frames.PART_BYTES)));
  }
}

function fromBase64(encoded: string): Uint8Array {
  const raw = atob(encoded);
  return Uint8Array.from(raw, (character) => character.charCodeAt(0));
}

/** The main thread: the worker's words go on to Python's thread, and when there are no more all ends, whatever Python does. */
async function relay(): Promise<void> {
  const thread = new Worker(import.meta.url, { type: "module" });
  thread.onerror = (event) => {
    event.preventDefault();
    Deno.exit(1);
  };
  const reader = new frames.FrameReader((type, payload) => {
    const message = JSON.parse(new TextDecoder().decode(payload));
    if (type === frames.START) thread.postMessage({ start: message });
    else if (type === frames.RUN) thread.postMessage({ run: message });
  });
  for await (const bytes of Deno.stdin.readable) if (!reader.push(bytes)) break;
  Deno.exit(0);
}

/** A number of the WebAssembly format; it keeps the length it had, so that nothing behind it moves. */
function rewrite(bytes: Uint8Array, at: number, length: number, value: number): void {
  let rest = value;
  for (let index = 0; index < length; index += 1) {
    bytes[at + index] = (rest & 0x7f) | (index < length - 1 ? 0x80 : 0);
    rest = Math.floor(rest / 128);
  }
  if (rest > 0) throw new Error("the number of pages is too large");
}

/** Sets the most pages in the memory section; what Pyodide comes with is 4 GiB. */
function limitMemory(module: Uint8Array, pages: number): void {
  let at = 8;
  const number = (): { value: number; at: number; length: number } => {
    const from = at;
    let value = 0;
    for (let shift = 0; shift < 5; shift += 1) {
      const byte = module[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** (7 * shift);
      if (byte < 0x80) break;
    }
    return { value, at: from, length: at - from };
  };
  while (at < module.length) {
    const section = module[at++];
    const end = number().value + at;
    if (section === 5) {
      const memories = number().value;
      const flags = module[at++];
      const initial = number().value;
      const most = number();
      if (memories !== 1 || flags !== 1 || initial > pages) break;
      rewrite(module, most.at, most.length, pages);
      return;
    }
    at = end;
  }
  throw new Error("Pyodide's memory is not as it is known; this version of it cannot be limited");
}

async function load({ pyodide, pages, snapshot }: Start): Promise<Pyodide> {
  let limited = false;
  const { instantiate } = WebAssembly;
  const limit = async (source: unknown, imports: unknown): Promise<unknown> => {
    if (source instanceof Uint8Array && source.length > MAIN_MODULE_BYTES_MIN) {
      limitMemory(source, pages);
      limited = true;
    }
    return await instantiate(source, imports);
  };
  Object.assign(WebAssembly, { instantiate: limit });
  const { loadPyodide } = await import(new URL("pyodide.mjs", pyodide).href);
  const indexURL = decodeURIComponent(new URL(pyodide).pathname);
  const python: Pyodide = await loadPyodide({
    indexURL,
    env: {},
    ...(snapshot === undefined ? { _makeSnapshot: true } : { _loadSnapshot: Deno.readFileSync(snapshot) }),
  });
  Object.assign(WebAssembly, { instantiate });
  if (!limited) throw new Error("Pyodide was loaded another way than is known; its memory is not limited");
  if (snapshot === undefined) {
    python.runPython(`import sys, types, ${COMMON}
guest = sys.modules["_guest"] = types.ModuleType("_guest")
exec(compile(${JSON.stringify(GUEST)}, "<guest>", "exec"), guest.__dict__)
del sys, types, guest, ${COMMON}`);
  }
  return python;
}

class Interpreter {
  readonly #python: Pyodide;
  #input: Uint8Array = new Uint8Array();
  #bounds = { fileBytes: 0, diskBytes: 0 };
  /** At most this much is kept in files; counted anew when it seems too much. */
  #diskBytes = 0;
  /** Called when the interpreter gives up: what waits for Python then waits forever. */
  #gaveUp: (cause: unknown) => void = () => {};

  constructor(python: Pyodide) {
    this.#python = python;
    python.setStdin({
      read: (buffer) => {
        const part = this.#input.subarray(0, buffer.length);
        buffer.set(part);
        this.#input = this.#input.subarray(part.length);
        return part.length;
      },
    });
    const writer = (type: number) => ({
      write: (buffer: Uint8Array) => {
        sendParts(type, buffer);
        return buffer.length;
      },
    });
    python.setStdout(writer(frames.STDOUT));
    python.setStderr(writer(frames.STDERR));
    this.#boundFiles();
  }

  #boundFiles(): void {
    const { FS } = this.#python;
    const { node, stream } = FS.filesystems.MEMFS.ops_table.file;
    const [setattr, writeTo] = [node.setattr, stream.write];
    const grow = (file: FileNode, size: number): void => {
      const by = size - file.usedBytes;
      if (by <= 0) return;
      const { fileBytes, diskBytes } = this.#bounds;
      if (size > fileBytes) throw new FS.ErrnoError(EFBIG);
      if (this.#diskBytes + by > diskBytes) this.#diskBytes = this.#used();
      if (this.#diskBytes + by > diskBytes) throw new FS.ErrnoError(ENOSPC);
      this.#diskBytes += by;
    };
    node.setattr = (file, attributes) => {
      if (attributes.size !== undefined) grow(file, attributes.size);
      setattr(file, attributes);
    };
    stream.write = (at, buffer, offset, length, position) => {
      if (length > 0) grow(at.node, position + length);
      return writeTo(at, buffer, offset, length, position);
    };
  }

  /** Bytes of all files but Python's own. */
  #used(): number {
    const { FS } = this.#python;
    let bytes = 0;
    const pending = Object.entries(FS.root.contents).flatMap(([name, node]) => (name === LIB ? [] : [node]));
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      if (FS.isDir(node.mode)) pending.push(...Object.values(node.contents));
      else if (FS.isFile(node.mode)) bytes += node.usedBytes;
    }
    return bytes;
  }

  #put(run: Run): void {
    const { FS } = this.#python;
    this.#bounds = { fileBytes: Number.MAX_SAFE_INTEGER, diskBytes: Number.MAX_SAFE_INTEGER };
    FS.mkdirTree(WORK);
    this.#clear(OUT, 0);
    FS.mkdirTree(OUT);
    for (const { path, bytes } of run.files) {
      const target = `${WORK}/${path}`;
      FS.mkdirTree(target.slice(0, target.lastIndexOf("/")));
      FS.writeFile(target, fromBase64(bytes));
    }
    this.#diskBytes = this.#used();
    // what a task is given does not count as written by it
    this.#bounds = { fileBytes: run.fileBytes, diskBytes: run.diskBytes + this.#diskBytes };
    this.#input = fromBase64(run.stdin);
  }

  /** Of a session each task gives back its own files. */
  #clear(path: string, depth: number): void {
    const { FS } = this.#python;
    let mode: number;
    try {
      mode = FS.lstat(path).mode;
    } catch {
      return; // it is not there
    }
    if (!FS.isDir(mode) || depth > DEPTH_MAX) {
      FS.unlink(path);
      return;
    }
    for (const name of FS.readdir(path)) if (name !== "." && name !== "..") this.#clear(`${path}/${name}`, depth + 1);
    FS.rmdir(path);
  }

  giveUp(cause: unknown): void {
    this.#gaveUp(cause);
  }

  async run(run: Run): Promise<void> {
    this.#put(run);
    let end: Omit<End, "refused" | "dead">;
    let dead = false;
    try {
      const { code, args, env, valueBytes } = run;
      const gaveUp = new Promise<never>((_, reject) => {
        this.#gaveUp = reject;
      });
      const running = this.#python.pyimport("_guest").run(JSON.stringify({ code, args, env, valueBytes }));
      end = JSON.parse(await Promise.race([running, gaveUp]));
    } catch (error) {
      // no exception of the code's, which has been shown: the interpreter itself gave up
      const why = String(error);
      dead = true;
      end = { code: 1, ...(/out of memory|memory\.grow|allocation failed/i.test(why) ? { limit: "memoryMiB" as const } : {}) };
      sendParts(frames.STDERR, text.encode(`The interpreter ended: ${why.slice(0, 500)}\n`));
    }
    const refused = dead ? [] : this.#sendFiles(run.filesMax);
    send(frames.jsonFrame(frames.END, { ...end, refused, dead } satisfies End));
  }

  /** Regular files below `out`; a link is not followed, and there is nothing else. */
  #sendFiles(filesMax: number): End["refused"] {
    const { FS } = this.#python;
    const refused: { path: string; because: string }[] = [];
    let entries = 0;
    let sent = 0;
    const refuse = (path: string, because: string): void => {
      if (refused.length < REFUSED_MAX) refused.push({ path, because });
    };
    const walk = (folder: string, depth: number): void => {
      for (const name of FS.readdir(folder).sort()) {
        if (name === "." || name === "..") continue;
        const path = `${folder}/${name}`;
        const shown = path.slice(OUT.length + 1);
        entries += 1;
        if (entries > ENTRIES_MAX) {
          refuse(shown, `more than ${ENTRIES_MAX} files and folders were left`);
          return;
        }
        const { mode } = FS.lstat(path);
        if (FS.isDir(mode)) {
          if (depth >= DEPTH_MAX) refuse(shown, `it is deeper than ${DEPTH_MAX} folders`);
          else walk(path, depth + 1);
        } else if (!FS.isFile(mode)) refuse(shown, "it is not a regular file");
        else if (sent >= filesMax) refuse(shown, `more than ${filesMax} files were left`);
        else {
          sent += 1;
          send(frames.jsonFrame(frames.FILE, shown));
          sendParts(frames.FILE_BYTES, FS.readFile(path));
        }
      }
    };
    try {
      const { mode } = FS.lstat(OUT);
      if (FS.isDir(mode)) walk(OUT, 1);
      else refuse("out", "it is not a folder");
    } catch {
      refuse("out", "it could not be read"); // the code removed it, or broke the file system it has
    }
    return refused;
  }
}

/** Nobody can be served: the main thread is told by an error that nobody catches, and ends the process. */
function fail(cause: unknown): void {
  setTimeout(() => {
    throw cause;
  }, 0);
}

/** Pyodide marks what its interpreter does not survive. */
function isFatal(reason: unknown): boolean {
  return typeof reason === "object" && reason !== null && Reflect.get(reason, "pyodide_fatal_error") === true;
}

/** Python's thread. */
function serve(): void {
  let interpreter: Interpreter | undefined;
  const { deno } = Deno.version;
  const start = async (spec: Start): Promise<void> => {
    const python = await load(spec);
    const version = String(python.runPython('__import__("sys").version.split()[0]'));
    if (spec.snapshot === undefined) sendParts(frames.SNAPSHOT_BYTES, python.makeMemorySnapshot());
    else interpreter = new Interpreter(python);
    // what it prints in JavaScript is output like any other
    for (const [name, type] of Object.entries(CONSOLE)) {
      Reflect.set(console, name, (...parts: unknown[]) => sendParts(type, text.encode(`${parts.map(String).join(" ")}\n`)));
    }
    for (const name of HIDDEN) Reflect.deleteProperty(globalThis, name);
    Reflect.deleteProperty(Object.getPrototypeOf(navigator), "gpu");
    send(frames.jsonFrame(frames.READY, { python: version, pyodide: python.version, deno } satisfies Ready));
  };
  self.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    if (isFatal(event.reason)) interpreter?.giveUp(event.reason);
    // of the code's own promises in JavaScript
    else sendParts(frames.STDERR, text.encode(`A promise was rejected: ${String(event.reason).slice(0, 500)}\n`));
  });
  self.onmessage = ({ data }) => {
    if ("start" in data) start(data.start).catch(fail);
    else void interpreter?.run(data.run);
  };
}

if ("WorkerGlobalScope" in globalThis) serve();
else await relay();
