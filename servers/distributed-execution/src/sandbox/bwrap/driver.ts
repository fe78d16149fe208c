/**
 * Programs of the machine itself (bash, node, python3) in bubblewrap: namespaces of their own for everything, no capability, no network, a
 * disk of their own, a filter of system calls, limits of the kernel for each process and a watch over all of them together. Linux alone.
 */
import { execFile } from "node:child_process";
import { realpath } from "node:fs/promises";
import { promisify } from "node:util";
import { SwarmError } from "@mcp-swarm/core";
import { collectFiles } from "../collector.ts";
import type { Capabilities, Driver, Probe, RunHooks, SandboxOutcome, SandboxSession, SandboxTask } from "../driver.ts";
import type { OpenDriver } from "../drivers.ts";
import { createWorkFolder, sweepWorkFolders } from "../work-folder.ts";
import { createDisk, type Disk, SYSTEM_PATH } from "./disk.ts";
import { findPrograms, tryOut } from "./probe.ts";
import type { Programs } from "./runtimes.ts";
import { runInBwrap } from "./sandbox.ts";
import { type Architecture, seccompFilter } from "./seccomp.ts";

/**
 * A worker that is root gives each run a user of its own, since the kernel counts no processes for root. They come from the range that
 * systemd lists as free for anybody (UIDS-GIDS.md), so many for each process of the machine.
 */
const USER_FIRST = 1_879_100_000;
const USERS_PER_WORKER = 32;
const PID_MAX = 4_194_304;
const VERSION_LEAST = [0, 8] as const;
const TOOL_TIMEOUT_MS = 5_000;

const exec = promisify(execFile);

export class BwrapDriver implements Driver {
  readonly name = "bwrap";
  readonly #path: string;
  readonly #users = new Set<number>();
  readonly #sessions = new Set<BwrapSession>();
  #programs: Promise<Programs> | undefined;
  #swept: Promise<number> | undefined;

  /** @param path where bwrap and the programs of util-linux are, as a PATH */
  constructor(path: string = SYSTEM_PATH) {
    this.#path = path;
  }

  async probe(): Promise<Probe> {
    if (process.platform !== "linux") return { available: false, reason: "bubblewrap is for Linux alone." };
    if (architecture() === undefined) {
      return { available: false, reason: "Its filter of system calls is made for the architectures x64 and arm64 alone." };
    }
    const missing = await missingPrograms(this.#path);
    if (missing !== undefined) return { available: false, reason: missing };
    this.#programs = undefined; // somebody may have installed another one
    try {
      const tried = await tryOut((task, hooks, command) => this.#alone(task, hooks, command));
      if ("lacking" in tried) return { available: false, reason: tried.lacking };
      return { available: true, capabilities: { ...HOLDS, runtimes: tried.runtimes } };
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      return { available: false, reason: `${error.message} ${ALLOW}` };
    }
  }

  async lacks({ mounts }: Pick<SandboxTask, "mounts">): Promise<string | undefined> {
    for (const [index, { from }] of mounts.entries()) {
      const leadsTo = await realpath(from).catch(() => undefined);
      if (leadsTo === undefined) return `There is no mounts[${index}].from on this machine, or its worker may not read it.`;
      if (leadsTo !== from) return `A link lies on the way to mounts[${index}].from: name the folder that it leads to.`;
    }
    return undefined;
  }

  run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    return this.#alone(task, hooks);
  }

  async openSession(task: Pick<SandboxTask, "limits">): Promise<SandboxSession> {
    const place = await this.#place(task.limits.diskBytes);
    const session = new BwrapSession(place, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    return session;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => session.close()));
  }

