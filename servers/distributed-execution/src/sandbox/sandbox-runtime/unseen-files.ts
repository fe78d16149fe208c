/**
 * What code keeps in files that are in no folder of its own: the memory file systems with which the runtime covers what it hides (Linux;
 * each may be written, and has no size of its own), files that were removed and are still open, and files that only ever were open.
 */
import { readdirSync, readFileSync, readlinkSync, statfsSync, statSync } from "node:fs";
import type { ProcessId } from "../process-tree.ts";

/** Most processes that are asked for what they see, the youngest first: some end meanwhile. */
const ASKED_MAX = 4;
const BLOCK_BYTES = 512;

/** Bytes, as far as these processes show. Linux alone. */
export function unseenBytes(processes: readonly ProcessId[]): number {
  if (process.platform !== "linux") return 0;
  return memoryFileSystems(processes) + openFiles(processes);
}

function memoryFileSystems(processes: readonly ProcessId[]): number {
  const shared = new Set(mounted("self").map(({ device }) => device));
  for (const { pid } of processes.slice(-ASKED_MAX).reverse()) {
    const own = new Map(
      mounted(pid).flatMap(({ device, path, type }) => (type === "tmpfs" && !shared.has(device) ? [[device, path]] : [])),
    );
    let bytes = 0;
    for (const [device, path] of own) {
      const seen = `/proc/${pid}/root${path}`;
      // another file system may lie over it, or its root may still be another
      if (unlessGone(() => deviceOf(statSync(seen).dev)) !== device) continue;
      const used = unlessGone(() => statfsSync(seen));
      if (used !== undefined) bytes += (used.blocks - used.bfree) * used.bsize;
    }
    if (own.size > 0) return bytes;
  }
  return 0;
}

/** proc(5): number, parent, device, root, mount point, options, any number of fields, a dash, type. */
function mounted(pid: number | "self"): { device: string; path: string; type: string }[] {
  const lines = unlessGone(() => readFileSync(`/proc/${pid}/mountinfo`, "latin1"))?.split("\n") ?? [];
  return lines.flatMap((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const [, , device, , path] = before.split(" ");
    const [type] = after.split(" ");
    return device === undefined || path === undefined || type === undefined ? [] : [{ device, path, type }];
  });
}

/** As mountinfo writes it (gnu_dev_major and gnu_dev_minor of glibc). */
function deviceOf(dev: number): string {
  return `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
}

function openFiles(processes: readonly ProcessId[]): number {
  const counted = new Set<string>();
  let bytes = 0;
  for (const { pid } of processes) {
    for (const name of unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
      const link = `/proc/${pid}/fd/${name}`;
      if (unlessGone(() => readlinkSync(link))?.endsWith(" (deleted)") !== true) continue;
      const stats = unlessGone(() => statSync(link));
      if (stats === undefined || !stats.isFile() || counted.has(`${stats.dev}:${stats.ino}`)) continue;
      counted.add(`${stats.dev}:${stats.ino}`);
      bytes += stats.blocks * BLOCK_BYTES;
    }
  }
  return bytes;
}

/** Undefined when the process has ended, or is one that this user may not look into. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (["ENOENT", "ESRCH", "EACCES", "EPERM", "EINVAL", "ENOTDIR"].includes(code ?? "")) return undefined;
    throw error;
  }
}
