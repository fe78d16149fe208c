/**
 * Batches as ordered keys. What is known of a batch's members stands in their own records; how many of them are active stands with
 * their group, in execution-layer.ts. So a batch's own row is written once; it goes with the last of its members.
 *
 * | key | value | why |
 * |---|---|---|
 * | `exec-batch/<id>` | BatchRecord | what was handed over together, and under which keys |
 */
import { SwarmError } from "@mcp-swarm/core";
import { segment, type Transaction } from "@mcp-swarm/store";

export type BatchRecord = {
  readonly id: string;
  readonly agentId: string;
  readonly name?: string;
  readonly createdAt: number;
  readonly maxConcurrency?: number;
  readonly stopOnFailure?: true;
  /** In the order they were given: the key within the batch, and the id of the execution. */
  readonly members: readonly (readonly [key: string, executionId: string])[];
};

export const batchKey = (id: string): string => `exec-batch/${segment(id)}`;

export function addBatch(tx: Transaction, batch: BatchRecord): void {
  tx.put(batchKey(batch.id), batch);
}

export function readBatch(tx: Pick<Transaction, "get">, id: string): BatchRecord | undefined {
  return tx.get(batchKey(id))?.value as BatchRecord | undefined;
}

export function removeBatch(tx: Transaction, batch: Pick<BatchRecord, "id">): void {
  tx.delete(batchKey(batch.id));
}

export function noSuchBatch(id: string): SwarmError {
  return new SwarmError("not_found", `There is no batch ${id}.`, {
    hint: "submit_batch answers the id; a batch is forgotten together with the last of its tasks.",
  });
}
