/** Where a worker's runs come from and go to. What is behind it is the store; a test may put something else there. */
import type { Environment } from "../environment.ts";
import type { ExecutionInput, ExecutionRecord, Failure } from "../execution-record.ts";
import type { SandboxOutcome } from "../sandbox/driver.ts";

/** What a worker says of itself when it asks for work. */
export interface WorkerProfile {
  readonly workerId: string;
  readonly arch: string;
  readonly labels: readonly string[];
  /** Names and versions of the environments that it can run now. */
  readonly environments: readonly Pick<Environment, "name" | "version">[];
  /** Sessions whose sandboxes it holds. */
  readonly sessions: readonly string[];
}

export interface ClaimedRun {
  readonly record: ExecutionRecord;
  readonly input: ExecutionInput;
  readonly environment: Environment;
  /** The contents of the input's files, in the same order. */
  readonly contents: readonly Uint8Array[];
  /** Aborts when the lease is lost or the task is cancelled: the sandbox must die then. */
  readonly signal: AbortSignal;
}

export interface WorkSource {
  /**
   * The first in order that this worker may run, claimed for it under a lease that is renewed from now on; undefined when nothing came
   * within `waitMs` or the signal aborted.
   */
  next(profile: WorkerProfile, waiting: { waitMs: number; signal: AbortSignal }): Promise<ClaimedRun | undefined>;
  /** Output while it runs, at most a few times a second; of a run whose lease is lost nothing is written. */
  output(run: ClaimedRun, chunks: readonly { stream: "stdout" | "stderr"; bytes: Uint8Array }[]): Promise<void>;
  /** What came out. False when the run was not this worker's any more: nothing changed. */
  finish(run: ClaimedRun, outcome: SandboxOutcome & { stdout: Uint8Array; stderr: Uint8Array }): Promise<boolean>;
  /** It could not be run here (`failure`), or the worker stops (undefined): another may try. */
  giveBack(run: ClaimedRun, failure?: Extract<Failure, "sandbox" | "session_lost">): Promise<void>;
}
