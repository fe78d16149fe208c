/** What lets executions be queued: the tasks that they wait for, and the places that their batch or session has. */
import { assert } from "@mcp-swarm/core";
import { prefixRange, SCAN_LIMIT_MAX, type Transaction } from "@mcp-swarm/store";
import { findArtifact, refer } from "./artifact-layer.ts";
import {
  cancelKey,
  type Edge,
  type ExecutionContext,
  ExecutionTransaction,
  edgeKey,
  idOf,
  inputKey,
  prefixes,
  type StoredInput,
} from "./execution-layer.ts";
import { type ExecutionRecord, type Failure, hasEnded, INPUT_WHOLE_BYTES_MAX } from "./execution-record.ts";
import { readSession } from "./session-layer.ts";

/** Most members of a batch or session that have not ended: what ends them together is one commit. */
export const OPEN_MEMBERS_MAX = 500;
/** Rounds of consequences in one transaction: each ends at least one member. */
const ROUNDS_MAX = 2 * OPEN_MEMBERS_MAX;

/** Runs `work` on the executions of a transaction, and then all that follows from what ended. */
export function inExecutions<T>(tx: Transaction, context: ExecutionContext, work: (executions: ExecutionTransaction) => T): T {
  const executions = new ExecutionTransaction(tx, context);
  const result = work(executions);
  settle(executions);
  return result;
}

/** What waited for those that ended is queued, or ends too; free places of their groups are taken. Writes the groups. */
export function settle(executions: ExecutionTransaction): void {
  for (let round = 0; round <= ROUNDS_MAX; round++) {
    const ended = executions.takeEnded();
    for (const record of ended) {
      stopGroup(executions, record);
      if (record.hasDependents && !executions.isCalledOff(record)) tellDependents(executions, record);
    }
    if (ended.length > 0) continue;
    for (const groupId of executions.touchedGroups()) takeTurns(executions, groupId);
    if (executions.anyEnded) continue;
    executions.writeGroups();
    return;
  }
  assert(false, "the consequences of one commit come to an end");
}

/** It waits for nothing any more: queued, or, where a group limits its members, in line for a place, which `settle` gives out. */
export function place(executions: ExecutionTransaction, record: ExecutionRecord): void {
  const readyAt = record.readyAt ?? executions.now;
  const { groupId } = record;
  const group = groupId === undefined ? undefined : executions.group(groupId);
  if (groupId === undefined || group?.limit === undefined) enqueue(executions, { ...record, readyAt });
  else {
    executions.change(record, { status: "blocked", waitsFor: undefined, readyAt });
    executions.putGroup(groupId, group);
  }
}

/** @param record as it is stored, but for `readyAt` */
function enqueue(executions: ExecutionTransaction, record: ExecutionRecord): ExecutionRecord {
  const stored = executions.get(record.id);
  const session = record.sessionId === undefined ? undefined : readSession(executions.tx, record.sessionId);
  if (record.sessionId !== undefined && (!session || session.over)) {
    return endNow(executions, stored, { status: "failed", failure: "session_lost" });
  }
  if (record.takesFiles && !resolveFiles(executions, record)) {
    return endNow(executions, stored, { status: "failed", failure: "dependency" });
  }
  return executions.change(stored, {
    status: "queued",
    waitsFor: undefined,
    readyAt: record.readyAt ?? executions.now,
    queueDeadlineAt: executions.now + record.queueMs,
    ...(session?.worker ? { boundTo: session.worker.workerId } : {}),
  });
}

/** Files that come out of what it waited for become its own; false when one is not there, or they are too large together. */
function resolveFiles(executions: ExecutionTransaction, record: ExecutionRecord): boolean {
  const { tx } = executions;
  const input = tx.get(inputKey(record.id))?.value as StoredInput | undefined;
  assert(input !== undefined, "an open execution has its input");
  const files: { path: string; artifactId: string }[] = [];
  let bytes = 0;
  for (const file of input.files) {
    if ("artifactId" in file) {
      files.push(file);
      bytes += findArtifact(tx, file.artifactId)?.bytes ?? 0;
      continue;
    }
    const made = executions.find(file.from)?.result?.files.find(({ path }) => path === file.output);
    if (!made) return false;
    bytes += made.bytes;
    files.push({ path: file.path, artifactId: made.artifactId });
  }
  if (bytes > INPUT_WHOLE_BYTES_MAX) return false;
  for (const { artifactId } of files) refer(tx, artifactId, record.id);
  tx.put(inputKey(record.id), { ...input, files });
  return true;
}

