/** Machines that are not at hand, for a real bin: small modules that `node --import` loads before it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const MACHINES = {
  "old node": `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.11.1" } });
Object.defineProperty(process, "version", { value: "v20.11.1" });`,

  "unsafe sqlite": `import { DatabaseSync } from "node:sqlite";
const prepare = DatabaseSync.prototype.prepare;
DatabaseSync.prototype.prepare = function (sql) {
  return prepare.call(this, sql.replace("sqlite_version()", "'3.46.1'"));
};`,

  "network drive": `import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
const read = fs.readFileSync;
fs.readFileSync = (path, ...rest) =>
  path === "/proc/self/mountinfo" ? "36 35 0:40 / / rw,noatime - nfs4 server:/export rw\\n" : read(path, ...rest);
fs.statfsSync = () => ({ type: 0x6969 });
syncBuiltinESMExports();`,

  /** The engine may have no more pages than these: what it answers then is what it answers on a full disk. */
  "full disk": `import { DatabaseSync } from "node:sqlite";
const exec = DatabaseSync.prototype.exec;
DatabaseSync.prototype.exec = function (sql) {
  const result = exec.call(this, sql);
  if (sql.includes("PRAGMA synchronous")) exec.call(this, "PRAGMA max_page_count=60");
  return result;
};`,
} as const;

/** Writes the module into `folder` and answers the arguments for Node. */
export function on(machine: keyof typeof MACHINES, folder: string): string[] {
  const file = join(folder, `${machine.replaceAll(" ", "-")}.mjs`);
  writeFileSync(file, MACHINES[machine]);
  return ["--import", pathToFileURL(file).href];
}
