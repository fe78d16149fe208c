/** A worker's process: runs one script in a container. Its arguments: the engine, and the script. */
import { dockerOn } from "./containers.ts";
import { runCode } from "./runs.ts";

const [host = "", code = ""] = process.argv.slice(2);
const driver = dockerOn({ host });
const ran = await runCode(driver, "sh", code, { limits: { wallMs: 120_000, cpuMs: 120_000 } });
process.stdout.write(JSON.stringify(ran));
await driver.close();
