/** Tasks in Python, and what came out of them. */
import type { Driver, Limits, SandboxOutcome, SandboxSession, SandboxTask } from "../../src/sandbox/driver.ts";

export const LIMITS: Limits = {
  wallMs: 30_000,
  cpuMs: 20_000,
  memoryMiB: 512,
  processes: 8,
  outputBytes: 100_000,
  fileBytes: 1_000_000,
  diskBytes: 4_000_000,
  files: 4,
};

export type Given = Omit<Partial<SandboxTask>, "limits"> & { readonly limits?: Partial<Limits> };

export function pythonTask(code: string, given: Given = {}): SandboxTask {
  return {
    runId: "test",
    runtime: "python",
    args: [],
    stdin: new Uint8Array(),
    files: [],
    env: {},
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
    ...given,
    code,
    limits: { ...LIMITS, ...given.limits },
  };
}

export interface Ran extends SandboxOutcome {
  readonly stdout: string;
  readonly stderr: string;
}

export async function runPython(
  on: Pick<Driver | SandboxSession, "run">,
  code: string,
  given: Given & { readonly signal?: AbortSignal } = {},
): Promise<Ran> {
  const { signal = new AbortController().signal, ...rest } = given;
  const said = { stdout: "", stderr: "" };
  const outcome = await on.run(pythonTask(code, rest), {
    signal,
    onOutput: (stream, bytes) => {
      said[stream] += Buffer.from(bytes).toString();
    },
  });
  return { ...outcome, ...said };
}
