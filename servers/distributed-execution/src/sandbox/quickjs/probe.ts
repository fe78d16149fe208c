/** What is run to know that QuickJS holds here. */
import type { Limits, RunHooks, SandboxOutcome, SandboxTask } from "../driver.ts";

const MIB = 1_048_576;
const LIMITS: Limits = {
  wallMs: 5_000,
  cpuMs: 5_000,
  memoryMiB: 32,
  processes: 1,
  outputBytes: 1_024,
  fileBytes: MIB,
  diskBytes: MIB,
  files: 1,
};

/** In this order: nothing of the machine is there; memory has an end; so has time. */
const CODE_ALONE = `[typeof process, typeof require, typeof fetch, typeof WebAssembly].join()`;
const CODE_MEMORY = "const all = []; for (;;) all.push(new Uint8Array(1000000))";
const CODE_TIME = "for (;;);";
const TIME_MS = 50;

/** @returns what does not hold, as a sentence */
export async function probeTasks(
  run: (task: SandboxTask, hooks: RunHooks) => Promise<SandboxOutcome>,
): Promise<string | undefined> {
  const hooks: RunHooks = { signal: new AbortController().signal, onOutput: () => {} };
  const of = (code: string, limits: Partial<Limits> = {}) => run({ ...TASK, code, limits: { ...LIMITS, ...limits } }, hooks);
  const [alone, memory, time] = await Promise.all([of(CODE_ALONE), of(CODE_MEMORY), of(CODE_TIME, { wallMs: TIME_MS })]);
  if (alone.ending.kind !== "exit" || alone.value !== "undefined,undefined,undefined,undefined") {
    return "QuickJS did not run a task as it should.";
  }
  if (memory.ending.kind !== "limit" || memory.ending.limit !== "memoryMiB") return "QuickJS was not held to its memory.";
  if (time.ending.kind !== "limit" || time.ending.limit !== "wallMs") return "QuickJS was not held to its time.";
  return undefined;
}

const TASK: Omit<SandboxTask, "code" | "limits"> = {
  runId: "probe",
  runtime: "javascript",
  args: [],
  stdin: new Uint8Array(0),
  files: [],
  env: {},
  network: { mode: "none" },
  mounts: [],
  packages: [],
  options: {},
};
