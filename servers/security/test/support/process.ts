/** The domain of this server in processes of a secured swarm in memory, whose clock the test moves. */
import { seededRandom } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import { defaultPolicies } from "@mcp-swarm/identity/policy";
import { GuardedSwarm } from "../../../../shared/identity/test/support/guarded-swarm.ts";
import { openSecured, type Secured } from "../../src/secured.ts";

export interface SecurityProcess {
  readonly secured: Secured;
  readonly call: Call;
  /** Reads the bundle now. */
  refresh(): Promise<void>;
}

/** A swarm whose members have these roles. */
export async function swarmOf(members: Record<string, readonly string[]>): Promise<GuardedSwarm> {
  const swarm = new GuardedSwarm();
  const all = Object.entries(members).map(([agentId, roles]) => swarm.member(agentId, roles));
  await swarm.publish({ members: Object.assign({}, ...all), policies: defaultPolicies() });
  return swarm;
}

let seed = 0;

export async function processOf(swarm: GuardedSwarm, agentId: string, publicUrl?: string): Promise<SecurityProcess> {
  const { guard, trust, caller } = await swarm.process(agentId);
  const { store, clock } = swarm;
  seed += 1;
  const surroundings = { store, clock, random: seededRandom(seed), config: { keyFile: undefined, publicUrl } };
  const secured = openSecured(surroundings, { guard, trust, checkpointCopies: "nowhere" });
  return { secured, call: plainCall(store, caller), refresh: () => trust.refresh() };
}
