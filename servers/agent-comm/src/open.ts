/** The domain of this server at work in one process: what its tools are given. */
import { LeaseKeeper, Maintenance } from "@mcp-swarm/coordination";
import type { Domain, Host } from "@mcp-swarm/server";

export interface CommServer extends Domain {}

export async function openCommServer({ store, config, clock, random, log }: Host): Promise<CommServer> {
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
