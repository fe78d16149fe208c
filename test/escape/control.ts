/** The control of the battery: a plain process without a sandbox and a collector that follows whatever it finds. Here every probe must succeed. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { constants as system, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Attempt, CONTROL_MS_MAX, type EscapeProbe, type Evidence, type Language } from "./probes.ts";

/** Most that it keeps of what a probe prints. */
const KEPT_MAX = 65_536;
/** Most of a file that it reads. */
const READ_MAX = 65_536;
const DRAIN_MS = 300;

const COMMANDS: Readonly<Record<Language, readonly [file: string, ...command: string[]]>> = {
  javascript: ["main.cjs", process.execPath],
  python: ["main.py", "python3"],
  bash: ["main.sh", "bash", "--norc", "--noprofile"],
};

/** Runs a probe in the open. Nothing that it starts outlives this. */
export async function runInTheOpen(probe: EscapeProbe, attempt: Attempt): Promise<Evidence> {
  const { surroundings } = attempt;
  const folder = mkdtempSync(join(tmpdir(), "escape-control-"));
  mkdirSync(join(folder, "out"));
  const [file, command = "", ...args] = COMMANDS[probe.language];
  writeFileSync(join(folder, file), probe.code(attempt));
  const child = spawn(command, [...args, file], {
    cwd: folder,
    env: { ...process.env, CANARY: surroundings.secret },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const said = { stdout: "", stderr: "" };
  let outputBytes = 0;
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].on("data", (bytes: Buffer) => {
      outputBytes += bytes.length;
      if (said[stream].length < KEPT_MAX) said[stream] += bytes.toString();
    });
  }
  const closed = once(child, "close");
  const timer = setTimeout(() => child.kill("SIGKILL"), CONTROL_MS_MAX);
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  clearTimeout(timer);
  // what it printed last is on its way; a process that it left behind may hold the pipe open for long
  await Promise.race([closed, delay(DRAIN_MS)]);
  const strays = surroundings.strays();
  const files = takeBlindly(join(folder, "out"), "");
  if (child.pid !== undefined) {
    try {
      process.kill(-child.pid, "SIGKILL"); // what is left of its group
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
  rmSync(folder, { recursive: true, force: true });
  const ended = signal ?? Object.entries(system.signals).find(([, number]) => number === (code ?? 0) - 128)?.[0];
  return {
    ...said,
    outputBytes,
    ending: ended === undefined ? { kind: "exit", code: code ?? -1 } : { kind: "signal", signal: ended },
    files,
    hostDied: code !== 0,
    strays,
  };
}

/** As a collector does that nobody thought about: it follows links, and takes what has a name. */
function takeBlindly(folder: string, relative: string): Evidence["files"] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    const shown = relative === "" ? name : `${relative}/${name}`;
    const stats = statSync(path);
    if (stats.isDirectory()) return takeBlindly(path, shown);
    const bytes = Buffer.alloc(Math.min(stats.size, READ_MAX));
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    readSync(file, bytes);
    closeSync(file);
    return [{ path: shown, size: stats.size, bytes }];
  });
}
