/** Recounts a store of executions: every index, reference and count from the records alone. */
import { prefixRange, SCAN_LIMIT_MAX, type Store, segment } from "@mcp-swarm/store";
import type { Artifact } from "../../src/artifact-layer.ts";
import type { GroupRecord, StoredInput } from "../../src/execution-layer.ts";
import { queueName, queueOf, rankOf } from "../../src/execution-queue.ts";
import { type ExecutionRecord, hasEnded } from "../../src/execution-record.ts";

const NAMESPACES = [
  "exec",
  "exec-input",
  "exec-text",
  "exec-text-ref",
  "exec-value",
  "exec-ready",
  "exec-later",
  "exec-deadline",
  "exec-lease",
  "exec-ended",
  "exec-all",
  "exec-by",
  "exec-member",
  "exec-open",
  "exec-waiting",
  "exec-group",
  "exec-dependents",
  "exec-cancel",
  "exec-queue",
  "exec-output",
  "artifact",
  "artifact-chunk",
  "artifact-ref",
  "artifact-pending",
];

/** Keys alone, which a failed comparison can print. */
export async function everyKey(store: Pick<Store, "scan">, namespace: string): Promise<string[]> {
  return (await everyRow(store, namespace)).map(({ key }) => key);
}

export async function everyRow(store: Pick<Store, "scan">, namespace: string): Promise<{ key: string; value: unknown }[]> {
  const rows: { key: string; value: unknown }[] = [];
  for (;;) {
    const last = rows.at(-1)?.key;
    const page = await store.scan(prefixRange(`${namespace}/`, SCAN_LIMIT_MAX, last === undefined ? {} : { after: last }));
    rows.push(...page);
    if (page.length < SCAN_LIMIT_MAX) return rows;
  }
}

export async function executionCensus(
  store: Pick<Store, "scan">,
): Promise<{ records: Map<string, ExecutionRecord>; problems: string[] }> {
  const rows = new Map<string, unknown>();
  for (const namespace of NAMESPACES) for (const { key, value } of await everyRow(store, namespace)) rows.set(key, value);
  const problems: string[] = [];
  const wanted = new Set<string>();
  const want = (key: string, why: string) => {
    wanted.add(key);
    if (!rows.has(key)) problems.push(`${key} is missing: ${why}`);
  };
  const number = (value: number) => String(value).padStart(16, "0");
  const records = new Map<string, ExecutionRecord>();
  for (const [key, value] of rows) {
    if (key.startsWith("exec/")) records.set((value as ExecutionRecord).id, value as ExecutionRecord);
  }
  const active = new Map<string, number>();
  const artifacts = new Set<string>();
  for (const record of records.values()) {
    const { id, status, seq, agentId } = record;
    const at = segment(id);
    want(`exec/${at}`, id);
    want(`exec-all/${seq}/${at}`, id);
    want(`exec-by/${segment(agentId)}/${seq}/${at}`, id);
    const group = record.batchId ?? record.sessionId;
    if (group !== undefined) {
      want(`exec-member/${segment(group)}/${seq}/${at}`, id);
      if (!hasEnded(status)) want(`exec-open/${segment(group)}/${at}`, id);
    }
    if (record.groupId !== undefined && (status === "queued" || status === "running")) {
      active.set(record.groupId, (active.get(record.groupId) ?? 0) + 1);
    }
    const times = `${id} is ${status}`;
    if (status === "queued") {
      want(`exec-deadline/${number(record.queueDeadlineAt ?? -1)}/${at}`, times);
      const queue = queueName(queueOf(record));
      if (record.dueAt !== undefined) want(`exec-later/${number(record.dueAt)}/${at}`, times);
      else {
        want(`exec-queue/${queue}`, times);
        want(`exec-ready/${queue}/${rankOf(record, record.readyAt ?? 0)}/${seq}/${at}`, times);
      }
    } else if (status === "running") {
      want(`exec-lease/${number(record.worker?.leaseExpiresAt ?? -1)}/${at}`, times);
      if (record.cancelRequestedAt !== undefined) want(`exec-cancel/${segment(record.worker?.workerId ?? "")}/${at}`, times);
    } else if (hasEnded(status)) {
      want(`exec-ended/${number(record.endedAt ?? -1)}/${at}`, times);
    } else {
      if (!record.waitsFor && record.groupId === undefined) problems.push(`${id} is blocked by nothing`);
      if (!record.waitsFor)
        want(`exec-waiting/${segment(record.groupId ?? "")}/${rankOf(record, record.readyAt ?? 0)}/${seq}/${at}`, times);
      for (const other of record.waitsFor ?? []) want(`exec-dependents/${segment(other)}/${at}`, times);
    }
    const input = rows.get(`exec-input/${at}`) as StoredInput | undefined;
    want(`exec-input/${at}`, id);
    for (const [own, text] of [
      [`${id}-code`, input?.code],
      [`${id}-stdin`, input?.stdin],
    ] as const) {
      if (typeof text !== "object") continue;
      for (let part = 0; part < text.parts; part++) want(`exec-text/${segment(text.textId)}/${number(part)}`, id);
      if (text.textId !== own) want(`exec-text-ref/${segment(text.textId)}/${at}`, id);
    }
    const files = [
      ...(input?.files ?? []).flatMap((file) => ("artifactId" in file ? [file.artifactId] : [])),
      ...(record.result?.files ?? []).map(({ artifactId }) => artifactId),
    ];
    for (const artifactId of files) {
      artifacts.add(artifactId);
      want(`artifact-ref/${segment(artifactId)}/${at}`, id);
    }
    if (record.result?.valueBytes !== undefined) want(`exec-value/${at}`, id);
  }
  for (const id of artifacts) {
    want(`artifact/${segment(id)}`, "it is referred to");
    const artifact = rows.get(`artifact/${segment(id)}`) as Artifact | undefined;
    for (let part = 0; part < (artifact?.chunks ?? 0); part++) want(`artifact-chunk/${segment(id)}/${number(part)}`, id);
  }
  for (const [key, value] of rows) {
    if (key.startsWith("exec-group/")) {
      const { active: counted, limit } = value as GroupRecord;
      const id = [...records.values()].find(
        ({ groupId }) => groupId !== undefined && key === `exec-group/${segment(groupId)}`,
      )?.groupId;
      const real = active.get(id ?? "") ?? 0;
      if (id === undefined) problems.push(`${key} is of nobody`);
      if (counted !== real) problems.push(`${key} counts ${counted} of ${real}`);
      if (limit !== undefined && real > limit) problems.push(`${key} has ${real} of at most ${limit} at once`);
      continue;
    }
    if (key.startsWith("exec-output/")) {
      const id = key.split("/")[1];
      if (![...records.keys()].some((known) => segment(known) === id)) problems.push(`${key} is of nobody`);
      continue;
    }
    if (key.startsWith("exec-queue/") || key.startsWith("artifact-pending/")) continue;
    if (!wanted.has(key)) problems.push(`${key} leads nowhere`);
  }
  return { records, problems };
}
