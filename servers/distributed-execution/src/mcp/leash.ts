/**
 * How another MCP server is started so that it does not outlive whoever started it, nor anything that it starts itself. Where bubblewrap
 * works, the server is in a process namespace of its own that ends with the worker, whatever its processes do. Elsewhere it is in a process
 * group of its own, which a shell kills as soon as the worker lets go of a pipe; a process that leaves the group gets away there.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

export type LeashKind = "namespace" | "group" | "process";

export interface Leash {
  readonly kind: LeashKind;
  /** What is started in place of the command, with the command's own arguments behind. */
  readonly command: readonly string[];
  readonly stdio: StdioOptions;
  /** Own process group. */
  readonly detached: boolean;
  /** How long a server may take to end by itself, in ms; a moment when absent. */
  readonly graceMs?: number;
}

/** Longest that the trial of bubblewrap may take, in ms. */
const TRIAL_MS = 5_000;

/** fd 3 is held by the worker alone: it ends when the worker does. What runs is told nothing of it. */
const GROUP_SCRIPT = `exec 4<&0
"$@" <&4 3<&- 4<&- &
exec 0<&- 1>&- 2>&- 4<&-
read -r _ <&3
kill -9 0`;

const NAMESPACE_ARGUMENTS = [
  ...["--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"],
  ...["--unshare-pid", "--die-with-parent", "--"],
];

const pipes: StdioOptions = ["pipe", "pipe", "pipe"];

/** The best that this machine has, found by trying. */
export async function findLeash(path: string): Promise<Leash> {
  if (process.platform === "win32") return { kind: "process", command: [], stdio: pipes, detached: false };
  const bwrap = process.platform === "linux" ? executable("bwrap", path) : undefined;
  if (bwrap !== undefined && (await succeeds([bwrap, ...NAMESPACE_ARGUMENTS, "/bin/sh", "-c", "exit 0"]))) {
    return { kind: "namespace", command: [bwrap, ...NAMESPACE_ARGUMENTS], stdio: pipes, detached: true };
  }
  return groupLeash();
}

/** What POSIX systems without a process namespace have. */
export function groupLeash(): Leash {
  return {
    kind: "group",
    command: ["/bin/sh", "-c", GROUP_SCRIPT, "leash"],
    stdio: ["pipe", "pipe", "pipe", "pipe"],
    detached: true,
  };
}

/** One server on its leash. */
export class Leashed {
  readonly #child: ChildProcess;
  readonly #leash: Leash;
  /** The first process of the namespace. It is the last of them to be gone: the kernel sees to that. */
  #head: number | undefined;

  constructor(child: ChildProcess, leash: Leash) {
    this.#child = child;
    this.#leash = leash;
  }

  /** Finds out what it will have to end. To be called while it runs. */
  look(): void {
    const { pid } = this.#child;
    if (this.#leash.kind !== "namespace" || pid === undefined || this.#head !== undefined) return;
    try {
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
      if (children !== "") this.#head = Number(children.split(" ")[0]);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  /** Ends all that it holds, at once. */
  kill(): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    this.look();
    if (this.#head !== undefined) signal(this.#head, "SIGKILL");
    if (this.#leash.kind === "group") signal(-pid, "SIGKILL");
    else this.#child.kill("SIGKILL");
  }

  /** Whether any process that it holds is still there. */
  remains(): boolean {
    const { pid } = this.#child;
    if (this.#head !== undefined) return lives(this.#head);
    return this.#leash.kind === "group" && pid !== undefined && signal(-pid, 0);
  }
}

/** False when there is nobody to be signalled. */
function signal(pid: number, name: "SIGKILL" | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** One that is dead and that nobody has asked for its exit code does not live. */
function lives(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ESRCH" || code === "ENOENT";
}

function executable(name: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false; // not there, or not to be run
      }
    });
}

function succeeds([command = "", ...args]: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "ignore", env: {}, timeout: TRIAL_MS, killSignal: "SIGKILL" });
    child.once("error", () => resolve(false));
    child.once("exit", (code) => resolve(code === 0));
  });
}
