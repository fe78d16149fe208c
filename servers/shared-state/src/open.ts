/** The domain of this server at work in one process: what its tools are given. */
import { LeaseKeeper, Maintenance } from "@mcp-swarm/coordination";
import type { Domain, Host } from "@mcp-swarm/server";
import { Leaders } from "./leaders.ts";
import { Locks } from "./locks.ts";

export interface StateServer extends Domain {
  readonly locks: Locks;
  readonly leaders: Leaders;
}

export async function openStateServer({ store, config, clock, random, log }: Host): Promise<StateServer> {
  const keeper = new LeaseKeeper({
    store,
    clock,
    leaseMs: config.leaseMs,
    onError: (error, kind) => log.warn({ err: error, kind }, "Leases were not renewed"),
  });
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  const locks = new Locks({ clock, keeper, leaseMs: config.leaseMs });
  const leaders = new Leaders({ clock, keeper, leaseMs: config.leaseMs });
  maintenance.add(locks.tidyJob(store));
  maintenance.add(leaders.job(store));
  maintenance.start();
  return {
    locks,
    leaders,
    async close() {
      await maintenance.stop();
      await keeper.releaseAll();
    },
  };
}
