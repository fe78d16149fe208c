/**
 * Programs of the machine itself (bash, node, python3) in @anthropic-ai/sandbox-runtime: Seatbelt on macOS, bubblewrap on Linux. It
 * keeps code from files and from the network; it has no limits and no clean environment, so those are ours: limits of the shell for each
 * process, and a watch over all together. On Linux the driver `bwrap` holds more firmly.
 */
import { lstatSync, readdirSync } from "node:fs";
import { access, chmod, chown, mkdir, writeFile } from "node:fs/promises";
import { constants as system } from "node:os";
import { dirname, join } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { RUNTIMES } from "../bwrap/runtimes.ts";
import { startChild, supervise } from "../child-process.ts";
import { collectFiles, OUT_FOLDER } from "../collector.ts";
import type {
  Capabilities,
  Driver,
  Ending,
  LimitName,
  Probe,
  RunHooks,
  SandboxOutcome,
  SandboxSession,
  SandboxTask,
} from "../driver.ts";
import { findPackage } from "../optional-package.ts";
import type { ProcessId } from "../process-tree.ts";
import { socketMemory } from "../socket-memory.ts";
import { createWorkFolder, type WorkFolder } from "../work-folder.ts";
import { listen, probeTask, readProbe } from "./probe.ts";
import { unseenBytes } from "./unseen-files.ts";

const NAME = "@anthropic-ai/sandbox-runtime";
const PATH = "/usr/local/bin:/usr/bin:/bin";
/**
 * A worker that is root runs nothing as root. The users lie behind those that bubblewrap's runs have, in the range that systemd lists as
 * free for anybody (UIDS-GIDS.md).
 */
const USER_FIRST = 2_013_400_000;
const USERS_PER_WORKER = 8;
const PID_MAX = 4_194_304;
/** Processes of the runtime itself, and what its own Node takes. */
const OWN_PROCESSES = 16;
const OWN_MIB = 128;
const OPEN_FILES_MAX = 256;
/**
 * What the kernel refuses by itself lies above the limit at which the run is ended from outside, so that the answer can name it. On Linux
 * alone: since 5.14 it counts processes for each user namespace, and it counts writable memory.
 */
const KERNEL_PROCESSES_MORE = 8;
const KERNEL_MEMORY_SHARE = 1.5;
const KERNEL_MEMORY_MORE_MIB = 128;
const KIB_PER_MIB = 1_024;
/** What a file takes at least, empty as it may be. */
const ENTRY_BYTES = 4_096;
/** Most entries that are counted in one look at the disk; who has more has too many. */
const ENTRIES_MAX = 20_000;
const DISK_BLOCK_BYTES = 512;
const SAID_MAX = 16_384;

/** Where the code is, what it may touch, and where it is told that it began. */
const WORK = "work";
const STARTED = "started";
const TEMPORARY = "temporary";

/**
 * Its arguments: the folder with input, the largest file in KiB, seconds of CPU time, the most processes and KiB of memory of each (or
 * nothing), a file that says that the code began, then the environment's variables (they hold for the code alone: what sets its limits has none of them) and what runs the code. Whatever an earlier task of a session left in the way of the input, it is met in here and not by the worker.
 */
const BEGIN = `cp -R "$1"/. . || exit 1; shift; ulimit -c 0; ulimit -n ${OPEN_FILES_MAX}; ulimit -f "$1"; ulimit -t "$2"
[ "$3" = "" ] || { ulimit -u "$3"; ulimit -d "$4"; }
: > "$5"; shift 5; exec env "$@"`;

const HOLDS: Omit<Capabilities, "runtimes"> = {
  limits: {
    wallMs: "enforced",
    cpuMs: "watched",
    memoryMiB: "watched",
    processes: "watched",
    outputBytes: "enforced",
    fileBytes: "enforced",
    diskBytes: "watched",
    files: "enforced",
  },
  isolates: [
    "files: reads what programs of the machine need, writes its working folder alone",
    "the network: none",
    "the environment: nothing of the worker's",
    "limits are watched twenty times a second, not held by the kernel",
  ],
  // its list of permitted hosts is kept by a proxy, and users have reported ways around it: not opened
  opens: { network: "none", mounts: false, packages: false },
  session: "files",
};

interface Place {
  readonly folder: WorkFolder;
  readonly user: number | undefined;
  run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome>;
  remove(): Promise<void>;
}

export class SandboxRuntimeDriver implements Driver {
  readonly name = "sandbox-runtime";
  readonly #users = new Set<number>();
  readonly #places = new Set<Place>();

