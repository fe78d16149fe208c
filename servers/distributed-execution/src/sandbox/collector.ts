/**
 * Takes the files that code left behind. What it left may be made to deceive: links to files of the worker, pipes that never end, a file of
 * a tebibyte that takes no room, names that lead elsewhere. So only regular files with one link are taken, under clean names, within bounds,
 * and only after every process of the sandbox is dead, because nothing can be checked that somebody still changes.
 *
 * No link is followed on the way, in no part of a path. Node has no `openat`; on Linux `/proc/self/fd/<n>/<name>` is the same: the lookup
 * starts at the open folder itself, wherever its path leads by now. Elsewhere each folder and file is looked at before it is opened, and
 * what was opened is compared with what was looked at.
 */
import { constants, type Dirent, type Stats } from "node:fs";
import { type FileHandle, lstat, open, opendir } from "node:fs/promises";
import { FILE_PATH_MAX } from "../execution-record.ts";
import { isCleanPath } from "../file-path.ts";
import type { Cut, Limits, SandboxOutcome } from "./driver.ts";

/** The folder of the working folder whose files come back. */
export const OUT_FOLDER = "out";
/** What comes back of one run at most, in bytes; it is held in memory. */
export const COLLECTED_BYTES_MAX = 32 * 1_048_576;
/** Most entries that are looked at, of one folder and in all. */
const ENTRIES_MAX = 4_096;
/** Deepest folder below it. */
const DEPTH_MAX = 16;
/** Most refusals that are told. */
const REFUSED_MAX = 20;

const ON_LINUX = process.platform === "linux";
const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Without waiting for whoever writes into a pipe, should it have become one. */
const FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

export interface Collected {
  readonly files: SandboxOutcome["files"];
  /** What was not taken, and why; the first of it. */
  readonly refused: NonNullable<Cut["files"]>;
}

interface Folder {
  readonly handle: FileHandle;
  /** As bytes, because names need not be text. */
  readonly path: Buffer;
  readonly relative: string;
  readonly depth: number;
}

/**
 * @param root the folder to take from; what leads to it is trusted, it itself may be anything or missing
 * @param limits `files` at most, each of at most `fileBytes`, together `diskBytes` or COLLECTED_BYTES_MAX
 */
export async function collectFiles(root: string, limits: Pick<Limits, "files" | "fileBytes" | "diskBytes">): Promise<Collected> {
  const collection = new Collection(limits);
  await collection.folder(Buffer.from(root), "", 0);
  return collection.result();
}

class Collection {
  readonly #limits: Pick<Limits, "files" | "fileBytes">;
  readonly #files: { path: string; bytes: Uint8Array }[] = [];
  readonly #refused: { path: string; because: string }[] = [];
  #bytesLeft: number;
  #entriesLeft = ENTRIES_MAX;

  constructor(limits: Pick<Limits, "files" | "fileBytes" | "diskBytes">) {
    this.#limits = limits;
    this.#bytesLeft = Math.min(limits.diskBytes, COLLECTED_BYTES_MAX);
  }

