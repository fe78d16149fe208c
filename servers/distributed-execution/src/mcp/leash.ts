/**
 * How another MCP server is started so that it does not outlive whoever started it, nor anything that it starts itself. Where bubblewrap
 * works, the server is in a process namespace of its own that ends with the worker, whatever its processes do. Elsewhere it is in a process
 * group of its own, which a shell kills as soon as the worker lets go of a pipe; a process that leaves the group gets away there.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
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

/** Ends all that the leash holds, at once. */
export function killLeashed(child: ChildProcess, { kind }: Leash): void {
  if (child.pid === undefined) return;
  if (kind !== "group") return void child.kill("SIGKILL"); // a namespace ends with its first process
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // nobody is left
  }
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
