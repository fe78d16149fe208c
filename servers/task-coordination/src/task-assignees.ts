/** An assignment holds while its agent lives: then the task is for that agent alone, and afterwards for anyone. */

import type { MaintenanceJob } from "@mcp-swarm/coordination";
import { indexEntry, type StoredTask } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { findLiveAgent, type LiveAgent, liveAgentIn } from "@mcp-swarm/identity";
import { prefixRange, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";
import { type Assignee, assigneeKey, inTasks, prefixes, type TaskContext, type TaskTransaction } from "./task-layer.ts";
import { SWARM } from "./task-lifecycle.ts";
import { isFor } from "./task-queue.ts";

/** Most tasks of a dead agent that one commit frees. */
export const FREED_MAX = 200;

/** The agent and, for a subagent, the one in whose process it lives. */
function namesOf(agentId: string): string[] {
  const [parent = agentId] = agentId.split("/");
  return parent === agentId ? [agentId] : [agentId, parent];
}

function lives(tx: Pick<Transaction, "scan">, agentId: string): boolean {
  return namesOf(agentId).some((name) => liveAgentIn(tx, name) !== undefined);
}

/** The agent when it lives, or the one in whose process it does; outside a transaction. */
export async function findAssignee(store: Pick<Store, "scan">, agentId: string): Promise<LiveAgent | undefined> {
  const found = await Promise.all(namesOf(agentId).map((name) => findLiveAgent(store, name)));
  return found.find((agent) => agent !== undefined);
}

function unassign(tasks: TaskTransaction, task: StoredTask): StoredTask {
  return tasks.change(task, { assignedTo: undefined }, { event: "assigned", by: SWARM, note: "Free again: its agent is gone." });
}

/**
 * The task as this agent may claim it: one that is assigned to a dead agent is assigned to nobody any more.
 * @throws SwarmError failed_precondition naming the living agent that it is assigned to
 */
export function freeFor(tasks: TaskTransaction, task: StoredTask, agentId: string): StoredTask {
  const { assignedTo } = task;
  if (assignedTo === undefined || isFor(agentId, assignedTo)) return task;
  if (!lives(tasks.tx, assignedTo)) return unassign(tasks, task);
  throw new SwarmError("failed_precondition", `Task ${task.id} is assigned to ${assignedTo}, which is alive.`, {
    hint: "Take another task with claim_next_task, or assign this one anew with assign_tasks and reassign.",
  });
}

/** Frees what is assigned to an agent that is dead, one commit's worth; answers whether that was all, or it lives. */
async function freeAssigned(store: Pick<Store, "transact">, context: TaskContext, agentId: string): Promise<boolean> {
  const range = prefixRange(prefixes.assigned(agentId), FREED_MAX);
  return store.transact(
    (tx) =>
      inTasks(tx, context, (tasks) => {
        if (lives(tx, agentId)) return true;
        const entries = tx.scan(range);
        for (const entry of entries) unassign(tasks, tasks.get(indexEntry(entry).id));
        if (entries.length === FREED_MAX) return false;
        tx.delete(assigneeKey(agentId));
        return true;
      }),
    { prefetch: { ranges: [range] } },
  );
}

/**
 * For `Maintenance`: within a second of an agent's presence ending, what is assigned to it is free. An agent is looked at when its
 * presence would end if nobody renewed it, so that the living cost a look for each lease.
 */
export function assigneesJob(store: Pick<Store, "scan" | "now" | "transact">, context: TaskContext): MaintenanceJob {
  let livesUntil = new Map<string, number>();
  return {
    name: "free the tasks of dead assignees",
    async run() {
      const rows = await store.scan(prefixRange(prefixes.assignees, SCAN_LIMIT_MAX));
      if (rows.length === 0) return Number.POSITIVE_INFINITY;
      const now = await store.now();
      const seen = new Map<string, number>();
      let nextMs = Number.POSITIVE_INFINITY;
      for (const { value } of rows) {
        const { agentId } = value as Assignee;
        let until = livesUntil.get(agentId) ?? 0;
        if (until <= now) until = (await findAssignee(store, agentId))?.leaseExpiresAt ?? 0;
        const all = until > now || (await freeAssigned(store, context, agentId));
        seen.set(agentId, until);
        if (!all) nextMs = 0;
        else if (until > now) nextMs = Math.min(nextMs, until - now);
      }
      livesUntil = seen;
      return nextMs;
    },
  };
}