  async #alone(task: SandboxTask, hooks: RunHooks, command?: readonly string[]): Promise<SandboxOutcome> {
    const place = await this.#place(task.limits.diskBytes);
    try {
      return await place.run(task, hooks, command);
    } finally {
      await place.remove();
    }
  }

  async #place(diskBytes: number): Promise<Place> {
    this.#swept ??= sweepWorkFolders();
    await this.#swept;
    const arch = architecture();
    if (arch === undefined) throw new SwarmError("unavailable", "bubblewrap is not used on this architecture.");
    const user = this.#takeUser();
    const release = (): void => {
      if (user !== undefined) this.#users.delete(user);
    };
    try {
      this.#programs ??= findPrograms(user);
      const programs = await this.#programs;
      const folder = await createWorkFolder(user === undefined ? {} : { user });
      try {
        const disk = await createDisk(folder, diskBytes, { user, path: this.#path });
        const filter = seccompFilter(arch);
        let runs = 0;
        return {
          run: async (task, hooks, command) => {
            runs += 1;
            const options = {
              programs,
              filter,
              disk,
              folder,
              user,
              path: this.#path,
              run: runs,
              ...(command === undefined ? {} : { command }),
            };
            const outcome = await runInBwrap(task, hooks, options);
            if (outcome.ending.kind === "killed") return { ...outcome, files: [] };
            return await withFiles(outcome, task, disk);
          },
          remove: async () => {
            await disk.remove();
            await folder.remove();
            release();
          },
        };
      } catch (error) {
        await folder.remove();
        throw error;
      }
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Undefined when the worker is an ordinary user itself. */
  #takeUser(): number | undefined {
    if (process.getuid?.() !== 0) return undefined;
    const first = USER_FIRST + (process.pid % PID_MAX) * USERS_PER_WORKER;
    for (let user = first; user < first + USERS_PER_WORKER; user += 1) {
      if (this.#users.has(user)) continue;
      this.#users.add(user);
      return user;
    }
    throw new SwarmError("unavailable", `At most ${USERS_PER_WORKER} process sandboxes run in one worker at once.`, {
      hint: "Wait until one has ended, or start another worker.",
    });
  }
}

export const openBwrap: OpenDriver = () => new BwrapDriver();

/** Where runs happen: a folder of the worker's and a disk. */
interface Place {
  run(task: SandboxTask, hooks: RunHooks, command?: readonly string[]): Promise<SandboxOutcome>;
  remove(): Promise<void>;
}

async function withFiles(outcome: Omit<SandboxOutcome, "files">, task: SandboxTask, disk: Disk): Promise<SandboxOutcome> {
  const { files, refused } = await collectFiles(disk.out, task.limits);
  return { ...outcome, files, cut: { ...outcome.cut, ...(refused.length > 0 ? { files: refused } : {}) } };
}

/** Files stay from task to task; processes do not. */
class BwrapSession implements SandboxSession {
  readonly #place: Place;
  readonly #closed: () => void;
  #closing: Promise<void> | undefined;

  constructor(place: Place, closed: () => void) {
    this.#place = place;
    this.#closed = closed;
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    if (this.#closing !== undefined) {
      throw new SwarmError("unavailable", "The session's sandbox is gone.", { hint: "Start a new session.", retryable: false });
    }
    return await this.#place.run(task, hooks);
  }

  close(): Promise<void> {
    this.#closing ??= this.#place.remove().finally(this.#closed);
    return this.#closing;
  }
}

function architecture(): Architecture | undefined {
  return process.arch === "x64" || process.arch === "arm64" ? process.arch : undefined;
}

/** What to install, as a sentence; undefined when all is there. */
async function missingPrograms(path: string): Promise<string | undefined> {
  let said: string;
  try {
    said = (await exec("bwrap", ["--version"], { env: { PATH: path }, timeout: TOOL_TIMEOUT_MS })).stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return "bwrap is not installed: install the package bubblewrap.";
  }
  const [major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(said) ?? []).slice(1).map(Number);
  const [leastMajor, leastMinor] = VERSION_LEAST;
  if (major < leastMajor || (major === leastMajor && minor < leastMinor)) {
    return `bwrap is older than ${VERSION_LEAST.join(".")}: install a newer bubblewrap.`;
  }
  for (const program of ["unshare", "nsenter", "prlimit", "mount"]) {
    const found = await Promise.any(path.split(":").map((folder) => realpath(`${folder}/${program}`))).catch(() => undefined);
    if (found === undefined) return `${program} is not installed: install the package util-linux.`;
  }
  return undefined;
}

const ALLOW =
  "Where AppArmor keeps users from namespaces (Ubuntu 24.04), allow them for bwrap, unshare and nsenter with a profile, or set " +
  "kernel.apparmor_restrict_unprivileged_userns=0; elsewhere see user.max_user_namespaces.";

const HOLDS: Omit<Capabilities, "runtimes"> = {
  limits: {
    wallMs: "enforced",
    cpuMs: "watched",
    memoryMiB: "watched",
    processes: "enforced",
    outputBytes: "enforced",
    fileBytes: "enforced",
    diskBytes: "enforced",
    files: "enforced",
  },
  isolates: [
    "Files: only /usr, read-only, and a disk of its own in memory; no home, no /etc of the machine",
    "Network: none, not even sockets of the machine itself",
    "Processes: sees its own alone; all die with the first, and with the worker",
    "Rights: no capability, no set-user-id, no new namespaces, some sixty system calls refused; a user of its own when the worker is root",
    "Each process is limited by the kernel in memory and CPU time; all together are watched twenty times a second",
  ],
  opens: { network: "none", mounts: true, packages: false },
  session: "files",
};
