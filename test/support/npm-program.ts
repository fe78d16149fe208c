/** Programs of installed packages, as npx would start them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./host.ts";

/** The script behind `npx <name>`: a package that has one program. */
export function npxProgram(name: string): string {
  const folder = join(ROOT, "node_modules", ...name.split("/"));
  const { bin } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { bin: string | Record<string, string> };
  const [path, ...more] = typeof bin === "string" ? [bin] : Object.values(bin);
  if (path === undefined || more.length > 0) throw new Error(`${name} has not one program`);
  return join(folder, path);
}
