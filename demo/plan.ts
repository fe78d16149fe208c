/** A folder as a job: a task per source file, a task per folder that adds up its files, a report that adds up the folders. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { glob } from "tinyglobby";

/** Most files of one job, and the largest file that is measured. */
export const FILES_MAX = 5_000;
const FILE_BYTES_MAX = 2_000_000;
/** How many results one task adds up: the server takes 100 dependencies a task. */
const FAN_IN = 100;

export type Measure = { files: number; missing: number; lines: number; blank: number; bytes: number; longestLine: number };

export interface PlannedTask {
  id: string;
  type: "measure" | "add-up";
  title: string;
  description: string;
  dependencies?: string[];
  parameters: {
    path: string;
    /** The part of the report that whoever does the task writes. */
    part?: string;
  };
}

/** The last task's part. */
export const TOTAL = "(total)";

/** The folder's source files, relative to it: what git tracks there, else all that is not hidden and not installed. */
export async function sourceFiles(folder: string): Promise<string[]> {
  const tracked = spawnSync("git", ["-C", folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    encoding: "utf8",
  });
  const all =
    tracked.status === 0 && tracked.stdout !== ""
      ? tracked.stdout.split("\0").filter(Boolean)
      : await glob("**/*", { cwd: folder, ignore: ["**/node_modules/**", "**/dist/**"] });
  return all.filter((file) => isSource(join(folder, file))).sort();
}

function isSource(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat?.isFile() || stat.size > FILE_BYTES_MAX) return false;
  return !readFileSync(path).subarray(0, 8_000).includes(0); // a NUL means it is no text
}

/** In an order in which each task comes behind those it depends on. */
export function planJob(files: readonly string[]): PlannedTask[] {
  const tasks: PlannedTask[] = [];
  const folders = new Map<string, string[]>();
  for (const [index, file] of files.entries()) {
    const id = `file-${index + 1}`;
    tasks.push({ id, type: "measure", title: file, description: `Measure ${file}`, parameters: { path: file } });
    const folder = dirname(file);
    folders.set(folder, [...(folders.get(folder) ?? []), id]);
  }
  const sums: string[] = [];
  for (const [index, [folder, members]] of [...folders].entries()) {
    sums.push(addUp(tasks, `folder-${index + 1}`, { path: folder, part: folder }, `Add up the files of ${folder}`, members));
  }
  addUp(tasks, "report", { path: ".", part: TOTAL }, "Add up all folders", sums);
  return tasks;
}

/** A task that adds up others; above FAN_IN of them, through tasks that add up a part each. */
function addUp(
  tasks: PlannedTask[],
  id: string,
  parameters: { path: string; part: string },
  description: string,
  members: readonly string[],
): string {
  const { path } = parameters;
  let level = [...members];
  for (let round = 1; level.length > FAN_IN; round++) {
    const parts: string[] = [];
    for (let at = 0; at < level.length; at += FAN_IN) {
      const part = `${id}-part-${round}-${parts.length + 1}`;
      const dependencies = level.slice(at, at + FAN_IN);
      tasks.push({
        id: part,
        type: "add-up",
        title: path,
        description: `${description}, a part`,
        dependencies,
        parameters: { path },
      });
      parts.push(part);
    }
    level = parts;
  }
  tasks.push({ id, type: "add-up", title: path, description, dependencies: level, parameters });
  return id;
}

export const NOTHING: Measure = { files: 0, missing: 0, lines: 0, blank: 0, bytes: 0, longestLine: 0 };

/** A file that is gone since the job was planned counts as missing. */
export function measureFile(path: string): Measure {
  if (!existsSync(path)) return { ...NOTHING, missing: 1 };
  const text = readFileSync(path, "utf8");
  const lines = text === "" ? [] : text.replace(/\n$/, "").split("\n");
  return {
    files: 1,
    missing: 0,
    lines: lines.length,
    blank: lines.filter((line) => line.trim() === "").length,
    bytes: Buffer.byteLength(text),
    longestLine: lines.reduce((longest, line) => Math.max(longest, line.length), 0),
  };
}

export function sum(measures: readonly Measure[]): Measure {
  const total: Measure = { ...NOTHING };
  for (const one of measures) {
    total.files += one.files;
    total.missing += one.missing;
    total.lines += one.lines;
    total.blank += one.blank;
    total.bytes += one.bytes;
    total.longestLine = Math.max(total.longestLine, one.longestLine);
  }
  return total;
}
