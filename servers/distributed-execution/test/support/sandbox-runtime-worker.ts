/** A worker's process with a task that does all it can to live on. Its argument: a marker for the command lines of what it starts. */
import { SandboxRuntimeDriver } from "../../src/sandbox/sandbox-runtime/driver.ts";
import { pythonTask } from "./python-task.ts";

const [marker = ""] = process.argv.slice(2);
const stubborn = "trap '' TERM HUP INT; echo up; while :; do :; done";
const code = `setsid bash -c "${stubborn}" ${marker} &\n${stubborn}`;
await new SandboxRuntimeDriver().run(
  { ...pythonTask(code, { limits: { wallMs: 120_000, cpuMs: 120_000 } }), runtime: "bash", args: [marker] },
  { signal: new AbortController().signal, onOutput: (_, bytes) => process.stdout.write(bytes) },
);
