/**
 * What a process and its descendants use, and how all of them are killed. On Linux it is read from /proc, elsewhere `ps` is asked.
 *
 * A descendant whose parents are all dead belongs to the system's first process, and is found here only while it was seen before; so a
 * sandbox in which code can start processes needs a PID namespace of its own, whose first process they all fall to.
 */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { SwarmError } from "@mcp-swarm/core";

/** Most processes that are looked at in one tree; far beyond what a sandbox may hold. */
const TREE_MAX = 8_192;
/** Most rounds in which what is alive of a tree is looked up and killed, and the pause between them, in ms. */
const KILL_ROUNDS_MAX = 1_000;
const KILL_PAUSE_MS = 5;
/** /proc counts CPU time in hundredths of a second on every architecture (USER_HZ). */
const MS_PER_TICK = 10;
const KIB = 1_024;
const PS_TIMEOUT_MS = 5_000;
const PS_BYTES_MAX = 8 * 1_024 * 1_024;

const ON_LINUX = process.platform === "linux";
/** Kernels built without this list of children are asked for every process's parent. */
const HAS_CHILDREN = ON_LINUX && existsSync(`/proc/${process.pid}/task/${process.pid}/children`);

const run = promisify(execFile);

/** A process, told from a later one that got the same number by when it started. */
export interface ProcessId {
  readonly pid: number;
  readonly startedAt: string;
}

export interface TreeSample {
  /** The root first. Processes that have ended and were not yet waited for are not among them. */
  readonly processes: readonly ProcessId[];
  /** Of those alive and of the children they have waited for. */
  readonly cpuMs: number;
  /** Memory of their own, as each counts it: what a fork shares with its parent is counted for both. */
  readonly memoryBytes: number;
}

interface ProcessState {
  readonly id: ProcessId;
  readonly parent: number;
  readonly group: number;
  readonly ended: boolean;
  readonly cpuMs: number;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch (error) {
    if (isGone(error)) return undefined; // it ended while it was looked at
    throw error;
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ESRCH" || code === "EACCES" || code === "EPERM" || code === "ENOTDIR";
}

/** proc(5): the name stands in brackets and may hold any byte, so counting starts behind the last bracket. */
function stateOf(pid: number): ProcessState | undefined {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const number = (index: number): number => Number(fields[index] ?? 0);
  return {
    id: { pid, startedAt: fields[19] ?? "" },
    parent: number(1),
    group: number(2),
    ended: fields[0] === "Z" || fields[0] === "X",
    cpuMs: (number(11) + number(12) + number(13) + number(14)) * MS_PER_TICK,
  };
}

const MEMORY_LINES = /^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB/gm;
const SHARED_MEMORY_LINES = /^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB/gm;

function sumOf(lines: RegExp, text: string): number {
  let bytes = 0;
  for (const [, kib] of text.matchAll(lines)) bytes += Number(kib) * KIB;
  return bytes;
}

function memoryOf(pid: number): number {
  return sumOf(MEMORY_LINES, read(`/proc/${pid}/status`) ?? "");
}

function childrenOf(pid: number): number[] {
  const children: number[] = [];
  for (const thread of list(`/proc/${pid}/task`)) {
    for (const child of (read(`/proc/${pid}/task/${thread}/children`) ?? "").split(" ")) {
      if (child !== "") children.push(Number(child));
    }
  }
  return children;
}

function childrenByParent(): Map<number, number[]> {
  const byParent = new Map<number, number[]>();
  for (const name of list("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const state = stateOf(Number(name));
    if (state === undefined) continue;
    const siblings = byParent.get(state.parent);
    if (siblings === undefined) byParent.set(state.parent, [state.id.pid]);
    else siblings.push(state.id.pid);
  }
  return byParent;
}

function sampleProc(root: number): TreeSample {
  const byParent = HAS_CHILDREN ? undefined : childrenByParent();
  const processes: ProcessId[] = [];
  let cpuMs = 0;
  let memoryBytes = 0;
  const pending = [root];
  for (let pid = pending.shift(); pid !== undefined && processes.length < TREE_MAX; pid = pending.shift()) {
    const state = stateOf(pid);
    if (state === undefined) continue;
    cpuMs += state.cpuMs;
    pending.push(...(byParent === undefined ? childrenOf(pid) : (byParent.get(pid) ?? [])));
    if (state.ended) continue;
    processes.push(state.id);
    memoryBytes += memoryOf(pid);
  }
  return { processes, cpuMs, memoryBytes };
}

/** `[[dd-]hh:]mm:ss[.ff]` */
function psTime(text: string): number {
  const [days, clock] = text.includes("-") ? text.split("-") : ["0", text];
  let seconds = 0;
  for (const part of (clock ?? "").split(":")) seconds = seconds * 60 + Number(part);
  return Math.round((Number(days) * 86_400 + seconds) * 1_000);
}

/** By what `ps` says, as on systems without /proc. */
export async function samplePs(root: number): Promise<TreeSample> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid=,rss=,time=,lstart="], {
    timeout: PS_TIMEOUT_MS,
    maxBuffer: PS_BYTES_MAX,
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
  });
  type Row = { id: ProcessId; memoryBytes: number; cpuMs: number };
  const byParent = new Map<number, Row[]>();
  let rootRow: Row | undefined;
  for (const line of stdout.split("\n")) {
    const [pid, parent, rss, time, ...started] = line.trim().split(/\s+/);
    if (pid === undefined || parent === undefined || rss === undefined || time === undefined) continue;
    const row = {
      id: { pid: Number(pid), startedAt: started.join(" ") },
      memoryBytes: Number(rss) * KIB,
      cpuMs: psTime(time),
    };
    if (row.id.pid === root) rootRow = row;
    const siblings = byParent.get(Number(parent));
    if (siblings === undefined) byParent.set(Number(parent), [row]);
    else siblings.push(row);
  }
  const processes: ProcessId[] = [];
  let cpuMs = 0;
  let memoryBytes = 0;
  const pending = rootRow === undefined ? [] : [rootRow];
  for (let row = pending.shift(); row !== undefined && processes.length < TREE_MAX; row = pending.shift()) {
    processes.push(row.id);
    cpuMs += row.cpuMs;
    memoryBytes += row.memoryBytes;
    pending.push(...(byParent.get(row.id.pid) ?? []));
  }
  return { processes, cpuMs, memoryBytes };
}

