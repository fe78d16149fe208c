/**
 * What may wait in the sockets of a sandbox: memory of the kernel's, which no limit of a process counts. The kernel tells of a network
 * namespace how many sockets it has and not how much lies in them, so each counts as full.
 */
import { readFileSync, readlinkSync } from "node:fs";
import type { ProcessId } from "./process-tree.ts";

/** The first few are free: every program has some. */
const SOCKETS_FREE = 48;
/** A full one, in bytes: `net.core.wmem_default` and what a last message adds; of TCP what was measured between two that nobody reads. */
const SOCKET_BYTES = 286_720;
const TCP_SOCKET_BYTES = 1_363_149;
/** Most processes that are asked for the namespace they are in, the youngest first: some end meanwhile. */
const ASKED_MAX = 4;

/** Bytes at most, in the network namespace of the youngest of these; none while that is the worker's own. */
export function socketMemory(processes: readonly ProcessId[]): number {
  const own = namespaceOf("self");
  for (const { pid } of processes.slice(-ASKED_MAX).reverse()) {
    const namespace = namespaceOf(pid);
    const all = read(`/proc/${pid}/net/sockstat`);
    if (namespace === undefined || namespace === own || all === undefined) continue;
    const tcp = inUse(all, "TCP") + inUse(read(`/proc/${pid}/net/sockstat6`) ?? "", "TCP6");
    const others = Math.max(0, Number(/^sockets: used (\d+)/m.exec(all)?.[1] ?? 0) - tcp);
    const free = Math.min(SOCKETS_FREE, others);
    return (others - free) * SOCKET_BYTES + Math.max(0, tcp - (SOCKETS_FREE - free)) * TCP_SOCKET_BYTES;
  }
  return 0;
}

function inUse(text: string, name: string): number {
  return Number(new RegExp(`^${name}: inuse (\\d+)`, "m").exec(text)?.[1] ?? 0);
}

function namespaceOf(pid: number | "self"): string | undefined {
  return unlessGone(() => readlinkSync(`/proc/${pid}/ns/net`));
}

function read(path: string): string | undefined {
  return unlessGone(() => readFileSync(path, "latin1"));
}

function unlessGone(look: () => string): string | undefined {
  try {
    return look();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // it has ended, or has not the rights left to be asked
    if (["ENOENT", "ESRCH", "EACCES", "EPERM", "EINVAL"].includes(code ?? "")) return undefined;
    throw error;
  }
}
