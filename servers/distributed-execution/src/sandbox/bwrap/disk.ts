/**
 * The disk of a sandbox: a file system in memory, of a fixed size and number of files, that exists in a mount namespace of its own. A
 * process holds it there, so that it outlives the sandbox, and what was left can be read from outside once all code is dead; with that
 * process it is gone. Sessions keep it from task to task.
 */
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { SwarmError } from "@mcp-swarm/core";
import { type Child, startChild } from "../child-process.ts";
import { OUT_FOLDER } from "../collector.ts";
import type { WorkFolder } from "../work-folder.ts";

/** A file takes at least this much of what the limit counts, so that their number has a bound too. */
const BYTES_PER_FILE = 4_096;
const FILES_MIN = 64;
const FILES_MAX = 65_536;
/** Where programs of the system are that the worker starts. */
export const SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

/** Its arguments: size, number of files, where. It ends when the worker's end of the channel does. */
const HOLD = `
mount -t tmpfs -o "size=$1,nr_inodes=$2,mode=0700" none "$3" || exit 1
mkdir -m 0755 "$3/work" "$3/work/${OUT_FOLDER}" "$3/tmp" "$3/shm" || exit 1
echo 1000 > /proc/self/oom_score_adj
echo ready >&3
read -r end <&3
`;

export interface Disk {
  /** Where it is mounted, in the namespace that `enter` leads into. */
  readonly path: string;
  /** Starts a command, to be added to its arguments, where the disk is. */
  readonly enter: { readonly command: string; readonly args: readonly string[] };
  /** The folder of results, as the worker can read it. */
  readonly out: string;
  /** Whether no more can be written to it. */
  isFull(): boolean;
  /** It is gone when this settles. */
  remove(): Promise<void>;
}

export interface DiskOptions {
  /** Who owns it, when that is not the worker's own user. */
  readonly user: number | undefined;
  /** Where the system's programs are, as a PATH. */
  readonly path: string;
}

/** @throws SwarmError unavailable */
export async function createDisk(folder: WorkFolder, bytes: number, options: DiskOptions): Promise<Disk> {
  const { user } = options;
  await folder.write("disk", []);
  const path = join(folder.path, "disk");
  const files = Math.min(Math.max(Math.ceil(bytes / BYTES_PER_FILE), FILES_MIN), FILES_MAX);
  const holder = await startChild({
    command: "unshare",
    args: ["--user", "--map-root-user", "--mount", "sh", "-c", HOLD, "disk", String(bytes), String(files), path],
    cwd: "/",
    env: { PATH: options.path },
    channel: true,
    ...(user === undefined ? {} : { user }),
  });
  const said = text(holder);
  const ready = await firstLine(holder);
  if (ready !== "ready") {
    await holder.kill();
    throw new SwarmError("unavailable", "The disk of a sandbox could not be made.", {
      hint: "It needs user namespaces, and unshare and mount of util-linux; the worker's log says what was wrong.",
      cause: new Error(await said),
    });
  }
  const seen = join(`/proc/${holder.pid}/root`, path);
  return {
    path,
    enter: {
      command: "nsenter",
      args: ["--target", String(holder.pid), "--user", "--mount", "--preserve-credentials"],
    },
    out: join(seen, "work", OUT_FOLDER),
    isFull: () => {
      const { bfree, ffree } = statfsSync(seen);
      return bfree === 0 || ffree === 0;
    },
    remove: () => holder.kill(),
  };
}

/** Most of a program's complaints that are kept, in characters. */
const SAID_MAX = 2_000;

/** What it writes to stderr, until it ends. */
async function text(child: Child): Promise<string> {
  let said = "";
  for await (const chunk of child.stderr.setEncoding("utf8")) said = (said + String(chunk)).slice(0, SAID_MAX);
  return said;
}

/** Undefined when it ended before it said anything. */
async function firstLine(child: Child): Promise<string | undefined> {
  if (child.channel === undefined) return undefined;
  for await (const line of createInterface({ input: child.channel })) return line;
  return undefined;
}
