/** Forgetting agents that have long been gone: in the background of every server, and by the `sweep` command. */
import { type MaintenanceJob, passJob } from "@mcp-swarm/coordination";
import { findLiveAgent } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { AGENTS_PREFIX, type AgentRecord, configurationKey } from "./agent-record.ts";
import { dropSubscriptions } from "./topic-layer.ts";

const DAY_MS = 24 * 3_600_000;
const PASS_EVERY_MS = 600_000;
/** Records that one batch looks at. */
const BATCH_MAX = 50;

interface Swept {
  removed: number;
  /** Where to go on; absent at the end. */
  after?: string;
}

/**
 * One batch: agents that do not live and were not heard of for `olderThanMs` are forgotten, with their configuration and
 * subscriptions; of those that live it is noted, once a day.
 */
export async function forgetAgents(store: Store, olderThanMs: number, after?: string): Promise<Swept> {
  const entries = await store.scan(prefixRange(AGENTS_PREFIX, BATCH_MAX, after === undefined ? {} : { after }));
  const now = await store.now();
  let removed = 0;
  for (const { key, value, rev } of entries) {
    const record = value as AgentRecord;
    const silentMs = now - Math.max(record.updatedAt, record.lastSeenAt ?? 0);
    if (silentMs < Math.min(olderThanMs, DAY_MS)) continue;
    const lives = (await findLiveAgent(store, record.id)) !== undefined;
    if (!lives && silentMs < olderThanMs) continue;
    removed += await store.transact((tx) => {
      if (tx.get(key)?.rev !== rev) return 0; // it said something just now
      if (lives) {
        tx.put(key, { ...record, lastSeenAt: tx.now });
        return 0;
      }
      tx.delete(key);
      tx.delete(configurationKey(record.id));
      dropSubscriptions(tx, record.id);
      return 1;
    });
  }
  const last = entries.length === BATCH_MAX ? entries.at(-1)?.key : undefined;
  return last === undefined ? { removed } : { removed, after: last };
}

export function forgetAgentsJob(store: Store, retentionDays: number): MaintenanceJob {
  return passJob("forget old agents", store, PASS_EVERY_MS, async (after) => {
    return (await forgetAgents(store, retentionDays * DAY_MS, after)).after;
  });
}

/** What the `sweep` command runs. */
export function agentSweeper({ retentionDays }: { retentionDays: number }) {
  return {
    name: "agents",
    async sweep(store: Store): Promise<number> {
      let total = 0;
      let after: string | undefined;
      do {
        const swept = await forgetAgents(store, retentionDays * DAY_MS, after);
        total += swept.removed;
        after = swept.after;
      } while (after !== undefined);
      return total;
    },
  };
}
