import { readFileSync, realpathSync, statfsSync } from "node:fs";
import { SwarmError } from "@mcp-swarm/core";

/** File systems on which locks and shared memory do not reach every host that may open the file. */
const NETWORK_TYPES: ReadonlySet<string> = new Set([
  "9p",
  "afs",
  "ceph",
  "cifs",
  "davfs",
  "fuse.davfs2",
  "fuse.glusterfs",
  "fuse.rclone",
  "fuse.s3fs",
  "fuse.sshfs",
  "glusterfs",
  "lustre",
  "ncpfs",
  "nfs",
  "nfs4",
  "smb3",
  "smbfs",
]);

/** The same by the number that statfs(2) gives (linux/magic.h), where there is no list of mounts to read. */
const NETWORK_MAGIC: ReadonlyMap<number, string> = new Map([
  [0x6969, "nfs"],
  [0x517b, "smbfs"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb3"],
  [0x01021997, "9p"],
  [0x5346414f, "afs"],
  [0x00c36400, "ceph"],
]);

/** How the file systems of this machine are found out; a test gives its own. */
export interface Mounts {
  /** The text of /proc/self/mountinfo (proc(5)), or undefined where there is none. */
  mountinfo(): string | undefined;
  /** The type number of the file system that holds `folder`. */
  magic(folder: string): number;
}

export const systemMounts: Mounts = {
  mountinfo() {
    try {
      return readFileSync("/proc/self/mountinfo", "utf8");
    } catch {
      return undefined; // not Linux
    }
  },
  magic: (folder) => statfsSync(folder).type,
};

/** The network file system that an existing folder is on, or undefined when its disk is local. */
export function networkFileSystem(folder: string, mounts: Mounts = systemMounts): string | undefined {
  const real = realpathSync(folder);
  if (real.startsWith("\\\\")) return "smb"; // a UNC path
  const list = mounts.mountinfo();
  if (list === undefined) return NETWORK_MAGIC.get(mounts.magic(real) >>> 0);
  let deepest = "";
  let type: string | undefined;
  for (const line of list.split("\n")) {
    // id parent major:minor root <mount point> options [tags…] - <type> source options
    const [head, tail] = line.split(" - ", 2);
    const point = head
      ?.split(" ")[4]
      ?.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (!point || !tail) continue;
    const holds = point === "/" || real === point || real.startsWith(`${point}/`);
    if (holds && point.length >= deepest.length) {
      deepest = point; // a later mount on the same point hides the earlier one
      type = tail.split(" ")[0];
    }
  }
  return type !== undefined && NETWORK_TYPES.has(type) ? type : undefined;
}

/** @throws SwarmError failed_precondition when the folder is on a network drive, where SQLite's WAL is not safe */
export function refuseNetworkDrive(folder: string, mounts?: Mounts): void {
  const type = networkFileSystem(folder, mounts);
  if (type === undefined) return;
  throw new SwarmError("failed_precondition", `The store's folder is on a network drive (${type}), where SQLite can lose data.`, {
    hint: "Set SWARM_STORE to a file on a local disk (sqlite:<path>), or to a PostgreSQL server (postgres://…) to share it among machines.",
  });
}
