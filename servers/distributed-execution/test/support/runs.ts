/** Runs of a driver, with what they printed. */
import { newId, systemRandom } from "@mcp-swarm/core";
import type { Driver, Limits, SandboxOutcome, SandboxSession, SandboxTask } from "../../src/sandbox/driver.ts";

const MIB = 1_048_576;
export const TEST_LIMITS: Limits = {
  wallMs: 20_000,
  cpuMs: 10_000,
  memoryMiB: 192,
  processes: 24,
  outputBytes: 65_536,
  fileBytes: 4 * MIB,
  diskBytes: 8 * MIB,
  files: 10,
};

export type Run = Omit<Partial<SandboxTask>, "limits" | "stdin" | "files"> & {
  readonly limits?: Partial<Limits>;
  readonly stdin?: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Told of stdout so far. */
  readonly onStdout?: (text: string) => void;
};

export type Ran = Omit<SandboxOutcome, "files"> & {
  readonly stdout: string;
  readonly stderr: string;
  readonly files: Readonly<Record<string, string>>;
};

export function taskFrom(runtime: string, code: string, run: Run = {}): SandboxTask {
  const { limits, stdin, files, signal: _signal, onStdout: _onStdout, ...rest } = run;
  return {
    runId: newId("run", systemRandom),
    runtime,
    code,
    args: [],
    env: {},
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
    ...rest,
    stdin: Buffer.from(stdin ?? ""),
    files: Object.entries(files ?? {}).map(([path, text]) => ({ path, bytes: Buffer.from(text) })),
    limits: { ...TEST_LIMITS, ...limits },
  };
}

export async function runCode(
  on: Pick<Driver | SandboxSession, "run">,
  runtime: string,
  code: string,
  run: Run = {},
): Promise<Ran> {
  const said = { stdout: "", stderr: "" };
  const outcome = await on.run(taskFrom(runtime, code, run), {
    signal: run.signal ?? new AbortController().signal,
    onOutput: (stream, bytes) => {
      said[stream] += Buffer.from(bytes).toString();
      run.onStdout?.(said.stdout);
    },
  });
  const files = Object.fromEntries(outcome.files.map(({ path, bytes }) => [path, Buffer.from(bytes).toString()]));
  return { ...outcome, ...said, files };
}
