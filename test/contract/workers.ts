import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

const WORKER = join(import.meta.dirname, "worker.ts");

export interface Worker {
  process: ChildProcessByStdio<Writable, Readable, Readable>;
  /** Every line after `ready`. */
  lines: string[];
  /** Settles when the process has ended: with its last line as JSON, or an error that shows its stderr. */
  answer: Promise<unknown>;
}

/** Starts `size` processes and lets them go at the same moment, when all are ready. */
export async function startWorkers(url: string, job: string, size: number, count: number): Promise<Worker[]> {
  const started = Array.from({ length: size }, (_, index) => startWorker({ url, job, index, count }));
  await Promise.all(started.map(({ ready }) => ready));
  for (const { worker } of started) worker.process.stdin.write("go\n");
  return started.map(({ worker }) => worker);
}

/** Runs `size` processes to their end and gives what each answered. */
export async function runWorkers<T>(url: string, job: string, size: number, count = 0): Promise<T[]> {
  const workers = await startWorkers(url, job, size, count);
  return (await Promise.all(workers.map(({ answer }) => answer))) as T[];
}

function startWorker(task: { url: string; job: string; index: number; count: number }): { worker: Worker; ready: Promise<void> } {
  const child = spawn(process.execPath, [WORKER, JSON.stringify(task)], { stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.on("error", () => {}); // a process that died early says why on stderr
  const lines: string[] = [];
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const reader = createInterface(child.stdout);
  const ready = new Promise<void>((resolve, reject) => {
    reader.once("line", () => {
      reader.on("line", (line) => lines.push(line));
      resolve();
    });
    child.once("exit", () => reject(new Error(`A worker ended before it was ready:\n${errors}`)));
  });
  const answer = once(child, "close").then(([code, signal]) => {
    if (code !== 0) throw new Error(`A worker ended with ${code ?? signal}:\n${errors}`);
    return JSON.parse(lines.at(-1) ?? "null") as unknown;
  });
  answer.catch(() => {}); // a test that kills its workers does not ask for their answer
  return { worker: { process: child, lines, answer }, ready };
}
