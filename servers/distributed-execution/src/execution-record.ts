/**
 * One piece of code that an agent handed over, as it is kept; "task" in the words of the tools. What is large stands in rows of its own
 * (code and input, output, files), so that a claim and a renewal write little.
 */
import type { Json } from "@mcp-swarm/core";
import type { Cut, Ending, Usage } from "./sandbox/driver.ts";

/** Largest code, in bytes of UTF-8. */
export const CODE_BYTES_MAX = 1024 * 1024;
/** Largest standard input, in bytes of UTF-8. */
export const STDIN_BYTES_MAX = 256 * 1024;
export const ARGS_MAX = 64;
/** Longest argument, in characters. */
export const ARG_MAX = 8_192;
/** Most input files of one task, and what all that are given by value may hold together, in bytes. */
export const INPUT_FILES_MAX = 64;
export const INPUT_BYTES_MAX = 1024 * 1024;
/** Longest path of a file, in characters. */
export const FILE_PATH_MAX = 200;
export const PRIORITY_MAX = 9;
export const PRIORITY_DEFAULT = 5;
/** Run time, in ms; the environment's own limit may be lower. */
export const RUN_MS_MIN = 100;
export const RUN_MS_DEFAULT = 30_000;
export const RUN_MS_MAX = 3_600_000;
/** How long a task may wait for a worker, in ms. */
export const QUEUE_MS_DEFAULT = 3_600_000;
export const QUEUE_MS_MAX = 7 * 24 * 3_600_000;
/** Attempts end with the worker that made them (it died, or could not run a sandbox); what the code itself does is never repeated. */
export const ATTEMPTS_DEFAULT = 3;
export const ATTEMPTS_MAX = 20;
export const LABELS_MAX = 16;

/**
 * `blocked`: waits for other tasks of its batch, its session's turn, or its batch's concurrency. `queued` → `running` → one of
 * - `succeeded`: ended by itself with exit code 0
 * - `failed`: ended otherwise, or no worker could bring it to an end (`failure`)
 * - `cancelled`, `expired` (waited too long for a worker)
 */
export const EXECUTION_STATUSES = ["blocked", "queued", "running", "succeeded", "failed", "cancelled", "expired"] as const;
export type ExecutionStatus = (typeof EXECUTION_STATUSES)[number];

export function hasEnded(status: ExecutionStatus): boolean {
  return status !== "blocked" && status !== "queued" && status !== "running";
}

/** Why nothing of the code's own ended it. */
export type Failure =
  /** Its last attempt's worker died, or its sandbox could not be started. */
  | "worker_lost"
  | "sandbox"
  /** A task that it depends on did not succeed. */
  | "dependency"
  /** The session's worker is gone, and its state with it. */
  | "session_lost"
  /** The environment was deleted while it waited. */
  | "environment_gone";

/** What a worker must have to run it, besides the environment. */
export type Requires = {
  /** `process.arch` of the worker. */
  readonly arch?: string;
  /** Labels that the worker was started with, sorted. */
  readonly labels?: readonly string[];
};

export type InputFile = {
  /** Relative, as `cleanPath` lets through. */
  readonly path: string;
  readonly artifactId: string;
};

/** A file that came out. */
export type OutputFile = {
  readonly path: string;
  readonly artifactId: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly mimeType: string;
};

export type RunResult = {
  readonly ending: Ending;
  /** Of environments whose code has a value. */
  readonly value?: Json;
  readonly usage: Usage;
  readonly files: readonly OutputFile[];
  readonly cut: Cut;
};

export type ExecutionRecord = {
  readonly id: string;
  readonly status: ExecutionStatus;
  /** Who submitted it. */
  readonly agentId: string;
  readonly environment: string;
  /** Of the environment as it was when the task was submitted. */
  readonly environmentVersion: number;
  readonly requires: Requires;
  readonly priority: number;
  readonly runMs: number;
  readonly maxAttempts: number;
  readonly createdAt: number;
  /** A task that still waits then is `expired`. */
  readonly queueDeadlineAt: number;
  /** Where it stands in the queue while it waits there. */
  readonly seq: string;
  readonly readyAt?: number;
  /** Attempts begun; the number of the current one is its fencing token. */
  readonly attempt: number;
  readonly worker?: { readonly workerId: string; readonly leaseExpiresAt: number };
  readonly startedAt?: number;
  readonly endedAt?: number;
  readonly cancelRequestedAt?: number;
  readonly failure?: Failure;
  readonly sessionId?: string;
  readonly batchId?: string;
  readonly codeBytes: number;
  /** Absent until it has run to an end. */
  readonly result?: RunResult;
};

/** What a worker needs to run it, beside the record. */
export type ExecutionInput = {
  readonly code: string;
  readonly args: readonly string[];
  readonly stdin: string;
  readonly files: readonly InputFile[];
};
