/** Files on their way into a container and out of it, as tar. What comes out was made by code: nothing of it is believed. */

import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { extract, type Header, pack } from "tar-stream";
import { checkPaths, isCleanPath } from "../../file-path.ts";
import { COLLECTED_BYTES_MAX, type Collected, OUT_FOLDER, shownPath } from "../collector.ts";
import type { Limits } from "../driver.ts";

/** Most entries that are looked at. */
const ENTRIES_MAX = 4_096;
/** Most bytes of refused files that are read past; files with holes take no room on a disk, and much in an archive. */
const PASSED_BYTES_MAX = 64 * 1_048_576;
/** Most refusals that are told. */
const REFUSED_MAX = 20;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * @param folder what all of it lies in, and is made with a folder for results
 * @throws SwarmError invalid_argument when a path is not clean
 */
export async function packFiles(
  folder: string,
  files: readonly { readonly path: string; readonly bytes: Uint8Array }[],
  owner: Owner,
): Promise<Buffer> {
  checkPaths(files.map(({ path }) => path)); // again: nothing else stands between a name and the disk
  const archive = pack();
  const whole = buffer(archive);
  const made = new Set<string>();
  const makeFolder = (name: string): void => {
    if (made.has(name)) return;
    const above = name.lastIndexOf("/");
    if (above > 0) makeFolder(name.slice(0, above));
    archive.entry({ name: `${name}/`, type: "directory", mode: 0o755, ...owner });
    made.add(name);
  };
  makeFolder(`${folder}/${OUT_FOLDER}`);
  for (const { path, bytes } of files) {
    const name = `${folder}/${path}`;
    makeFolder(name.slice(0, name.lastIndexOf("/")));
    archive.entry({ name, mode: 0o644, ...owner }, Buffer.from(bytes));
  }
  archive.finalize();
  return await whole;
}

/** What was left in the folder of results, of an archive of that folder. By the rules of `collectFiles`. */
export async function collectArchive(
  archive: Readable,
  limits: Pick<Limits, "files" | "fileBytes" | "diskBytes">,
): Promise<Collected> {
  const files: { path: string; bytes: Uint8Array }[] = [];
  const refused: { path: string; because: string }[] = [];
  let bytesLeft = Math.min(limits.diskBytes, COLLECTED_BYTES_MAX);
  let passedLeft = PASSED_BYTES_MAX;
  let entriesLeft = ENTRIES_MAX;
  const refuse = (path: string, because: string): void => {
    if (refused.length < REFUSED_MAX) refused.push({ path: shownPath(path), because });
  };
  const wrong = ({ type, size = 0 }: Header, path: string): string | undefined => {
    if (type === "symlink" || type === "link") return "it is a link";
    if (type !== "file" && type !== "contiguous-file") return "it is not a regular file";
    if (path === "") return "it is not a folder";
    if (!isCleanPath(path) || path.includes("\ufffd")) return "its path is not a clean one";
    if (size > limits.fileBytes) return `it is larger than ${limits.fileBytes} bytes`;
    if (size > bytesLeft) return "all files together are too large";
    if (files.length >= limits.files) return `more than ${limits.files} files were left`;
    return undefined;
  };

  const entries = extract();
  archive.once("error", (error) => entries.destroy(error));
  archive.pipe(entries);
  try {
    for await (const entry of entries) {
      const { header } = entry;
      if (entriesLeft === 0) {
        refuse(OUT_FOLDER, `more than ${ENTRIES_MAX} files and folders were left`);
        break;
      }
      entriesLeft -= 1;
      const path = header.name.replace(/^[^/]*\/?/, "").replace(/\/$/, ""); // its first folder is that of results itself
      if (header.type === "directory") {
        entry.resume();
        continue;
      }
      const because = wrong(header, path);
      if (because === undefined) {
        const bytes = await buffer(entry);
        bytesLeft -= bytes.length;
        files.push({ path, bytes });
        continue;
      }
      refuse(path === "" ? OUT_FOLDER : path, because);
      passedLeft -= header.size ?? 0;
      if (passedLeft < 0) {
        refuse(OUT_FOLDER, "what was left is too large to be looked through");
        break;
      }
      entry.resume();
    }
  } finally {
    archive.destroy();
    entries.destroy();
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { files, refused };
}
