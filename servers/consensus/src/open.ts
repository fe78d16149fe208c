/** The domain of this server at work in one process: what its tools are given. */
import { expiredRowsJob, Maintenance } from "@mcp-swarm/coordination";
import type { Domain, Host } from "@mcp-swarm/server";

export interface ConsensusServer extends Domain {}

export async function openConsensusServer({ store, clock, random, log }: Host): Promise<ConsensusServer> {
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  maintenance.add(expiredRowsJob(store));
  maintenance.start();
  return {
    async close() {
      await maintenance.stop();
    },
  };
}
