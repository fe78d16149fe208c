/** The domain of this server at work in one process: what its tools are given. */
import { expiredRowsJob, LeaseKeeper, Maintenance, SequenceSource } from "@mcp-swarm/coordination";
import type { Domain, Host } from "@mcp-swarm/server";
import { Artifacts } from "./artifacts.ts";
import { Batches } from "./batches.ts";
import { Environments } from "./environments.ts";
import type { ExecutionContext } from "./execution-layer.ts";
import { Executions } from "./executions.ts";
import { NO_OPERATOR_FILE, type OperatorFile, readOperatorFile } from "./operator-file.ts";
import { endSession } from "./session-ending.ts";
import { Sessions } from "./sessions.ts";
import { liveWorkers, type WorkerRow } from "./worker/worker-row.ts";

export interface DistributedExecution extends Domain {
  readonly environments: Environments;
  readonly executions: Executions;
  readonly artifacts: Artifacts;
  readonly sessions: Sessions;
  readonly batches: Batches;
  /**
   * Every worker that lives, this process's own first, with all environments tried on it; what takes longer than `waitMs` to try is
   * missing, and is there when it is asked for again.
   */
  workers(waitMs: number): Promise<WorkerRow[]>;
}

export async function openDistributedExecution(host: Host): Promise<DistributedExecution> {
  const { store, config, clock, random, log } = host;
  const operator: OperatorFile = config.execConfigFile === undefined ? NO_OPERATOR_FILE : readOperatorFile(config.execConfigFile);
  const environments = new Environments({ clock, operator });
  const context: ExecutionContext = { environments, endSession };
  const sequence = new SequenceSource(random);
  const executions = new Executions({ store, context, clock, random, sequence });
  const batches = new Batches({ clock, random, context, sequence });
  const sessions = new Sessions({ store, context, random });
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
  for (const job of [...sessions.jobs(), expiredRowsJob(store)]) maintenance.add(job);
  maintenance.start();
  return {
    ...{ environments, executions, batches, sessions, artifacts: new Artifacts(store) },
    workers: () => liveWorkers(store),
    async close() {
      await maintenance.stop();
      await keeper.releaseAll();
    },
  };
}
