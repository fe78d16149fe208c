/** One run in bubblewrap: its command line, what it says of itself, and how it ended. */
import { existsSync, lstatSync, readFileSync, readlinkSync, constants as system } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { assert, SwarmError } from "@mcp-swarm/core";
import { startChild, supervise } from "../child-process.ts";
import type { Ending, RunHooks, SandboxOutcome, SandboxTask } from "../driver.ts";
import { killTree, sampleTree } from "../process-tree.ts";
import { socketMemory } from "../socket-memory.ts";
import type { WorkFolder } from "../work-folder.ts";
import type { Disk } from "./disk.ts";
import { type Programs, RUNTIMES, type Runtime } from "./runtimes.ts";

/** The code's user, whoever it is outside. */
const USER_ID = "1000";
const MIB = 1_048_576;
/**
 * What the kernel itself refuses lies a little above the limit at which the run is ended from outside, so that the answer can name the
 * limit; what the kernel refuses the code sees only as an error of its own.
 */
const KERNEL_MEMORY_SHARE = 1.5;
const KERNEL_MEMORY_MORE_MIB = 128;
const KERNEL_PROCESSES_MORE = 8;
/** Processes of the sandbox itself: the namespace's first, the shell and its two pipes, bwrap outside and inside, what starts the code. */
const OWN_PROCESSES = 7;
const OPEN_FILES_MAX = 256;
const STACK_BYTES_MAX = 8 * MIB;
/** How long a sandbox that is to be killed may take to start, and its pipes to run empty, in ms. */
const START_MS_MAX = 2_000;
const DRAIN_MS_MAX = 2_000;
/** How much of the end of stderr is looked at for a complaint about memory, in bytes; Node's is long. */
const SAID_MAX = 16_384;

/**
 * A PID namespace around bwrap, because bwrap ends a moment before its sandbox has: when the shell in it has ended, all have, and nothing
 * is left to be waited for by a first process of the machine that may not do so (as in many containers).
 */
const OUTER = ["unshare", "--pid", "--fork", "--kill-child", "--", "sh", "-c"];
/** What the shell waits for before it does anything. */
const GO = Buffer.from("go\n");
/**
 * It begins when it is told to, which is after its process group is guarded: a worker that is killed in between has told it nothing,
 * and it ends with its input. Its arguments: the folder with input, then bwrap's command. stdout and stderr become pipes, because what
 * Node gives a child are sockets, which nothing can open again under /dev/stdout.
 */
const RUN = `
read -r go || exit 1
input=$1
shift
echo 1000 > /proc/self/oom_score_adj
exec 5>&1
{ { "$@" </dev/null 9<"$input/filter" 2>&6 5>&- 6>&- | cat >&5 3>&- 5>&- 6>&-; } 6>&1 >&- | cat >&2 3>&- 5>&-; }
`;
/**
 * Looks whether each mount is what was looked at outside, brings the files of the task in where the code can see no more than it will see
 * itself; then the code, with its input opened where it cannot be opened again for writing. What the environment's variables say (PATH,
 * LD_PRELOAD) holds for the code alone: what sets the limits has none of them. Its arguments: for each mount "mount", what it is and
 * where; then the variables and the command.
 */
const START = `
while [ "$1" = mount ]; do
  [ "$(stat -c %d:%i "$3")" = "$2" ] || { echo "The folder to be mounted at $3 was exchanged." >&2; exit 125; }
  shift 3
done
cp -R /input/. /work/ && exec env "$@" </stdin
`;

const FILES: Readonly<Record<string, string>> = {
  passwd: "user:x:1000:1000::/work:/bin/sh\n",
  group: "user:x:1000:\n",
  hosts: "127.0.0.1 localhost\n::1 localhost\n",
};
/** Of the machine's /etc: which program a name stands for, and where libraries are. */
const SHARED_ETC = ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"];

export interface SandboxOptions {
  readonly programs: Programs;
  readonly filter: Buffer;
  readonly disk: Disk;
  readonly folder: WorkFolder;
  /** Who runs it, when that is not the worker's own user. */
  readonly user: number | undefined;
  /** Where the system's programs are, as a PATH. */
  readonly path: string;
  /** Tells the runs of one folder apart. */
  readonly run: number;
  /** Instead of the runtime's command. */
  readonly command?: readonly string[];
}

/**
 * Runs one task; every process of it is dead when this settles.
 * @throws SwarmError unavailable when the code did not run
 */
