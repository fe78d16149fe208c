/** The languages that run in process sandboxes, as they are started there. */

/** The programs of a runtime, as the probe found them. */
export interface Programs {
  /** The machine's Node binary, when it is not below /usr. */
  readonly node?: string;
}

export interface Runtime {
  /** The name of the file that holds the code. */
  readonly file: string;
  /** What runs it. */
  readonly command: (limits: { memoryMiB: number }) => readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Prints a version in its first line. */
  readonly version: readonly string[];
  /** Threads that it starts by itself; the kernel counts threads as processes. */
  readonly threads: number;
  /** Memory that it sets aside at its start and does not use, in MiB; the kernel counts it nevertheless. */
  readonly reservedMiB: number;
  /** What it writes last when memory was refused to it, and how it ends then. */
  readonly outOfMemory: { readonly says: RegExp; readonly code: number };
}

export const RUNTIMES: Readonly<Record<string, Runtime>> = {
  bash: {
    file: ".main.sh",
    command: () => ["bash", "--norc", "--noprofile", ".main.sh"],
    env: {},
    version: ["bash", "--version"],
    threads: 0,
    reservedMiB: 0,
    outOfMemory: { says: /cannot allocate \d+ bytes/, code: 2 },
  },
  node: {
    file: ".main.js",
    // garbage is collected in time for the limit, and not for the machine's memory
    command: ({ memoryMiB }) => ["node", `--max-old-space-size=${memoryMiB}`, ".main.js"],
    env: { NODE_DISABLE_COMPILE_CACHE: "1" },
    version: ["node", "--version"],
    threads: 16,
    reservedMiB: 640, // V8's range for compiled code is 512 MiB
    outOfMemory: { says: /heap out of memory/, code: 134 },
  },
  python3: {
    file: ".main.py",
    command: () => ["python3", ".main.py"],
    env: { PYTHONDONTWRITEBYTECODE: "1", PYTHONUNBUFFERED: "1", PYTHONNOUSERSITE: "1" },
    version: ["python3", "--version"],
    threads: 0,
    reservedMiB: 0,
    outOfMemory: { says: /^MemoryError\s*$/m, code: 1 },
  },
};