function tellDependents(executions: ExecutionTransaction, record: ExecutionRecord): void {
  const { tx } = executions;
  for (const { key, value } of tx.scan(prefixRange(prefixes.dependents(record.id), SCAN_LIMIT_MAX))) {
    const { id, after } = value as Edge;
    tx.delete(key);
    const dependent = executions.find(id);
    if (!dependent || hasEnded(dependent.status)) continue;
    if (record.status !== "succeeded" && after === "success") {
      endNow(executions, dependent, { status: "failed", failure: "dependency" });
      continue;
    }
    const waitsFor = dependent.waitsFor?.filter((other) => other !== record.id) ?? [];
    if (waitsFor.length > 0) executions.change(dependent, { waitsFor });
    else place(executions, dependent);
  }
}

/** The first failure ends a batch that wants it so. */
function stopGroup(executions: ExecutionTransaction, record: ExecutionRecord): void {
  if (record.groupId === undefined || (record.status !== "failed" && record.status !== "expired")) return;
  const group = executions.group(record.groupId);
  if (!group?.stopOnFailure || group.stopped) return;
  executions.putGroup(record.groupId, { ...group, stopped: true });
  endMembers(executions, record.groupId, { status: "cancelled" });
}

/** Members that wait for nothing but a place take those that are free, in the order of their turns. */
function takeTurns(executions: ExecutionTransaction, groupId: string): void {
  const group = executions.group(groupId);
  if (group?.limit === undefined || group.active >= group.limit) return;
  const free = Math.min(group.limit - group.active, OPEN_MEMBERS_MAX);
  for (const entry of executions.tx.scan(prefixRange(prefixes.waiting(groupId), free))) {
    enqueue(executions, executions.get(idOf(entry)));
  }
}

/** Kills a run: its worker is told at once, and learns of it at the next renewal of its lease at the latest. */
export function requestCancel(executions: ExecutionTransaction, record: ExecutionRecord): ExecutionRecord {
  assert(record.status === "running" && record.worker !== undefined, "only a run is killed");
  if (record.cancelRequestedAt !== undefined) return record;
  executions.tx.put(cancelKey(record.worker.workerId, record.id), { id: record.id });
  return executions.change(record, { cancelRequestedAt: executions.now });
}

/** Ends one that no worker has to be asked about, or no longer. */
export function endNow(
  executions: ExecutionTransaction,
  record: ExecutionRecord,
  how: { status: "cancelled" | "expired" } | { status: "failed"; failure: Failure },
): ExecutionRecord {
  if (record.worker && record.cancelRequestedAt !== undefined) executions.tx.delete(cancelKey(record.worker.workerId, record.id));
  for (const other of record.waitsFor ?? []) executions.tx.delete(edgeKey(other, record.id));
  return executions.change(record, {
    ...how,
    endedAt: executions.now,
    dueAt: undefined,
    queueDeadlineAt: undefined,
    waitsFor: undefined,
  });
}

/**
 * Ends all that is open of a batch or session: what waits ends so at once; what runs is cancelled, or with `runs: "end"`, when its
 * worker is known to be gone, ends in the same way. Answers how many there were.
 */
export function endMembers(
  executions: ExecutionTransaction,
  groupId: string,
  how: { status: "cancelled" } | { status: "failed"; failure: Failure },
  { runs = "cancel" }: { runs?: "cancel" | "end" } = {},
): number {
  const members = executions.openMembers(groupId);
  for (const { id } of members) {
    const record = executions.get(id); // an earlier one's end may have ended it
    if (hasEnded(record.status)) continue;
    if (record.status === "running" && runs === "cancel") requestCancel(executions, record);
    else endNow(executions, record, how);
  }
  executions.callOff(groupId);
  return members.length;
}
