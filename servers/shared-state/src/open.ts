/** The domain of this server at work in one process: what its tools are given. */
import { LeaseKeeper, Maintenance } from "@mcp-swarm/coordination";
import type { Domain, Host } from "@mcp-swarm/server";

export interface StateServer extends Domain {}

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
  maintenance.start();
  return {
    async close() {
      await maintenance.stop();
      await keeper.releaseAll();
    },
  };
}