export async function runInBwrap(
  task: SandboxTask,
  hooks: RunHooks,
  options: SandboxOptions,
): Promise<Omit<SandboxOutcome, "files">> {
  const runtime = runtimeOf(task);
  if (task.network.mode !== "none" || task.packages.length > 0) {
    throw new SwarmError("failed_precondition", "This sandbox opens no network and adds no packages.", {
      hint: "Use an environment of another driver.",
    });
  }
  const { folder, disk, user } = options;
  const given = `given-${options.run}`;
  const input = `input-${options.run}`;
  await folder.write(input, [...task.files, { path: runtime.file, bytes: Buffer.from(task.code) }]);
  await folder.write(given, [
    { path: "stdin", bytes: task.stdin },
    { path: "filter", bytes: options.filter },
    ...Object.entries(FILES).map(([path, text]) => ({ path, bytes: Buffer.from(text) })),
  ]);
  const givenPath = join(folder.path, given);
  await using sources = await openSources(task.mounts.map(({ from }) => from));
  const inside = bwrapCommand(task, runtime, {
    ...options,
    givenPath,
    inputPath: join(folder.path, input),
    sources: sources.ids,
  });
  const wasFull = disk.isFull();
  const isFull = (): boolean => !wasFull && disk.isFull();
  const child = await startChild({
    command: disk.enter.command,
    args: [...disk.enter.args, ...OUTER, RUN, "run", givenPath, ...inside],
    cwd: "/",
    env: { PATH: options.path },
    channel: true,
    ...(user === undefined ? {} : { user }),
  });
  try {
    assert(child.channel !== undefined, "a channel was asked for");
    let said = "";
    const status = new Status(child.channel);
    const { wallMs, outputBytes, cpuMs, memoryMiB } = task.limits;
    const { ended, exit, usage, cut } = await supervise(child, {
      stdin: GO,
      limits: {
        ...{ wallMs, outputBytes, cpuMs, memoryMiB },
        processes: task.limits.processes + OWN_PROCESSES,
        memoryBeside: socketMemory,
        also: () => (isFull() ? "diskBytes" : undefined),
      },
      hooks: {
        signal: hooks.signal,
        onOutput: (stream, bytes) => {
          if (stream === "stderr") said = (said + Buffer.from(bytes).toString("latin1")).slice(-SAID_MAX);
          hooks.onOutput(stream, bytes);
        },
      },
      // what it printed last still lies in the pipes: only the sandbox is killed, and they run empty
      kill: async () => {
        await Promise.race([status.started, delay(START_MS_MAX)]);
        const first = await firstOfSandbox(child.pid);
        if (first !== undefined) await killTree(first);
        const ended = await Promise.race([child.exited.then(() => true), delay(first === undefined ? 0 : DRAIN_MS_MAX, false)]);
        if (!ended) await child.kill();
      },
    });
    const code = await status.exitCode;
    if (ended !== undefined) return { ending: ended, usage, cut };
    if (code === undefined) {
      throw new SwarmError("unavailable", "The sandbox could not be started.", {
        hint: "Another worker may take it; the worker's log says more.",
        cause: new Error(`bwrap ended with ${exit.code ?? exit.signal}`),
      });
    }
    return { ending: endingOf(code, runtime, said, isFull), usage, cut };
  } finally {
    await child.kill();
  }
}

function runtimeOf(task: Pick<SandboxTask, "runtime">): Runtime {
  const runtime = Object.hasOwn(RUNTIMES, task.runtime) ? RUNTIMES[task.runtime] : undefined;
  if (runtime !== undefined) return runtime;
  throw new SwarmError("failed_precondition", "This sandbox does not run that runtime.", {
    hint: "Give the environment one of the runtimes bash, node and python3.",
  });
}

/** Shells tell a signal as 128 and its number; so does bwrap. */
function endingOf(code: number, runtime: Runtime, said: string, diskIsFull: () => boolean): Ending {
  const signal = code - 128;
  if (code === runtime.outOfMemory.code && runtime.outOfMemory.says.test(said)) return { kind: "limit", limit: "memoryMiB" };
  if (signal === constants.signals.SIGXCPU) return { kind: "limit", limit: "cpuMs" };
  if (signal === constants.signals.SIGXFSZ) return { kind: "limit", limit: "fileBytes" };
  if (code !== 0 && diskIsFull()) return { kind: "limit", limit: "diskBytes" };
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
  return name === undefined ? { kind: "exit", code } : { kind: "signal", signal: name };
}

/**
 * The process whose end is the end of all code: the first of the innermost PID namespace, by its number in the worker's own.
 * proc(5): `NSpid` has a number for each namespace that the process is in, the innermost last.
 */
async function firstOfSandbox(root: number): Promise<number | undefined> {
  for (const { pid } of (await sampleTree(root)).processes) {
    const numbers = namespacePids(pid);
    if (numbers.length === namespacePids(root).length + 2 && numbers.at(-1) === 1) return pid;
  }
  return undefined;
}

function namespacePids(pid: number): number[] {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    return (/^NSpid:\s+(.*)$/m.exec(status)?.[1] ?? "").split(/\s+/).map(Number);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return []; // it has just ended
    throw error;
  }
}

/** What bwrap tells of itself (`--json-status-fd`): a line when the sandbox has started, and one with how the code ended. */
class Status {
  readonly started: Promise<void>;
  /** Undefined when the code did not run, or was ended from outside. */
  readonly exitCode: Promise<number | undefined>;

