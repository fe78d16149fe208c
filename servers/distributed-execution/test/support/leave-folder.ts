/** A worker's process that makes the folder of a run, prints its path and waits for its end. */
import { createWorkFolder } from "../../src/sandbox/work-folder.ts";

const folder = await createWorkFolder();
await folder.write("input", [{ path: "a/b.txt", bytes: Buffer.from("left") }]);
process.stdout.write(`${folder.path}\n`);
process.stdin.resume();
