/** A disk that is soon full, or that may not be written. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SIZE = "8m";

export interface Disk extends Disposable {
  path: string;
  readOnly(): void;
}

/** A disk of its own, in memory; undefined where this user may not mount one. */
function smallDisk(): Disk | undefined {
  const path = mkdtempSync(join(tmpdir(), "mcp-swarm-disk-"));
  const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: "ignore" });
  try {
    run("mount", "-t", "tmpfs", "-o", `size=${SIZE}`, "tmpfs", path);
  } catch {
    rmSync(path, { recursive: true });
    return undefined;
  }
  return {
    path,
    readOnly: () => void run("mount", "-o", "remount,ro", path),
    [Symbol.dispose]: () => {
      run("umount", path);
      rmSync(path, { recursive: true });
    },
  };
}

/** Whether this user may mount a disk. */
export const mayMount = (() => {
  using disk = smallDisk();
  return disk !== undefined;
})();
if (!mayMount) console.warn("Not tested here: a full disk, which takes the right to mount one.");

/** Runs `work` on a small disk. */
export async function onSmallDisk(work: (disk: Disk) => Promise<void>): Promise<void> {
  using disk = smallDisk();
  if (!disk) throw new Error("No disk could be mounted");
  await work(disk);
}