  async probe(): Promise<Probe> {
    if (process.platform !== "linux" && process.platform !== "darwin") {
      return { available: false, reason: "It is used on Linux and macOS alone." };
    }
    const found = await findPackage(NAME);
    if (found === undefined) {
      return { available: false, reason: `Run npm install ${NAME} in the project, or npm install -g ${NAME}.` };
    }
    const outside = await createWorkFolder();
    try {
      const canary = join(outside.path, "canary");
      await chmod(outside.path, 0o755);
      await writeFile(canary, "canary", { mode: 0o644 });
      let said = "";
      await using listener = await listen();
      const task = probeTask({ canary, outside: join(outside.path, "written"), port: listener.port });
      const onOutput: RunHooks["onOutput"] = (_, bytes) => {
        said += Buffer.from(bytes).toString();
      };
      await this.run(task, { signal: new AbortController().signal, onOutput });
      const result = readProbe(said);
      if ("lacking" in result) return { available: false, reason: result.lacking };
      return { available: true, capabilities: { ...HOLDS, runtimes: result.runtimes } };
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      const needs =
        process.platform === "linux" ? "It needs bubblewrap, socat and ripgrep, and user namespaces." : "It needs ripgrep.";
      return { available: false, reason: `${error.message} ${needs}` };
    } finally {
      await outside.remove();
    }
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    const place = await this.#place();
    try {
      return await place.run(task, hooks);
    } finally {
      await place.remove();
    }
  }

  async openSession(): Promise<SandboxSession> {
    const place = await this.#place();
    let open = true;
    return {
      run: async (task, hooks) => {
        if (!open)
          throw new SwarmError("unavailable", "The session's sandbox is gone.", {
            hint: "Start another session.",
            retryable: false,
          });
        return await place.run(task, hooks);
      },
      close: async () => {
        open = false;
        await place.remove();
      },
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#places].map((place) => place.remove()));
  }

  async #place(): Promise<Place> {
    const found = await findPackage(NAME);
    if (found === undefined) throw new SwarmError("unavailable", "The sandbox's package is no longer there.");
    const user = this.#takeUser();
    const folder = await createWorkFolder(user === undefined ? {} : { user });
    for (const name of [WORK, STARTED, TEMPORARY, join(WORK, OUT_FOLDER)]) {
      await mkdir(join(folder.path, name), { mode: 0o700 });
      if (user !== undefined) await chown(join(folder.path, name), user, user);
    }
    let runs = 0;
    const place: Place = {
      folder,
      user,
      run: (task, hooks) => {
        runs += 1;
        return runIn(found.folder, place, runs, task, hooks);
      },
      remove: async () => {
        await folder.remove();
        this.#places.delete(place);
        if (user !== undefined) this.#users.delete(user);
      },
    };
    this.#places.add(place);
    return place;
  }

  #takeUser(): number | undefined {
    if (process.getuid?.() !== 0) return undefined;
    const first = USER_FIRST + (process.pid % PID_MAX) * USERS_PER_WORKER;
    for (let user = first; user < first + USERS_PER_WORKER; user += 1) {
      if (this.#users.has(user)) continue;
      this.#users.add(user);
      return user;
    }
    throw new SwarmError("unavailable", `At most ${USERS_PER_WORKER} of these sandboxes run in one worker at once.`, {
      hint: "Wait until one has ended, or start another worker.",
    });
  }
}

export function openSandboxRuntime(): Driver {
  return new SandboxRuntimeDriver();
}

/** What the sandbox is told. All of the machine is hidden; what programs are made of is shown again. */
function settings(work: string, started: string, input: string, runtime: string): string {
  const macos = ["/usr", "/bin", "/sbin", "/System", "/Library", "/private/etc", "/private/var/db", "/dev", "/opt/homebrew"];
  const shown = process.platform === "darwin" ? macos : ["/usr"];
  return JSON.stringify({
    network: { allowedDomains: [], deniedDomains: [] },
    filesystem: {
      denyRead: ["/"],
      allowRead: [...shown, dirname(process.execPath), join(runtime, "vendor", "seccomp"), input, work, started],
      allowWrite: [work, started],
      denyWrite: [],
    },
  });
}