/** One look at a process and all its descendants; without any processes when it is gone. */
export async function sampleTree(root: number): Promise<TreeSample> {
  return ON_LINUX ? sampleProc(root) : await samplePs(root);
}

/**
 * The same memory with each shared page counted in parts, which takes the kernel longer to say; undefined where nothing says it.
 * For those over a limit by the quick sum: forks share most of their memory with each other.
 */
export function proportionalMemory(processes: readonly ProcessId[]): number | undefined {
  if (!ON_LINUX) return undefined;
  let bytes = 0;
  for (const { pid } of processes) {
    const rollup = read(`/proc/${pid}/smaps_rollup`);
    if (rollup === undefined) {
      if (!existsSync(`/proc/${pid}`)) continue;
      bytes += memoryOf(pid);
      continue;
    }
    bytes += sumOf(SHARED_MEMORY_LINES, rollup);
  }
  return bytes;
}

/** Whether it runs still; one that has ended and waits for its parent to notice does not. */
function isAlive(id: ProcessId): boolean {
  if (ON_LINUX) {
    const state = stateOf(id.pid);
    return state !== undefined && !state.ended && state.id.startedAt === id.startedAt;
  }
  try {
    process.kill(id.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ESRCH" && code !== "EPERM") throw error; // gone, or on its way
  }
}

/** Waits until none of them runs any more. */
async function gone(processes: Iterable<ProcessId>): Promise<void> {
  const left = new Map([...processes].map((id) => [`${id.pid} ${id.startedAt}`, id]));
  for (let round = 0; round < KILL_ROUNDS_MAX; round += 1) {
    for (const [key, id] of left) if (!isAlive(id)) left.delete(key);
    if (left.size === 0) return;
    for (const id of left.values()) kill(id.pid);
    await delay(KILL_PAUSE_MS);
  }
  throw new SwarmError("internal", "A process of a sandbox could not be killed.", {
    hint: "Look at the machine: its processes do not end on SIGKILL, which only a hanging disk or a fault of the kernel explains.",
  });
}

/**
 * Kills all that descends from `root`, and `root` itself and its process group unless it is to be spared; settles when none of them runs
 * any more. It looks again until a look finds nothing new, so that what forked meanwhile dies too.
 * @param known seen to descend from it before: they and what descends from them die too, even if their parents are gone
 * @throws SwarmError internal when a process outlives SIGKILL for seconds
 */
export async function killTree(root: number, options: { spareRoot?: boolean; known?: Iterable<ProcessId> } = {}): Promise<void> {
  const seen = new Map<string, ProcessId>();
  const spared = options.spareRoot === true ? root : undefined;
  for (const id of options.known ?? []) if (id.pid !== spared) seen.set(`${id.pid} ${id.startedAt}`, id);
  for (let round = 0; round < KILL_ROUNDS_MAX; round += 1) {
    const alive = (await sampleTree(root)).processes.filter((id) => id.pid !== spared);
    for (const id of [...seen.values()].filter(isAlive)) {
      alive.push(...(id.pid === root ? [] : (await sampleTree(id.pid)).processes));
    }
    if (spared === undefined) kill(-root);
    if (alive.length === 0) break;
    for (const id of alive) {
      seen.set(`${id.pid} ${id.startedAt}`, id);
      kill(id.pid);
    }
    await delay(KILL_PAUSE_MS);
  }
  await gone(seen.values());
}

/**
 * Kills what is left of the process group of a leader that has ended: children that it left behind stay in it unless they made one of their
 * own. Settles when none of them runs any more.
 */
export async function killGroup(leader: number): Promise<void> {
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ESRCH") return; // as always when it left nothing
    if (code !== "EPERM") throw error;
  }
  if (!ON_LINUX) return; // signalled, and not waited for
  const left = list("/proc").flatMap((name) => {
    const state = /^\d+$/.test(name) ? stateOf(Number(name)) : undefined;
    return state !== undefined && state.group === leader && !state.ended ? [state.id] : [];
  });
  await gone(left);
}

/** When a process started, in words that tell it from every other of that number; undefined when it is gone. */
export async function identityOf(pid: number): Promise<ProcessId | undefined> {
  if (ON_LINUX) return stateOf(pid)?.id;
  return (await samplePs(pid)).processes[0];
}