  result(): Collected {
    return { files: this.#files, refused: this.#refused };
  }

  #refuse(path: string, because: string): void {
    if (this.#refused.length < REFUSED_MAX) this.#refused.push({ path: shownPath(path), because });
  }

  async folder(path: Buffer, relative: string, depth: number): Promise<void> {
    const seen = await look(path);
    if (seen === undefined) return; // nothing was left
    if (!seen.isDirectory()) return this.#refuse(relative === "" ? OUT_FOLDER : relative, "it is not a folder");
    const handle = await openSame(path, FOLDER, seen);
    if (handle === undefined) return this.#refuse(relative, "it could not be opened");
    try {
      await this.#entries({ handle, path, relative, depth });
    } finally {
      await handle.close();
    }
  }

  async #entries(folder: Folder): Promise<void> {
    const entries: Dirent<Buffer>[] = [];
    const at = ON_LINUX ? Buffer.from(`/proc/self/fd/${folder.handle.fd}`) : folder.path;
    const directory = await opendir(at, { encoding: "buffer" as BufferEncoding });
    for await (const entry of directory as AsyncIterable<unknown>) {
      if (this.#entriesLeft === 0) {
        this.#refuse(
          folder.relative === "" ? OUT_FOLDER : folder.relative,
          `more than ${ENTRIES_MAX} files and folders were left`,
        );
        break;
      }
      this.#entriesLeft -= 1;
      entries.push(entry as Dirent<Buffer>);
    }
    entries.sort((a, b) => Buffer.compare(a.name, b.name)); // the same files whatever the order of the disk
    for (const { name } of entries) {
      const text = name.toString("utf8");
      const relative = folder.relative === "" ? text : `${folder.relative}/${text}`;
      const clean = isCleanPath(relative) && Buffer.from(text).equals(name);
      if (clean) await this.#entry(Buffer.concat([at, Buffer.from("/"), name]), relative, folder.depth);
      else this.#refuse(relative, "its path is not a clean one");
    }
  }

  async #entry(path: Buffer, relative: string, depth: number): Promise<void> {
    const seen = await look(path);
    if (seen === undefined) return this.#refuse(relative, "it could not be looked at");
    if (seen.isDirectory()) {
      if (depth + 1 >= DEPTH_MAX) return this.#refuse(relative, `it is deeper than ${DEPTH_MAX} folders`);
      return await this.folder(path, relative, depth + 1);
    }
    const wrong = this.#wrong(seen);
    if (wrong !== undefined) return this.#refuse(relative, wrong);
    const handle = await openSame(path, FILE, seen);
    if (handle === undefined) return this.#refuse(relative, "it could not be opened");
    try {
      // what was opened counts, not what stood there before
      const opened = await handle.stat();
      const wrongNow = this.#wrong(opened);
      if (wrongNow !== undefined) return this.#refuse(relative, wrongNow);
      const bytes = await readExactly(handle, opened.size);
      if (bytes === undefined) return this.#refuse(relative, "it could not be read whole");
      this.#bytesLeft -= bytes.length;
      this.#files.push({ path: relative, bytes });
    } finally {
      await handle.close();
    }
  }

  #wrong(stats: Stats): string | undefined {
    if (stats.isSymbolicLink()) return "it is a link";
    if (!stats.isFile()) return "it is not a regular file";
    if (stats.nlink !== 1) return "it has more than one link";
    if (stats.size > this.#limits.fileBytes) return `it is larger than ${this.#limits.fileBytes} bytes`;
    if (stats.size > this.#bytesLeft) return "all files together are too large";
    if (this.#files.length >= this.#limits.files) return `more than ${this.#limits.files} files were left`;
    return undefined;
  }
}

async function look(path: Buffer): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Opens what was looked at and nothing else. */
async function openSame(path: Buffer, flags: number, seen: Stats): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, flags);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  const opened = await handle.stat();
  if (opened.dev === seen.dev && opened.ino === seen.ino) return handle;
  await handle.close();
  return undefined;
}

/** What code can bring about; anything else is a fault of the machine. */
function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return ["ENOENT", "ELOOP", "ENOTDIR", "EACCES", "EPERM", "ENXIO", "ENAMETOOLONG"].includes(code ?? "");
}

async function readExactly(handle: FileHandle, size: number): Promise<Uint8Array | undefined> {
  const bytes = Buffer.alloc(size);
  let done = 0;
  while (done < size) {
    const { bytesRead } = await handle.read(bytes, done, size - done, done);
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return bytes;
}

/** A name that may hold anything, so that it can be shown: whatever could hide or turn text becomes a question mark. */
export function shownPath(path: string): string {
  const shown = path
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd]/g, "?");
  return shown.length > FILE_PATH_MAX ? `${shown.slice(0, FILE_PATH_MAX - 1)}…` : shown;
}