async function runIn(
  runtimeFolder: string,
  place: Place,
  run: number,
  task: SandboxTask,
  hooks: RunHooks,
): Promise<SandboxOutcome> {
  const runtime = Object.hasOwn(RUNTIMES, task.runtime) ? RUNTIMES[task.runtime] : undefined;
  if (runtime === undefined || task.network.mode !== "none" || task.packages.length > 0 || task.mounts.length > 0) {
    throw new SwarmError(
      "failed_precondition",
      "This sandbox runs bash, node and python3, with no network, folders or packages.",
      {
        hint: "Use an environment of another driver.",
      },
    );
  }
  const { folder, user } = place;
  const { limits } = task;
  const [work, started] = [join(folder.path, WORK), join(folder.path, STARTED)];
  const begun = join(started, `${run}`);
  const input = `input-${run}`;
  await folder.write(input, [...task.files, { path: runtime.file, bytes: Buffer.from(task.code) }]);
  await folder.write(`settings-${run}`, [
    { path: "settings.json", bytes: Buffer.from(settings(work, started, join(folder.path, input), runtimeFolder)) },
  ]);
  const [command = "", ...args] = runtime.command(limits);
  const program = command === "node" ? process.execPath : command;
  const seconds = Math.ceil(limits.cpuMs / 1_000) + 1;
  const most = limits.processes + OWN_PROCESSES + KERNEL_PROCESSES_MORE + runtime.threads;
  const data = Math.ceil(limits.memoryMiB * KERNEL_MEMORY_SHARE + KERNEL_MEMORY_MORE_MIB + runtime.reservedMiB) * KIB_PER_MIB;
  const held = process.platform === "linux" ? [`${most}`, `${data}`] : ["", ""];
  const words = [
    ...["exec", "env", "-i", ...assignments({ PATH, HOME: work, TMPDIR: work, LANG: "C.UTF-8" })],
    ...["bash", "--norc", "--noprofile", "-c", BEGIN, "begin", join(folder.path, input)],
    ...[`${Math.ceil(limits.fileBytes / 1_024)}`, `${seconds}`, ...held, begun],
    ...assignments({ ...runtime.env, ...task.env }),
    ...[program, ...args, ...task.args],
  ];
  const child = await startChild({
    command: process.execPath,
    args: [
      join(runtimeFolder, "dist", "cli.js"),
      ...["--settings", join(folder.path, `settings-${run}`, "settings.json")],
      ...["-c", words.map(quoted).join(" ")],
    ],
    cwd: work,
    // a home in which there is nothing for a shell to read
    env: { PATH, HOME: join(folder.path, TEMPORARY), TMPDIR: join(folder.path, TEMPORARY) },
    ...(user === undefined ? {} : { user }),
  });
  try {
    let said = "";
    const used = (): number => (usedBytes(work) ?? Number.POSITIVE_INFINITY) + (usedBytes(started) ?? Number.POSITIVE_INFINITY);
    const before = used();
    const overDisk = (processes: readonly ProcessId[]): boolean =>
      !(used() - before + unseenBytes(processes) <= limits.diskBytes);
    const { ended, exit, usage, cut } = await supervise(child, {
      stdin: task.stdin,
      limits: {
        wallMs: limits.wallMs,
        outputBytes: limits.outputBytes,
        cpuMs: limits.cpuMs,
        memoryMiB: limits.memoryMiB + OWN_MIB,
        processes: limits.processes + OWN_PROCESSES,
        memoryBeside: socketMemory,
        also: (processes) => (overDisk(processes) ? "diskBytes" : undefined),
      },
      hooks: {
        signal: hooks.signal,
        onOutput: (stream, bytes) => {
          if (stream === "stderr") said = (said + Buffer.from(bytes).toString("latin1")).slice(-SAID_MAX);
          hooks.onOutput(stream, bytes);
        },
      },
    });
    const ran = await access(begun).then(
      () => true,
      () => false,
    );
    if (ended === undefined && !ran && exit.code !== 0) {
      throw new SwarmError("unavailable", "The sandbox could not be started.", {
        hint: "Another worker may take it; the worker's log says more.",
        cause: new Error(said),
      });
    }
    const over: LimitName | undefined = overDisk([]) ? "diskBytes" : undefined;
    const ending = ended ?? (over === undefined ? endingOf(exit, runtime, said) : { kind: "limit" as const, limit: over });
    if (ending.kind === "killed") return { ending, usage, cut, files: [] };
    const { files, refused } = await collectFiles(join(work, OUT_FOLDER), limits);
    return { ending, usage, files, cut: { ...cut, ...(refused.length === 0 ? {} : { files: refused }) } };
  } finally {
    await child.kill();
  }
}

function endingOf(
  exit: { code: number | null; signal: string | null },
  runtime: (typeof RUNTIMES)[string],
  said: string,
): Ending {
  if (exit.code === null) return { kind: "signal", signal: exit.signal ?? "SIGKILL" };
  const { code } = exit;
  if (code === runtime?.outOfMemory.code && runtime.outOfMemory.says.test(said)) return { kind: "limit", limit: "memoryMiB" };
  const name = Object.entries(system.signals).find(([, number]) => number === code - 128)?.[0];
  if (name === "SIGXCPU") return { kind: "limit", limit: "cpuMs" };
  if (name === "SIGXFSZ") return { kind: "limit", limit: "fileBytes" };
  return name === undefined ? { kind: "exit", code } : { kind: "signal", signal: name };
}

function assignments(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).map(([name, value]) => `${name}=${value}`);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Bytes on disk below a folder; undefined when there is too much to count, or code closed a folder in which it may still write. */
function usedBytes(root: string): number | undefined {
  let bytes = 0;
  let entries = 0;
  const pending = [root];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    const names = namesIn(folder);
    if (names === undefined) return undefined;
    for (const name of names) {
      entries += 1;
      if (entries > ENTRIES_MAX) return undefined;
      const stats = lstatSync(join(folder, name), { throwIfNoEntry: false });
      if (stats === undefined) continue;
      bytes += ENTRY_BYTES;
      if (stats.isDirectory()) pending.push(join(folder, name));
      else bytes += stats.blocks * DISK_BLOCK_BYTES;
    }
  }
  return bytes;
}

/** Undefined when it may not be looked into. */
function namesIn(folder: string): string[] | undefined {
  try {
    return readdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return []; // it was removed meanwhile
    if (code === "EACCES") return undefined;
    throw error;
  }
}
