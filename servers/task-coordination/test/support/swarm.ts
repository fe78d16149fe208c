import { LeaseKeeper } from "@mcp-swarm/coordination";
import { type ManualClock, manualClock, seededRandom } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { type TaskCoordination, type TaskCoordinationOptions, taskCoordination } from "../../src/task-coordination.ts";

export const LEASE_MS = 15_000;

type HostOptions = Partial<Omit<TaskCoordinationOptions, "clock" | "store" | "keeper" | "random">>;

/** One process that works on tasks, as one agent. */
export interface Host extends TaskCoordination {
  readonly agentId: string;
  readonly keeper: LeaseKeeper;
  readonly call: Call;
  /** Runs the background jobs once. */
  maintain(): Promise<void>;
}

export interface Swarm {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  /** @param remote a caller over HTTP: nothing renews for it */
  host(agentId: string, options?: HostOptions & { remote?: boolean }): Host;
}

/** Several processes over one store in memory, with time that moves only when told. */
export function swarm(): Swarm {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let hosts = 0;
  return {
    store,
    clock,
    host: (agentId, { remote = false, ...options } = {}) => hostOn(store, agentId, { clock, seed: ++hosts, remote, ...options }),
  };
}

export function hostOn(
  store: Store,
  agentId: string,
  { clock, seed, remote, ...options }: HostOptions & { clock: ManualClock; seed: number; remote: boolean },
): Host {
  const keeper = new LeaseKeeper({
    store,
    clock,
    leaseMs: LEASE_MS,
    onError: (error) => {
      throw error;
    },
  });
  const coordination = taskCoordination({ store, clock, random: seededRandom(seed), keeper, leaseMs: LEASE_MS, ...options });
  const caller = { agentId, verified: false, processId: remote ? undefined : `process-${seed}` };
  return {
    ...coordination,
    agentId,
    keeper,
    call: plainCall(store, caller),
    async maintain() {
      for (const job of coordination.jobs) await job.run();
    },
  };
}
