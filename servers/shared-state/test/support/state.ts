/** Several processes that work on values over one store in memory, with time that moves only when told. */
import { type ManualClock, manualClock, seededRandom } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { ChangeLog, type MayRead } from "../../src/changes.ts";
import { stateJobs } from "../../src/state-retention.ts";
import { Scopes } from "../../src/state-scope.ts";
import { Values } from "../../src/values.ts";

/** How long the history of a deleted key is kept. */
export const KEEP_DELETED_MS = 100_000;

export interface Host {
  readonly agentId: string;
  readonly call: Call;
  readonly values: Values;
  readonly changes: ChangeLog;
  /** Runs the background jobs once. */
  maintain(): Promise<void>;
}

export interface Swarm {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  host(agentId: string, options?: { session?: string; remote?: boolean; mayRead?: MayRead }): Host;
}

export function swarm(): Swarm {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  return { store, clock, host: (agentId, options = {}) => hostOn(store, clock, agentId, options) };
}

export function hostOn(
  store: Store,
  clock: ManualClock,
  agentId: string,
  { session, remote = false, mayRead }: { session?: string; remote?: boolean; mayRead?: MayRead } = {},
): Host {
  const scopes = new Scopes(session);
  const values = new Values({ scopes, keepDeletedMs: KEEP_DELETED_MS });
  const jobs = stateJobs(store, values);
  return {
    agentId,
    call: plainCall(store, { agentId, verified: false, processId: remote ? undefined : `process-of-${agentId}` }),
    values,
    changes: new ChangeLog({ scopes, clock, random: seededRandom(agentId.length), mayRead }),
    async maintain() {
      for (const job of jobs) await job.run();
    },
  };
}
