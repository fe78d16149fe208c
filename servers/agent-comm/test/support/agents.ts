/** Processes of agents over one store, with a presence each and time that moves only when told. */
import { type ManualClock, manualClock } from "@mcp-swarm/core";
import { type Call, type Caller, Presence, plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { Agents } from "../../src/agents.ts";

export const LEASE_MS = 15_000;

/** One server process that speaks as one agent. */
export interface AgentProcess {
  readonly agents: Agents;
  readonly presence: Presence;
  readonly call: Call;
  readonly caller: Caller;
  /** As a kill does: nothing is given back, and nothing renews. */
  die(): void;
}

export interface AgentSwarm {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  /** @param remote a caller over HTTP: nothing renews for it */
  agent(agentId: string, options?: { remote?: boolean; sessionId?: string }): Promise<AgentProcess>;
}

export function agentSwarm(): AgentSwarm {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let processes = 0;
  return {
    store,
    clock,
    agent: (agentId, options) => agentOn(store, clock, agentId, { ...options, process: ++processes }),
  };
}

export async function agentOn(
  store: Store,
  clock: ManualClock,
  agentId: string,
  { remote = false, sessionId, process }: { remote?: boolean; sessionId?: string; process: number },
): Promise<AgentProcess> {
  let dead = false;
  const timed: typeof clock = {
    ...clock,
    timer: (delayMs, fire) => clock.timer(delayMs, () => (dead ? undefined : fire())),
  };
  const processId = `process-${process}`;
  const presence = new Presence({
    store,
    clock: timed,
    processId,
    leaseMs: LEASE_MS,
    onError: (error) => {
      throw error;
    },
  });
  const caller: Caller = { agentId, verified: false, processId: remote ? undefined : processId };
  await presence.announce(caller);
  return {
    agents: new Agents({
      presence,
      session: sessionId === undefined ? undefined : { name: sessionId, isKey: (text) => text === `key of ${sessionId}` },
    }),
    presence,
    caller,
    call: plainCall(store, caller),
    die() {
      dead = true;
    },
  };
}
