/**
 * What runs code where it can do no harm. A driver proves by running what it can enforce on this machine; what it cannot enforce, no
 * environment that asks for it runs on it. There is no driver without a sandbox, and nothing falls back to a weaker one.
 */
import type { Json } from "@mcp-swarm/core";

export const DRIVERS = ["quickjs", "pyodide", "bwrap", "sandbox-runtime", "docker", "kubernetes", "mcp"] as const;
export type DriverName = (typeof DRIVERS)[number];

/** All are ceilings of one run. */
export type Limits = {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly memoryMiB: number;
  readonly processes: number;
  /** Of stdout and stderr together; what is beyond is cut, and the run ends. */
  readonly outputBytes: number;
  /** Largest file that may be written. */
  readonly fileBytes: number;
  /** All that is written together. */
  readonly diskBytes: number;
  /** Most files that come back. */
  readonly files: number;
};
export type LimitName = keyof Limits;
export const LIMIT_NAMES = [
  "wallMs",
  "cpuMs",
  "memoryMiB",
  "processes",
  "outputBytes",
  "fileBytes",
  "diskBytes",
  "files",
] as const satisfies readonly LimitName[];

/**
 * `enforced`: the sandbox cannot get past it. `watched`: somebody looks several times a second and kills, so it can be passed for a moment.
 * `none`: nothing holds it; `not_applicable`: there is nothing of the kind (no processes, no disk).
 */
export type Enforcement = "enforced" | "watched" | "none" | "not_applicable";

export type Capabilities = {
  readonly limits: Readonly<Record<LimitName, Enforcement>>;
  /** What is kept from the code, shown to people and models: a line each. */
  readonly isolates: readonly string[];
  /** Languages and programs that it runs here, for example `bash`, `python 3.11`; by the manifest's `runtime`. */
  readonly runtimes: Readonly<Record<string, { readonly version: string }>>;
  /** What may be opened to the code, when an operator permits it. */
  readonly opens: { readonly network: "none" | "hosts" | "all"; readonly mounts: boolean; readonly packages: boolean };
  /** What a session keeps between tasks. */
  readonly session: "none" | "files" | "state";
};

export type Probe =
  | { readonly available: true; readonly capabilities: Capabilities }
  /** One plain sentence with what to do about it, where something can be done. */
  | { readonly available: false; readonly reason: string };

/** One run, all bounds resolved. */
export interface SandboxTask {
  /** Names what the driver makes (folders, containers) so that nothing of it is mistaken for another's. */
  readonly runId: string;
  readonly runtime: string;
  readonly code: string;
  readonly args: readonly string[];
  readonly stdin: Uint8Array;
  /** Clean relative paths, in the working folder of the code. */
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
  /** All that the code finds in its environment; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly limits: Limits;
  readonly network: NetworkAccess;
  readonly mounts: readonly Mount[];
  readonly packages: readonly string[];
  /** Driver-specific, from the manifest: an image, a namespace. */
  readonly options: Readonly<Record<string, string>>;
}

export type NetworkAccess =
  | { readonly mode: "none" }
  | { readonly mode: "hosts"; readonly hosts: readonly string[] }
  | { readonly mode: "all" };
export type Mount = { readonly from: string; readonly to: string; readonly readOnly: boolean };

export interface RunHooks {
  /** When it aborts, the whole process tree dies; the outcome's ending is `killed`. */
  readonly signal: AbortSignal;
  /** Output as it comes, never more than `outputBytes` in all. */
  onOutput(stream: "stdout" | "stderr", bytes: Uint8Array): void;
}

/** How the code ended. */
export type Ending =
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "signal"; readonly signal: string }
  | { readonly kind: "limit"; readonly limit: LimitName }
  /** By whoever runs it: cancelled, or the worker gave up. */
  | { readonly kind: "killed" };

/** What could not be measured is absent. */
export type Usage = { readonly wallMs: number; readonly cpuMs?: number; readonly peakMemoryMiB?: number };

/** What there was more of than came back. */
export type Cut = {
  readonly stdoutBytes?: number;
  readonly stderrBytes?: number;
  readonly valueBytes?: number;
  /** Paths of files that were not taken, and why; the first of them. Made safe to show. */
  readonly files?: readonly { readonly path: string; readonly because: string }[];
};

export interface SandboxOutcome {
  readonly ending: Ending;
  /** At most 256 KiB as JSON. */
  readonly value?: Json;
  readonly usage: Usage;
  /** What the code left in the folder `out` of its working folder; read after the sandbox was dead. */
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
  readonly cut: Cut;
}

/** Runs of one session, one after another; nobody else's ever. */
export interface SandboxSession {
  /** @throws SwarmError unavailable when the sandbox is gone (it was killed by a limit): the session is over */
  run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome>;
  close(): Promise<void>;
}

export interface Driver {
  readonly name: DriverName;
  /** By running something, every time it is asked; callers remember. Leaves nothing behind. */
  probe(): Promise<Probe>;
  /**
   * What one environment needs besides and is not here, such as its image or a folder to be mounted, as a sentence. Asked when `probe`
   * has shown that the driver is available, before each run: what takes long is remembered.
   * @throws SwarmError unavailable when it could not be found out
   */
  lacks?(task: Pick<SandboxTask, "runtime" | "network" | "mounts" | "options">): Promise<string | undefined>;
  /**
   * When it settles, every process of the run is dead and every file of it gone, whatever happened.
   * @throws SwarmError unavailable (retryable) when the sandbox could not be started; the code did not run then
   */
  run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome>;
  /** Only of drivers whose capabilities name a session. */
  openSession?(
    task: Pick<SandboxTask, "runId" | "runtime" | "limits" | "env" | "network" | "mounts" | "packages" | "options">,
  ): Promise<SandboxSession>;
  /** Ends what it keeps warm. */
  close(): Promise<void>;
}
