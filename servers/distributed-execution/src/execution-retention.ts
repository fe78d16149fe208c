/** Forgetting what ended long ago, with all that belongs to it. */

import { systemClock } from "@mcp-swarm/core";
import { prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import type { Sweeper } from "@mcp-swarm/store/commands";
import { unrefer } from "./artifact-layer.ts";
import { readBatch, removeBatch } from "./batch-layer.ts";
import { Environments } from "./environments.ts";
import { inExecutions } from "./execution-groups.ts";
import {
  type ExecutionContext,
  type ExecutionTransaction,
  ended,
  groupKey,
  idOf,
  inputKey,
  membershipOf,
  prefixes,
  type StoredInput,
  type StoredText,
  textKey,
  textRefKey,
  textRefs,
  valueKey,
} from "./execution-layer.ts";
import { type ExecutionRecord, hasEnded } from "./execution-record.ts";
import { endSession } from "./session-ending.ts";

/** Ended executions that one transaction removes, and rows of output. */
const BATCH_MAX = 20;
const ROWS_MAX = 500;

export interface Forgotten {
  readonly removed: number;
  /** Where to go on; absent at the end of the round. */
  readonly after?: string;
}

/**
 * One batch of those that ended more than `olderThanMs` ago. Members of a batch or session stay while another of it is open: that one
 * may still take their files.
 */
export async function forgetEnded(
  store: Store,
  context: ExecutionContext,
  { olderThanMs, after }: { olderThanMs: number; after?: string | undefined },
): Promise<Forgotten> {
  const before = (await store.now()) - olderThanMs;
  const entries = await store.scan(ended.dueRange(before - 1, BATCH_MAX, after));
  const old = await store.transact((tx) =>
    inExecutions(tx, context, (executions) => {
      return entries.map(idOf).filter((id) => {
        const record = executions.find(id);
        return record !== undefined && isOld(tx, record, before);
      });
    }),
  );
  for (const id of old) await forgetOutput(store, id);
  const removed = await store.transact((tx) =>
    inExecutions(tx, context, (executions) => {
      let count = 0;
      for (const id of old) {
        const record = executions.find(id);
        if (!record || !isOld(tx, record, before)) continue;
        forget(executions, record);
        count++;
      }
      return count;
    }),
  );
  const last = entries.at(-1);
  return last && entries.length === BATCH_MAX ? { removed, after: last.key } : { removed };
}

/** What the `sweep` command runs. */
export function executionSweepers({ retentionDays }: { retentionDays: number }): readonly Sweeper[] {
  const context: ExecutionContext = { environments: new Environments({ clock: systemClock }), endSession };
  return [
    {
      name: "executions",
      async sweep(store: Store): Promise<number> {
        let total = 0;
        let after: string | undefined;
        do {
          const one = await forgetEnded(store, context, { olderThanMs: retentionDays * 24 * 3_600_000, after });
          total += one.removed;
          after = one.after;
        } while (after !== undefined);
        return total;
      },
    },
  ];
}

function isOld(tx: Transaction, record: ExecutionRecord, before: number): boolean {
  if (!hasEnded(record.status) || (record.endedAt ?? before) >= before) return false;
  const group = membershipOf(record);
  return group === undefined || tx.scan(prefixRange(prefixes.open(group), 1)).length === 0;
}

/** Output may be many rows: they go in parts, before the record does. */
async function forgetOutput(store: Store, id: string): Promise<void> {
  for (let rows = ROWS_MAX; rows === ROWS_MAX; ) {
    rows = await store.transact((tx) => {
      const found = tx.scan(prefixRange(prefixes.output(id), ROWS_MAX));
      for (const { key } of found) tx.delete(key);
      return found.length;
    });
  }
}

function forget(executions: ExecutionTransaction, record: ExecutionRecord): void {
  const { tx } = executions;
  const { id, result } = record;
  const input = tx.get(inputKey(id))?.value as StoredInput | undefined;
  if (input) {
    for (const text of [input.code, input.stdin]) forgetText(tx, text, id);
    for (const file of input.files) if ("artifactId" in file) unrefer(tx, file.artifactId, id);
    tx.delete(inputKey(id));
  }
  for (const { artifactId } of result?.files ?? []) unrefer(tx, artifactId, id);
  if (result?.valueBytes !== undefined) tx.delete(valueKey(id));
  executions.remove(record);
  const group = membershipOf(record);
  if (group === undefined || tx.scan(prefixRange(prefixes.members(group), 1)).length > 0) return;
  tx.delete(groupKey(group));
  const batch = record.batchId === undefined ? undefined : readBatch(tx, record.batchId);
  if (batch) removeBatch(tx, batch);
}

/** One that several share goes with the last of them. */
function forgetText(tx: Transaction, text: StoredText, id: string): void {
  if (typeof text === "string") return;
  tx.delete(textRefKey(text.textId, id));
  if (tx.scan(prefixRange(textRefs(text.textId), 1)).length > 0) return;
  for (let at = 0; at < text.parts; at++) tx.delete(textKey(text.textId, at));
}
