/**
 * Where the files of a repository lie on this machine. All worktrees of a repository hold the same files, so a path in any of
 * them means the file at that path below the root, found from git's own files (gitrepository-layout(5), git-worktree(1)) without
 * running git. Links are followed as long as they stay in the repository; one that leads out keeps the name it is given by.
 * Case is as the file system has it, where the file exists.
 */
import { existsSync, realpathSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import type { PathOptions } from "@mcp-swarm/coordination";

/** Most worktrees of one repository that are looked at. */
const WORKTREES_MAX = 1_000;
const WILDCARD = /[*?[]/;
const DRIVE = /^[A-Za-z]:\//;

export interface WorktreesOptions {
  /** The folder that this process works in. */
  readonly projectFolder: string;
  /** The git directory that all worktrees have in common, if the folder is in a repository. */
  readonly commonDirectory: () => string | undefined;
}

export class Worktrees {
  readonly #options: WorktreesOptions;
  /** The checkout that this process works in, and the common directory; they do not change while it lives. */
  #own: { root: string; common: string | undefined } | undefined;

  constructor(options: WorktreesOptions) {
    this.#options = options;
  }

  /** How paths are read now; worktrees come and go, so each call asks anew. */
  async pathOptions(): Promise<PathOptions> {
    this.#own ??= { root: checkoutOf(this.#options.projectFolder), common: this.#options.commonDirectory() };
    const { root, common } = this.#own;
    const roots = [root, ...(common === undefined ? [] : await checkouts(common))].map((one) => one.normalize("NFC"));
    // a worktree may lie inside another: the innermost is the one a path is in
    roots.sort((a, b) => b.length - a.length);
    return { place: (path) => place(path, root, roots) };
  }
}

/** The folder with the `.git` that rules over `folder`; the folder itself outside a repository. */
function checkoutOf(folder: string): string {
  const start = real(resolve(folder));
  for (let at = start; ; at = dirname(at)) {
    if (existsSync(join(at, ".git"))) return at;
    if (dirname(at) === at) return start;
  }
}

/** The roots of all checkouts of the repository, as far as they can be known from its common directory. */
async function checkouts(common: string): Promise<string[]> {
  const folder = join(common, "worktrees");
  const names = existsSync(folder) ? (await readdir(folder)).slice(0, WORKTREES_MAX) : [];
  const linked = await Promise.all(
    names.map(async (name) => {
      const pointer = join(folder, name, "gitdir");
      if (!existsSync(pointer)) return [];
      const marker = (await readFile(pointer, "utf8")).trim();
      return marker === "" ? [] : [real(dirname(resolve(folder, name, marker)))];
    }),
  );
  const main = basename(common) === ".git" ? [dirname(common)] : [];
  return [...main, ...linked.flat()];
}

function place(path: string, ownRoot: string, roots: readonly string[]): string | undefined {
  if (DRIVE.test(path) && !isAbsolute(path)) return undefined; // of another system
  const parts = path.split("/");
  const wild = parts.findIndex((part) => WILDCARD.test(part));
  const literal = wild < 0 ? parts : parts.slice(0, wild);
  const rest = wild < 0 ? [] : parts.slice(wild);
  const given = isAbsolute(path) ? resolve(`${literal.join("/")}/`) : resolve(ownRoot, ...literal);
  const below = within(real(given), roots) ?? within(given, roots);
  return below === undefined ? undefined : [below, ...rest].join("/");
}

/** The path below the innermost root that it lies in, with "/" between its segments. Composed characters are as good as others. */
function within(place: string, roots: readonly string[]): string | undefined {
  const path = place.normalize("NFC");
  const root = roots.find((one) => path === one || path.startsWith(one.endsWith(sep) ? one : `${one}${sep}`));
  return root === undefined ? undefined : relative(root, path).split(sep).join("/");
}

/** With links followed as far as the path exists; what does not exist yet stays as it is written. */
function real(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    try {
      return join(realpathSync.native(at), relative(at, path));
    } catch {
      if (dirname(at) === at) return path; // nothing of it can be looked at
    }
  }
}
