/**
 * Packages that are not part of this one, because not everybody needs them: found where an operator may have installed them.
 */
import { realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

export interface OptionalPackage {
  /** The folder that holds its package.json, without links on the way. */
  readonly folder: string;
  readonly version: string;
}

/** Beside this package, in the folder the worker was started in, and among what is installed for every project of this Node. */
function places(): string[] {
  const prefix = dirname(dirname(process.execPath));
  return [
    import.meta.dirname,
    process.cwd(),
    process.platform === "win32" ? dirname(process.execPath) : join(prefix, "lib"),
    ...(process.env.npm_config_prefix === undefined ? [] : [join(process.env.npm_config_prefix, "lib")]),
  ];
}

/** @param from folders to look in, with what each inherits from those above it; where an operator installs things unless given */
export async function findPackage(name: string, from: readonly string[] = places()): Promise<OptionalPackage | undefined> {
  for (const place of from) {
    for (const folder of createRequire(join(place, "package.json")).resolve.paths(name) ?? []) {
      const path = join(folder, name);
      const manifest = await readFile(join(path, "package.json"), "utf8").catch(() => undefined); // the next place
      if (manifest === undefined) continue;
      const { version } = JSON.parse(manifest) as { version?: unknown };
      return { folder: realpathSync(path), version: typeof version === "string" ? version : "" };
    }
  }
  return undefined;
}
