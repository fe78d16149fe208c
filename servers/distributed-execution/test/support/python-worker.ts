/** A worker's process that runs Python which never ends, and another Python ahead of need. Its argument: the code. Says when it runs. */
import { openPyodideDriver } from "../../src/sandbox/pyodide/driver.ts";
import { pythonTask } from "./python-task.ts";

const driver = openPyodideDriver({
  slots: 1,
  onError: (error) => {
    throw error;
  },
});
const [code = ""] = process.argv.slice(2);
await driver.run(pythonTask(code, { limits: { wallMs: 120_000, cpuMs: 120_000 } }), {
  signal: new AbortController().signal,
  onOutput: (_, bytes) => process.stdout.write(bytes),
});
