/** What happens to one execution within a transaction, from its claim to its end. What follows for others: execution-groups.ts. */
import { type BackoffPolicy, backoffDelay } from "@mcp-swarm/coordination";
import { assert, type Json } from "@mcp-swarm/core";
import { endNow } from "./execution-groups.ts";
import { cancelKey, type ExecutionTransaction, valueKey } from "./execution-layer.ts";
import type { ExecutionRecord, RunResult } from "./execution-record.ts";
import type { Ending } from "./sandbox/driver.ts";
import { bindSession } from "./session-layer.ts";

/** Between an attempt that came to nothing and the next, so that a worker that cannot run a sandbox does not use them up at once. */
export const RETRY_BACKOFF: BackoffPolicy = { initialMs: 200, factor: 3, maxMs: 10_000 };

/** Which attempt a worker speaks of. */
export type Holding = { readonly id: string; readonly attempt: number; readonly workerId: string };

/** A queued one is this worker's under a lease. Undefined when its session is over: it ended then. */
export function claimRun(
  executions: ExecutionTransaction,
  record: ExecutionRecord,
  { workerId, leaseMs }: { workerId: string; leaseMs: number },
): ExecutionRecord | undefined {
  assert(record.status === "queued", "only a queued execution is claimed");
  const worker = { workerId, leaseExpiresAt: executions.now + leaseMs };
  if (record.sessionId !== undefined && !bindSession(executions.tx, record.sessionId, worker)) {
    endNow(executions, record, { status: "failed", failure: "session_lost" });
    return undefined;
  }
  return executions.change(record, {
    status: "running",
    attempt: record.attempt + 1,
    worker,
    startedAt: executions.now,
    queueDeadlineAt: undefined,
  });
}

/** The record when this attempt still is the worker's. */
export function heldRun(executions: ExecutionTransaction, { id, attempt, workerId }: Holding): ExecutionRecord | undefined {
  const record = executions.find(id);
  const held = record?.status === "running" && record.attempt === attempt && record.worker?.workerId === workerId;
  return held ? record : undefined;
}

/** Whether this very attempt was brought to an end: what a worker asks that did not hear the answer. */
export function wasFinished(executions: ExecutionTransaction, { id, attempt, workerId }: Holding): boolean {
  const record = executions.find(id);
  return record?.result !== undefined && record.attempt === attempt && record.worker?.workerId === workerId;
}

export function renewRun(executions: ExecutionTransaction, record: ExecutionRecord, leaseExpiresAt: number): void {
  assert(record.worker !== undefined, "a running execution has a worker");
  executions.change(record, { worker: { ...record.worker, leaseExpiresAt } });
}

/** The code came to an end: that is never repeated. */
export function finishRun(
  executions: ExecutionTransaction,
  record: ExecutionRecord,
  { result, value }: { result: RunResult; value?: Json | undefined },
): ExecutionRecord {
  const { ending } = result;
  const cancelled = record.cancelRequestedAt !== undefined && ending.kind === "killed";
  const status = cancelled ? "cancelled" : succeeded(ending) ? "succeeded" : "failed";
  if (value !== undefined) executions.tx.put(valueKey(record.id), value);
  if (record.worker && record.cancelRequestedAt !== undefined) {
    executions.tx.delete(cancelKey(record.worker.workerId, record.id));
  }
  // nobody asked for it to be killed: its session ended where it ran, by its time limit or because its lease was lost
  const lost = ending.kind === "killed" && !cancelled && record.sessionId !== undefined;
  const failure = lost ? ("session_lost" as const) : undefined;
  const finished = executions.change(record, { status, failure, endedAt: executions.now, result });
  if (record.sessionId !== undefined && (ending.kind === "limit" || ending.kind === "killed")) {
    // what kills a run of a session kills its sandbox, with all that it kept
    executions.context.endSession(executions, record.sessionId, ending.kind === "limit" ? "limit" : "cancelled");
  }
  return finished;
}

function succeeded(ending: Ending): boolean {
  return ending.kind === "exit" && ending.code === 0;
}

/** The worker stops: it is queued again at its old rank, and the attempt costs nothing. A session goes with its worker. */
export function giveBackRun(executions: ExecutionTransaction, record: ExecutionRecord): void {
  if (endsWithWorker(executions, record, "worker_lost")) return;
  requeue(executions, record);
}

/** Most characters that are kept of why a sandbox could not be started. */
const REASON_CHARS_MAX = 500;

/**
 * The worker died, or could not start a sandbox (for that `reason`): another attempt after a while, or failed for good when they are
 * used up.
 */
export function loseRun(
  executions: ExecutionTransaction,
  record: ExecutionRecord,
  failure: "worker_lost" | "sandbox",
  reason?: string,
): void {
  if (endsWithWorker(executions, record, failure)) return;
  const spent = record.spent + 1;
  if (spent >= record.maxAttempts) {
    const told = reason === undefined ? {} : { failureReason: reason.slice(0, REASON_CHARS_MAX) };
    endNow(executions, executions.change(record, { spent, ...told }), { status: "failed", failure });
    return;
  }
  requeue(executions, record, { spent, dueAt: executions.now + backoffDelay(RETRY_BACKOFF, spent) });
}

/** What was being killed is not run again, nor what belongs to a session, which is where its worker was. */
function endsWithWorker(executions: ExecutionTransaction, record: ExecutionRecord, because: "worker_lost" | "sandbox"): boolean {
  const { sessionId } = record;
  if (record.cancelRequestedAt !== undefined) endNow(executions, record, { status: "cancelled" });
  else if (sessionId !== undefined) endNow(executions, record, { status: "failed", failure: "session_lost" });
  if (sessionId !== undefined) executions.context.endSession(executions, sessionId, because);
  return record.cancelRequestedAt !== undefined || sessionId !== undefined;
}

function requeue(
  executions: ExecutionTransaction,
  record: ExecutionRecord,
  { spent = record.spent, dueAt }: { spent?: number; dueAt?: number } = {},
): void {
  executions.change(record, {
    status: "queued",
    spent,
    dueAt,
    startedAt: undefined,
    queueDeadlineAt: executions.now + record.queueMs,
  });
}
