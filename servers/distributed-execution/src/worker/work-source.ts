/** Where a worker's runs come from and go to. What is behind it is the store; a test may put something else there. */
import type { Environment } from "../environment.ts";
import type { ExecutionInput, ExecutionRecord, Failure, Requires } from "../execution-record.ts";
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
  /** Whether it has room for the sandbox of another session: without, it takes no first task of one. */
  readonly takesSessions: boolean;
}

export interface ClaimedRun {
  readonly record: ExecutionRecord;
  readonly input: ExecutionInput;
  readonly environment: Environment;
  /** The contents of the input's files, in the same order. */
  readonly contents: readonly Uint8Array[];
  /**
   * Aborts when the task is cancelled, or the lease is lost: by the store's word, or because it could not be renewed for as long as it
   * lasts by this process's own clock. The sandbox must die then.
   */
  readonly signal: AbortSignal;
}

/** What waits somewhere: the requirements that the tasks of one queue have in common. */
export interface Demand {
  readonly environment: string;
  readonly version: number;
  readonly requires: Requires;
  /** The one worker that may serve it, when it belongs to a session. */
  readonly workerId?: string;
}

/** Most demands that are looked at together: as many as there are queues. */
export const DEMANDS_MAX = 1_000;

/** What a sandbox came to, with all that it wrote. */
export type Finished = SandboxOutcome & { readonly stdout: Uint8Array; readonly stderr: Uint8Array };

export interface WorkSource {
  /** The queues that hold something now, whoever may serve them; at most `DEMANDS_MAX`. Reads only, and little: it is asked after wakes. */
  demand(): Promise<readonly Demand[]>;
  /** Wakes when there may be demand that there was not; spurious wakes are allowed. */
  onDemand(wake: () => void): Disposable;
  /**
   * The first in order that this worker may run, claimed for it under a lease that is renewed from now on; undefined when nothing came
   * within `waitMs` or the signal aborted.
   */
  next(profile: WorkerProfile, waiting: { waitMs: number; signal: AbortSignal }): Promise<ClaimedRun | undefined>;
  /** Output while it runs, at most a few times a second; of a run whose lease is lost nothing is written. */
  output(run: ClaimedRun, chunks: readonly { stream: "stdout" | "stderr"; bytes: Uint8Array }[]): Promise<void>;
  /**
   * What came out, whole, whatever `output` was given before. `accepted` is false when the run was not this worker's any more: nothing
   * changed. With a profile, the same commit claims the next run for it, if there is one.
   */
  finish(run: ClaimedRun, outcome: Finished, next?: WorkerProfile): Promise<{ accepted: boolean; next?: ClaimedRun }>;
  /**
   * It could not be run here (`failure`, and why in words of our own, which hold nothing of the code's), or the worker stops (undefined):
   * another may try.
   */
  giveBack(run: ClaimedRun, failure?: Extract<Failure, "sandbox" | "session_lost">, reason?: string): Promise<void>;
  /** It could neither be ended nor given back: its lease is renewed no more, and another may try when that is over. */
  abandon(run: Pick<ClaimedRun, "record">): void;
}
