/** A worker's process: runs one script in bubblewrap, and prints what came of it. Its arguments: the script, and a marker for its environment. */
import { BwrapDriver } from "../../src/sandbox/bwrap/driver.ts";
import { runCode } from "./runs.ts";

const [code = "", marker = ""] = process.argv.slice(2);
const driver = new BwrapDriver();
const ran = await runCode(driver, "bash", code, { env: { MARKER: marker }, limits: { wallMs: 60_000, cpuMs: 60_000 } });
process.stdout.write(JSON.stringify(ran));
await driver.close();
