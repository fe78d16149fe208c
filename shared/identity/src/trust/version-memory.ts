import { appendFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { kidOf } from "./keys.ts";

/** Where the highest version of the bundle that was ever seen is kept outside the store, so that a fresh process notices an older one. */
export interface VersionMemory {
  /** 0 when none was seen. */
  read(): Promise<number>;
  write(version: number): Promise<void>;
}

/** From this size on the file is written anew with its highest version alone. */
const FILE_BYTES_MAX = 16_384;

/**
 * A file in `folder`, one for each root key, to which each process adds a line with the version it saw: the highest counts, in
 * whatever order they write. A line begins with its line break, so that one that was cut off spoils none after it.
 */
export function fileVersionMemory(folder: string, rootKey: string): VersionMemory {
  const path = join(folder, `bundle-${kidOf(rootKey)}.seen`);
  const content = async (): Promise<string> => {
    try {
      return await readFile(path, "utf8");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return "";
      throw new SwarmError("failed_precondition", "The file that remembers the newest trust bundle cannot be read.", {
        hint: `Make ${path} readable for this user.`,
        cause,
      });
    }
  };
  const highest = (text: string): number => Math.max(0, ...(text.match(/^\d{1,15}$/gm) ?? []).map(Number));
  return {
    read: async () => highest(await content()),
    async write(version) {
      const text = await content();
      if (highest(text) >= version) return;
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      if (text.length <= FILE_BYTES_MAX) return appendFile(path, `\n${version}`, { mode: 0o600 });
      await writeFile(`${path}.${process.pid}`, `\n${version}`, { mode: 0o600 });
      await rename(`${path}.${process.pid}`, path);
    },
  };
}
