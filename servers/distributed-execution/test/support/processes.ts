/** What runs and lies about on this machine, for tests that start processes: known by a marker in arguments, environment or name. */
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { newId, systemRandom } from "@mcp-swarm/core";

export function newMarker(): string {
  return newId("mark", systemRandom).replaceAll("_", "");
}

/** Pids of running processes whose arguments or environment hold the marker. */
export function marked(marker: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => [read(`/proc/${pid}/cmdline`), read(`/proc/${pid}/environ`)].some((text) => text.includes(marker)))
    .filter((pid) => !/^State:\s+[ZX]/m.test(read(`/proc/${pid}/status`)));
}

/** Folders of runs that this process, or the one of that number, has made. */
export function runFolders(pid: number | undefined = process.pid, base: string = tmpdir()): string[] {
  return readdirSync(base).filter((name) => name.startsWith(`mcp-swarm-run-${pid}-`));
}

export function statusOf(pid: number): string {
  return read(`/proc/${pid}/status`);
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // it has ended, or is another user's
  }
}
