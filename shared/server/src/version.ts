import { readFileSync } from "node:fs";

/** The version in the package.json one folder above the module (`src/…` and `dist/…` both lie one below it). */
export function packageVersion(moduleUrl: string): string {
  const manifest = JSON.parse(readFileSync(new URL("../package.json", moduleUrl), "utf8")) as { version: string };
  return manifest.version;
}
