/** Where Deno and Pyodide are on this machine. */
import { access, constants } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { findPackage } from "../optional-package.ts";

export interface Installed {
  /** Absolute path of Deno's program. */
  readonly deno: string;
  /** Folder of Pyodide, without links on the way. */
  readonly pyodide: string;
}

const PROGRAM = process.platform === "win32" ? "deno.exe" : "deno";

/** npm's package of Deno has its program in a package of the platform; the script that would copy it out of there need not have run. */
async function findDeno(): Promise<string | undefined> {
  const launcher = await findPackage("deno");
  const platform = `@deno/${process.platform}-${process.arch}${process.platform === "linux" ? "-glibc" : ""}`;
  const packaged = launcher && (await findPackage(platform, [launcher.folder]));
  const candidates = [
    ...(packaged ? [join(packaged.folder, PROGRAM)] : []),
    ...(process.env.PATH ?? "")
      .split(delimiter)
      .filter((folder) => isAbsolute(folder))
      .map((folder) => join(folder, PROGRAM)),
  ];
  for (const path of candidates) {
    const there = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (there) return path;
  }
  return undefined;
}

/** @returns what is there, or a sentence with what to install */
export async function findInstalled(): Promise<Installed | string> {
  const [deno, pyodide] = await Promise.all([findDeno(), findPackage("pyodide")]);
  const missing = [...(deno === undefined ? ["deno"] : []), ...(pyodide === undefined ? ["pyodide"] : [])];
  if (deno === undefined || pyodide === undefined) {
    return `Python needs ${missing.join(" and ")}: run npm install ${missing.join(" ")} in the project, or npm install -g ${missing.join(" ")}.`;
  }
  return { deno, pyodide: pyodide.folder };
}
