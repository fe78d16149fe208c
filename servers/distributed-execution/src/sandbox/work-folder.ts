/**
 * A folder of one run on the worker's own disk. Only the worker (and the user that the run has, if it is another) can enter it. It is named
 * for the process that made it, so that what a killed worker left can be told from what is in use, and is removed by the next.
 */
import { execFile } from "node:child_process";
import { chown, lstat, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { assert, SwarmError } from "@mcp-swarm/core";
import { checkPaths } from "../file-path.ts";
import { identityOf } from "./process-tree.ts";

const PREFIX = "mcp-swarm-run-";
/** Most folders of killed workers that one start removes; the next goes on. */
const SWEPT_MAX = 256;
const REMOVE_TIMEOUT_MS = 60_000;

const run = promisify(execFile);
let ownName: Promise<string> | undefined;

export interface WorkFolder {
  readonly path: string;
  /**
   * Makes files below a folder of it.
   * @param folder a plain name
   */
  write(folder: string, files: readonly { readonly path: string; readonly bytes: Uint8Array }[]): Promise<void>;
  /** Removes it with all that is in it, whatever rights and depths code gave to that. */
  remove(): Promise<void>;
}

/** Letters and digits of when a process started, which `ps` tells in words. */
function plain(startedAt: string): string {
  return startedAt.replace(/[^0-9A-Za-z]/g, "");
}

async function nameOfThisProcess(): Promise<string> {
  const id = await identityOf(process.pid);
  assert(id !== undefined, "a process can see itself");
  return `${PREFIX}${id.pid}-${plain(id.startedAt)}-`;
}

/**
 * @param user who owns it, when the run has another user than the worker
 * @throws SwarmError unavailable when the disk takes no more
 */
export async function createWorkFolder(options: { user?: number; base?: string } = {}): Promise<WorkFolder> {
  ownName ??= nameOfThisProcess();
  const { user } = options;
  const own = async (path: string): Promise<void> => {
    if (user !== undefined) await chown(path, user, user);
  };
  const path = await mkdtemp(join(options.base ?? tmpdir(), await ownName)).catch(noRoom); // 0700
  await own(path);
  return {
    path,
    write: async (folder, files) => {
      checkPaths(files.map((file) => file.path)); // again: nothing else stands between a name and the disk
      const made = new Set<string>();
      const makeFolder = async (below: string): Promise<void> => {
        if (made.has(below) || below === path) return;
        await makeFolder(dirname(below));
        await mkdir(below, { mode: 0o700 });
        await own(below);
        made.add(below);
      };
      try {
        await makeFolder(join(path, folder));
        for (const file of files) {
          const target = join(path, folder, file.path);
          await makeFolder(dirname(target));
          await writeFile(target, file.bytes, { flag: "wx", mode: 0o600 });
          await own(target);
        }
      } catch (error) {
        noRoom(error);
      }
    },
    remove: () => removeTree(path),
  };
}

function noRoom(cause: unknown): never {
  throw new SwarmError("unavailable", "The worker could not write a task's files.", {
    hint: "Free space where the worker keeps temporary files (TMPDIR), then submit the task again.",
    cause,
  });
}

async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch {
    // Code may have taken rights away from its folders, or nested them deeper than a path can say; these two go down step by step.
    const options = { timeout: REMOVE_TIMEOUT_MS, env: { PATH: "/usr/bin:/bin" } };
    await run("chmod", ["-R", "u+rwx", path], options);
    await run("rm", ["-rf", "--", path], options);
  }
}

/**
 * Removes folders whose worker lives no more. Only this user's own are touched.
 * @returns how many it removed
 */
export async function sweepWorkFolders(base: string = tmpdir()): Promise<number> {
  let removed = 0;
  const own = process.getuid?.();
  for (const name of await readdir(base)) {
    if (removed === SWEPT_MAX) break;
    const made = new RegExp(`^${PREFIX}(\\d+)-([0-9A-Za-z]+)-`).exec(name);
    if (made === null) continue;
    const path = join(base, name);
    const maker = await identityOf(Number(made[1]));
    if (maker !== undefined && plain(maker.startedAt) === made[2]) continue;
    const stats = await lstat(path).catch(() => undefined); // another worker was quicker
    if (stats === undefined || !stats.isDirectory() || (own !== 0 && stats.uid !== own)) continue;
    await removeTree(path);
    removed += 1;
  }
  return removed;
}
