/** A worker's process: starts a child that does all it can to live on, says that it runs, and does nothing more. Its argument: a marker. */
import { startChild } from "../../src/sandbox/child-process.ts";

const [marker = ""] = process.argv.slice(2);
const shell = "trap '' TERM HUP INT; echo up; while :; do :; done";
for (let n = 0; n < 2; n += 1) {
  const child = await startChild({ command: "sh", args: ["-c", shell, marker], cwd: "/", env: { PATH: "/usr/bin:/bin" } });
  child.stdout.once("data", () => process.stdout.write("up\n"));
}