  constructor(channel: Duplex) {
    const started = Promise.withResolvers<void>();
    const exitCode = Promise.withResolvers<number | undefined>();
    this.started = started.promise;
    this.exitCode = exitCode.promise;
    const lines = createInterface({ input: channel });
    lines.on("line", (line) => {
      if (line.includes('"child-pid"')) started.resolve();
      const code = /"exit-code": (\d+)/.exec(line)?.[1];
      if (code !== undefined) exitCode.resolve(Number(code));
    });
    lines.once("close", () => {
      started.resolve();
      exitCode.resolve(undefined);
    });
  }
}

function bwrapCommand(
  task: SandboxTask,
  runtime: Runtime,
  options: SandboxOptions & { givenPath: string; inputPath: string; sources: readonly string[] },
): string[] {
  const { limits } = task;
  const { disk, programs } = options;
  const env = {
    PATH: "/runtime:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    HOME: "/work",
    TMPDIR: "/tmp",
    LANG: "C.UTF-8",
  };
  const cpuSeconds = Math.max(1, Math.ceil(limits.cpuMs / 1_000));
  const processes = limits.processes + runtime.threads + OWN_PROCESSES + KERNEL_PROCESSES_MORE;
  return [
    "bwrap",
    ...["--unshare-all", "--unshare-user", "--disable-userns", "--uid", USER_ID, "--gid", USER_ID, "--hostname", "sandbox"],
    ...["--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL", "--seccomp", "9", "--json-status-fd", "3"],
    ...systemFolders(),
    ...["--proc", "/proc", "--dev", "/dev", "--bind", join(disk.path, "shm"), "/dev/shm", "--remount-ro", "/dev"],
    ...Object.keys(FILES).flatMap((name) => ["--ro-bind", join(options.givenPath, name), `/etc/${name}`]),
    ...SHARED_ETC.flatMap((name) => ["--ro-bind-try", `/etc/${name}`, `/etc/${name}`]),
    ...(programs.node === undefined ? [] : ["--ro-bind", programs.node, "/runtime/node"]),
    ...["--ro-bind", options.inputPath, "/input", "--ro-bind", join(options.givenPath, "stdin"), "/stdin"],
    ...["--bind", join(disk.path, "tmp"), "/tmp", "--bind", join(disk.path, "work"), "/work"],
    ...task.mounts.flatMap(({ from, to, readOnly }) => [readOnly ? "--ro-bind" : "--bind", from, to]),
    ...["--remount-ro", "/", "--chdir", "/work"],
    ...Object.entries(env).flatMap(([name, value]) => ["--setenv", name, value]),
    "--",
    "prlimit",
    `--nproc=${processes}`,
    `--data=${Math.ceil((limits.memoryMiB * KERNEL_MEMORY_SHARE + KERNEL_MEMORY_MORE_MIB + runtime.reservedMiB) * MIB)}`,
    `--fsize=${limits.fileBytes}`,
    `--cpu=${cpuSeconds}:${cpuSeconds + 1}`,
    `--nofile=${OPEN_FILES_MAX}`,
    `--stack=${STACK_BYTES_MAX}`,
    ...["--core=0", "--memlock=0", "--msgqueue=0", "--"],
    ...["sh", "-c", START, "start"],
    ...task.mounts.flatMap(({ to }, index) => ["mount", options.sources[index] ?? "", to]),
    ...Object.entries({ ...runtime.env, ...task.env }).map(([name, value]) => `${name}=${value}`),
    ...(options.command ?? [...runtime.command(limits), ...task.args]),
  ];
}

/** Opens nothing but the place itself, so that no rights are needed (open(2)); the same on both architectures. */
const O_PATH = 0o10000000;

/**
 * What mounts lead to, kept open so that no number is given away again. A path with a link in it is refused: below a folder that code may
 * write, code decides where a link leads.
 */
async function openSources(paths: readonly string[]): Promise<AsyncDisposable & { readonly ids: readonly string[] }> {
  const handles: FileHandle[] = [];
  const close = async () => {
    for (const handle of handles) await handle.close();
  };
  const ids: string[] = [];
  try {
    for (const path of paths) {
      const handle = await open(path, O_PATH | system.O_NOFOLLOW).catch(elsewhere);
      handles.push(handle);
      const { dev, ino } = await handle.stat({ bigint: true });
      const stats = await handle.stat();
      if (stats.isSymbolicLink() || readlinkSync(`/proc/self/fd/${handle.fd}`) !== path) elsewhere();
      ids.push(`${dev}:${ino}`);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { ids, [Symbol.asyncDispose]: close };
}

function elsewhere(cause?: unknown): never {
  throw new SwarmError("unavailable", "A folder to be mounted is not there, or a link lies on the way to it.", {
    hint: "Name in the environment the folder that it leads to.",
    cause,
  });
}

/** /usr, and what some systems keep beside it; where that is only another name for a part of /usr, it is that here too. */
function systemFolders(): string[] {
  const folders = ["--ro-bind", "/usr", "/usr"];
  for (const path of ["/bin", "/sbin", "/lib", "/lib64", "/lib32"]) {
    if (!existsSync(path)) continue;
    if (lstatSync(path).isSymbolicLink()) folders.push("--symlink", readlinkSync(path), path);
    else folders.push("--ro-bind", path, path);
  }
  return folders;
}
