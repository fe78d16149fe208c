/** Forgetting workflows that ended long ago. Their tasks stay until then, so that a result is whole or gone. */
import { indexEntry, type StoredWorkflow, workflowKey } from "@mcp-swarm/coordination/tasks";
import { prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";
import { TALLY_SHARDS, tallyKey, workflowScope } from "./tally.ts";
import { prefixes } from "./task-layer.ts";
import { findMoving, findWorkflow, workflowPrefixes } from "./workflow-layer.ts";
import { hasWorkflowEnded } from "./workflow-record.ts";

/** Whether a workflow is over since before `before`, ms by the store's clock; one that is not there is. */
export function isPast(tx: Transaction, workflowId: string, before: number): boolean {
  const workflow = findWorkflow(tx, workflowId);
  return !workflow || (hasWorkflowEnded(workflow) && workflow.endedAt !== undefined && workflow.endedAt < before);
}

/**
 * Deletes those of the next `limit` workflows that ended more than `olderThanMs` ago and have no tasks left; answers how many.
 * @param after where to go on, as answered
 */
export async function sweepWorkflows(
  store: Store,
  { olderThanMs, limit, after }: { olderThanMs: number; limit: number; after?: string | undefined },
): Promise<{ removed: number; after?: string }> {
  const before = (await store.now()) - olderThanMs;
  const range = prefixRange(workflowPrefixes.all, limit, after === undefined ? {} : { after });
  const entries = await store.scan(range);
  const removed = await store.transact((tx) => {
    let count = 0;
    for (const { id } of entries.map(indexEntry)) {
      const workflow = findWorkflow(tx, id);
      if (!workflow || !isPast(tx, id, before) || findMoving(tx, id)) continue;
      if (tx.scan(prefixRange(prefixes.workflow(id), 1)).length > 0) continue;
      remove(tx, workflow);
      count++;
    }
    return count;
  });
  const last = entries.at(-1);
  return last && entries.length === limit ? { removed, after: last.key } : { removed };
}

function remove(tx: Transaction, { id, state, seq }: StoredWorkflow): void {
  const place = `${seq}/${segment(id)}`;
  tx.delete(workflowKey(id));
  tx.delete(`${workflowPrefixes.all}${place}`);
  tx.delete(`${workflowPrefixes.inState(state)}${place}`);
  for (let shard = 0; shard < TALLY_SHARDS; shard++) tx.delete(tallyKey(workflowScope(id), shard));
}
