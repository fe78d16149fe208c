import { type ManualClock, manualClock } from "@mcp-swarm/core";
import { Presence } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { LEASE_MS } from "./swarm.ts";

export interface Living {
  readonly presence: Presence;
  /** It ends without a word: nothing is renewed any more. */
  kill(): void;
}

/** An agent that is there, until it leaves or is killed. */
export async function living(
  store: Store,
  clock: ManualClock,
  agentId: string,
  capabilities: readonly string[] = [],
): Promise<Living> {
  let killed = false;
  const stopped = manualClock(); // never moves
  const presence = new Presence({
    store,
    clock: {
      now: () => clock.now(),
      timer: (delayMs, fire) =>
        killed
          ? stopped.timer(delayMs, fire)
          : clock.timer(delayMs, () => {
              if (!killed) fire();
            }),
    },
    processId: `process-of-${agentId.replace("/", "-")}`,
    leaseMs: LEASE_MS,
    onError: (error) => {
      throw error;
    },
  });
  await presence.announce({ agentId, processId: `process-of-${agentId}` }, { capabilities });
  return {
    presence,
    kill() {
      killed = true;
    },
  };
}
