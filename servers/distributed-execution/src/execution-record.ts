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
/** Longest argument, in characters, and all together, in bytes of UTF-8. */
export const ARG_MAX = 8_192;
export const ARGS_BYTES_MAX = 128 * 1024;
/** Most input files of one task, and what all that are given by value may hold together, in bytes. */
export const INPUT_FILES_MAX = 64;
export const INPUT_BYTES_MAX = 1024 * 1024;
/** What all input files of one task may hold together, artifacts included, in bytes: its worker has them in memory. */
export const INPUT_WHOLE_BYTES_MAX = 64 * 1024 * 1024;
/** Longest path of a file, in characters. */
export const FILE_PATH_MAX = 200;
export const PRIORITY_MAX = 9;
export const PRIORITY_DEFAULT = 5;
/** Run time, in ms; the environment's own limit may be lower. */
export const RUN_MS_MIN = 100;
export const RUN_MS_DEFAULT = 30_000;
export const RUN_MS_MAX = 3_600_000;
/** How long a task may wait for a worker, in ms. */
export const QUEUE_MS_MIN = 100;
export const QUEUE_MS_DEFAULT = 3_600_000;
export const QUEUE_MS_MAX = 7 * 24 * 3_600_000;
/** Attempts end with the worker that made them (it died, or could not run a sandbox); what the code itself does is never repeated. */
export const ATTEMPTS_DEFAULT = 3;
export const ATTEMPTS_MAX = 20;
export const LABELS_MAX = 16;
/** Longest label, in characters. */
export const LABEL_LENGTH_MAX = 64;
/** Longest `dedupe` key, in characters. */
export const DEDUPE_MAX = 128;
/** How long a `dedupe` key is remembered, in ms. */
export const DEDUPE_TTL_MS = 24 * 3_600_000;
/** Of each output stream so many characters at its beginning, and as many at its end, stand in the record. */
export const OUTPUT_KEPT_CHARS = 4_096;
/** Values whose JSON is longer stand in a row of their own, in bytes. */
export const VALUE_KEPT_BYTES = 8_192;

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

/** One output stream; what is no UTF-8 in it reads as U+FFFD. */
export type OutputText = {
  /** All of it, unless there is a tail. */
  readonly head: string;
  /** Its end, when what lies between is left out here. */
  readonly tail?: string;
  /** Of all that came, in characters (UTF-16 units). */
  readonly chars: number;
};

export type RunResult = {
  readonly ending: Ending;
  /** Of environments whose code has a value. */
  readonly value?: Json;
  /** Of a value that stands in a row of its own: the length of its JSON. `Executions.get` fills `value` in. */
  readonly valueBytes?: number;
  readonly stdout: OutputText;
  readonly stderr: OutputText;
  /** The output stands in rows of its own, whole; otherwise all of it is here. */
  readonly outputKept?: true;
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
  readonly queueMs: number;
  readonly maxAttempts: number;
  readonly createdAt: number;
  /** A task that is still queued then is `expired`. Absent while it is not queued. */
  readonly queueDeadlineAt?: number;
  /** Its place in the order of creation. */
  readonly seq: string;
  /** Since when it could run; decides its rank in the queue, and stays when it must be run again. */
  readonly readyAt?: number;
  /** Queued, but no worker may take it before: the attempt before came to nothing. */
  readonly dueAt?: number;
  /** Attempts begun; the number of the current one is its fencing token. */
  readonly attempt: number;
  /** Attempts used up by workers that died or could not start a sandbox; what a stopping worker gave back is none. */
  readonly spent: number;
  /** That has it, or had it last. */
  readonly worker?: { readonly workerId: string; readonly leaseExpiresAt: number };
  readonly startedAt?: number;
  readonly endedAt?: number;
  readonly cancelRequestedAt?: number;
  readonly failure?: Failure;
  /** What the worker that tried last said of why no sandbox could be started, in the words of one of our own errors. */
  readonly failureReason?: string;
  readonly sessionId?: string;
  readonly batchId?: string;
  /** The batch or session that says how many of its tasks may be queued or running at once, or what becomes of the others when it fails. */
  readonly groupId?: string;
  /** Tasks of its batch that must end before it is queued; those that have not yet. */
  readonly waitsFor?: readonly string[];
  /** Tasks of its batch wait, or waited, for it. */
  readonly hasDependents?: true;
  /** Some of its input files come out of the tasks that it waits for. */
  readonly takesFiles?: true;
  /** Of the session: the worker that holds it and alone can run this. */
  readonly boundTo?: string;
  readonly dedupe?: string;
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
