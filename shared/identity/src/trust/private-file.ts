import { randomBytes } from "node:crypto";
import { link, mkdir, open, realpath, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { SwarmError } from "@mcp-swarm/core";

/** Largest file that is read as one of ours. */
const FILE_BYTES_MAX = 65_536;
/** Permission bits of group and others. */
const OTHERS = 0o077;

/**
 * Reads a file that only its owner may read. A link is followed, because secrets are often mounted as links: what counts is the file
 * that was opened. It must be this user's (or root's) own, and closed to everybody else. Where files have no such modes (Windows)
 * their access lists are trusted.
 * @throws SwarmError failed_precondition; not_found when there is none
 */
export async function readPrivateFile(path: string, what: string): Promise<string> {
  const file = await open(path, "r").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") throw new SwarmError("not_found", `There is no ${what} at ${path}.`, { cause });
    throw new SwarmError("failed_precondition", `The ${what} ${path} cannot be read.`, {
      hint: "Make it readable for this user.",
      cause,
    });
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > FILE_BYTES_MAX) {
      throw new SwarmError("failed_precondition", `${path} is not a ${what}.`, { hint: "Name the file that was made for it." });
    }
    const user = process.getuid?.();
    if (user !== undefined && stat.uid !== user && stat.uid !== 0) {
      throw new SwarmError("failed_precondition", `The ${what} ${path} belongs to another user.`, {
        hint: "Use a file that this user owns: whoever owns it knows the key.",
      });
    }
    if (user !== undefined && (stat.mode & OTHERS) !== 0) {
      throw new SwarmError("failed_precondition", `The ${what} ${path} can be read or written by others.`, {
        hint: `Run \`chmod 600 ${path}\`, and replace the key if somebody else may have read it.`,
      });
    }
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/**
 * Writes a file that only its owner may read, whole or not at all, and on disk when this returns. Its folder is made when it is
 * missing. `fresh`: a file that is there already stays.
 * @throws SwarmError already_exists
 */
export async function writePrivateFile(path: string, text: string, { fresh = false }: { fresh?: boolean } = {}): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const target = await realpath(path).catch(() => path); // a link keeps pointing to the file
  const made = `${target}.${randomBytes(6).toString("hex")}.tmp`;
  const file = await open(made, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
    await file.close();
    if (fresh) await link(made, target);
    else await rename(made, target);
  } catch (cause) {
    await file.close();
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    throw new SwarmError("already_exists", `There is a file at ${path} already.`, {
      hint: "Name another path, or move that file away.",
    });
  } finally {
    await remove(made);
  }
  await syncFolder(dirname(target));
}

/** @throws the system's own error, except when there is none */
export async function remove(path: string): Promise<void> {
  await unlink(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ENOENT") throw cause;
  });
}

/** A name given by renaming is on disk once its folder is. Windows has no such step. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
