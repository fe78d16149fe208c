/** The files of a task, in memory: what it was given, and what it writes. Those it wrote below `out/` come back. */
import { isCleanPath } from "../../file-path.ts";
import type { Cut, Limits } from "../driver.ts";

const OUT = "out/";
/** Most files at once, however small. */
const FILES_MAX = 4_096;
/** Most paths told of files that were left behind. */
const REFUSED_MAX = 20;

export class VirtualFiles {
  readonly #contents = new Map<string, Uint8Array>();
  /** Since the last look. */
  #written = new Set<string>();
  #writtenBytes = 0;

  /** What it is given counts for no limit. */
  give(path: string, bytes: Uint8Array): void {
    this.#forget(path);
    this.#contents.set(path, bytes);
    this.#written.delete(path);
  }

  read(path: string): Uint8Array | undefined {
    return this.#contents.get(path);
  }

  paths(): string[] {
    return [...this.#contents.keys()].sort();
  }

  /** @returns the limit it would pass, or what is wrong with the path as a sentence; undefined when it is written */
  write(path: string, bytes: Uint8Array, limits: Pick<Limits, "fileBytes" | "diskBytes">): string | undefined {
    if (!isCleanPath(path)) {
      return 'A path is relative, such as out/result.txt: no "..", no backslash, nothing of : * ? " < > |';
    }
    if (bytes.length > limits.fileBytes) return "fileBytes";
    const before = this.#own.has(path) ? (this.#contents.get(path)?.length ?? 0) : 0;
    if (this.#writtenBytes - before + bytes.length > limits.diskBytes) return "diskBytes";
    if (!this.#contents.has(path) && this.#contents.size >= FILES_MAX) return `There are ${FILES_MAX} files already`;
    this.#writtenBytes += bytes.length - before;
    this.#own.add(path);
    this.#contents.set(path, bytes);
    this.#written.add(path);
    return undefined;
  }

  /** Those that code wrote, whose bytes count. */
  readonly #own = new Set<string>();

  #forget(path: string): void {
    if (this.#own.delete(path)) this.#writtenBytes -= this.#contents.get(path)?.length ?? 0;
  }

  /** What was written below `out/` since the last time, within bounds, and what was left behind. */
  collect(
    filesMax: number,
    bytesMax: number,
  ): { files: { path: string; bytes: Uint8Array }[]; refused: NonNullable<Cut["files"]> } {
    const files: { path: string; bytes: Uint8Array }[] = [];
    const refused: { path: string; because: string }[] = [];
    let room = bytesMax;
    for (const path of [...this.#written].sort()) {
      if (!path.startsWith(OUT)) continue;
      const bytes = this.#contents.get(path) ?? new Uint8Array(0);
      const because =
        files.length >= filesMax
          ? `more than ${filesMax} files`
          : bytes.length > room
            ? `more than ${bytesMax} bytes in all`
            : undefined;
      if (because === undefined) {
        files.push({ path: path.slice(OUT.length), bytes });
        room -= bytes.length;
      } else if (refused.length < REFUSED_MAX) refused.push({ path, because });
    }
    this.#written = new Set();
    return { files, refused };
  }
}
