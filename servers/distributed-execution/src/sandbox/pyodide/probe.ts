/** What is tried before anything runs in Python here: that Deno refuses, and that Python's memory ends where it should. */
import { execPath } from "node:process";
import type { SandboxTask } from "../driver.ts";

const MIB = 1_048_576;
/** Enough that Python's memory ends before the process is killed for all of its. */
const MEMORY_MIB = 320;

/** Each of these must be refused, in JavaScript, where nothing but Deno's permissions stands in the way. */
const REFUSED = [
  `fs.readFileSync(${JSON.stringify(execPath)})`,
  `fs.readdirSync("/")`,
  `fs.writeFileSync("mcp-swarm-probe", "written")`,
  `os.hostname()`,
  `child.execFileSync(${JSON.stringify(execPath)}, ["--version"])`,
  `process.kill(process.ppid, 0)`,
  `process.env.PATH.length`,
  `net.createServer().listen(0)`,
];

export function probeTask(): SandboxTask {
  const code = `
from pyodide.code import run_js
modules = await run_js("Promise.all(['fs','os','child_process','process','net'].map((name) => import('node:' + name)))")
attempt = run_js("(modules, code) => { const [fs, os, child, process, net] = modules.map((one) => one.default); return eval(code) }")
def held():
    for code in ${JSON.stringify(REFUSED)}:
        try:
            attempt(modules, code)
        except Exception as error:
            if "NotCapable" not in str(error):
                return code + " failed with " + str(error)[:100]
        else:
            return code + " was permitted"
    try:
        bytearray(${MEMORY_MIB * MIB})
    except MemoryError:
        return "held"
    return "memory was not limited"
held()
`;
  return {
    runId: "probe",
    runtime: "python",
    code,
    args: [],
    stdin: new Uint8Array(),
    files: [],
    env: {},
    limits: {
      wallMs: 60_000,
      cpuMs: 20_000,
      memoryMiB: MEMORY_MIB,
      processes: 1,
      outputBytes: 65_536,
      fileBytes: 65_536,
      diskBytes: 65_536,
      files: 1,
    },
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
  };
}
