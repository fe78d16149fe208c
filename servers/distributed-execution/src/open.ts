/** The domain of this server at work in one process: what its tools are given, and what its workers work with. */
import { expiredRowsJob, LeaseKeeper, Maintenance, SequenceSource } from "@mcp-swarm/coordination";
import { newId } from "@mcp-swarm/core";
import type { Config, Domain, Host } from "@mcp-swarm/server";
import { Artifacts } from "./artifacts.ts";
import { Batches } from "./batches.ts";
import { Environments } from "./environments.ts";
import { executionJobs } from "./execution-jobs.ts";
import type { ExecutionContext } from "./execution-layer.ts";
import { ExecutionWork } from "./execution-work.ts";
import { Executions } from "./executions.ts";
import { mcpConfigOf } from "./mcp/mcp-config.ts";
import { NO_OPERATOR_FILE, type OperatorFile, readOperatorFile } from "./operator-file.ts";
import { endSession } from "./session-ending.ts";
import { Sessions } from "./sessions.ts";
import { WorkerPool } from "./worker/worker-pool.ts";
import type { WorkerDescription, WorkerRow } from "./worker/worker-row.ts";
import type { WorkerSettings, Workplace } from "./worker/workplace.ts";

export interface DistributedExecution extends Domain {
  readonly environments: Environments;
  readonly executions: Executions;
  readonly artifacts: Artifacts;
  readonly batches: Batches;
  readonly sessions: Sessions;
  /**
   * Every worker that lives, this process's own first, with all environments tried on it, or these alone; what takes longer than `waitMs` to try is
   * missing, and is there when it is asked for again.
   */
  workers(waitMs: number, only?: readonly string[]): Promise<WorkerRow[]>;
  /** The same as far as it is known without trying anything. */
  knownWorkers(): Promise<WorkerRow[]>;
}

/** What the operator of this machine says. @throws SwarmError invalid_argument naming each mistake in the file */
export function operatorOf({ execConfigFile }: Pick<Config, "execConfigFile">): OperatorFile {
  return execConfigFile === undefined ? NO_OPERATOR_FILE : readOperatorFile(execConfigFile);
}

export async function openDistributedExecution(host: Host): Promise<DistributedExecution> {
  const ground = openGround(host);
  const { environments, executions, artifacts, batches, sessions, work, operator, workerId, onError } = ground;
  const { store, clock, config } = host;
  const { environments: only, labels = [] } = operator.worker;
  const settings: WorkerSettings = {
    ...{ kind: "server", labels, slots: config.execSlots },
    ...(only === undefined ? {} : { environments: only }),
  };
  const load = settings.slots === 0 ? undefined : () => openWorkplace(host, ground, settings);
  const pool = new WorkerPool({ store, clock, source: work, workerId, load, onError });
  ground.maintenance.start();
  pool.start();
  // what policy lets this process run may be other than before
  const watch = host.security?.guard.onChange(() => pool.standingChanged());
  return {
    ...{ environments, executions, artifacts, batches, sessions },
    workers: (waitMs, only) => pool.workers(waitMs, only),
    knownWorkers: () => pool.known(),
    async close() {
      watch?.[Symbol.dispose]();
      await Promise.all([pool.close(), ground.maintenance.stop()]);
      await ground.keeper.releaseAll();
    },
  };
}

/** A process that does nothing but work. */
export interface OpenedWorker extends Domain {
  describe(): WorkerDescription;
  /** Settles when every environment was tried; it works from the start with those that are known. */
  readonly tried: Promise<void>;
  /** What policy lets it run may be other than before. */
  standingChanged(): void;
}

/** Takes runs from now on, and tries every environment there is meanwhile. */
export async function openWorker(host: Host, settings: WorkerSettings): Promise<OpenedWorker> {
  const ground = openGround(host);
  const place = await openWorkplace(host, ground, settings);
  ground.maintenance.start();
  await place.start();
  const tried = place.lookAtAll();
  tried.catch((error: unknown) =>
    ground.onError(error, "Not every environment could be tried; tasks that wait for one bring another try"),
  );
  return {
    tried,
    describe: () => place.describe(),
    standingChanged: () => place.standingChanged(),
    async close() {
      await Promise.all([place.stop(), ground.maintenance.stop()]);
      await ground.keeper.releaseAll();
    },
  };
}

type Ground = ReturnType<typeof openGround>;

function openGround({ store, config, clock, random, log }: Host) {
  const operator = operatorOf(config);
  const environments = new Environments({ clock, operator });
  const context: ExecutionContext = { environments, endSession, mcp: mcpConfigOf(operator) };
  const sequence = new SequenceSource(random);
  const onError = (error: unknown, message: string) => log.warn({ err: error }, message);
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
  const sessions = new Sessions({ store, context, random });
  const own = executionJobs({ store, context, retentionDays: config.retentionDays });
  for (const job of [...own, ...sessions.jobs(), expiredRowsJob(store)]) maintenance.add(job);
  return {
    ...{ operator, environments, sessions, keeper, maintenance, onError, workerId: newId("worker", random) },
    executions: new Executions({ store, context, clock, random, sequence }),
    artifacts: new Artifacts(store),
    batches: new Batches({ clock, random, context, sequence }),
    work: new ExecutionWork({ store, context, clock, random, keeper, leaseMs: config.leaseMs, onError }),
  };
}

/** Loaded when there is something to run. */
async function openWorkplace(host: Host, ground: Ground, settings: WorkerSettings): Promise<Workplace> {
  const { Workplace } = await import("./worker/workplace.ts");
  const { workerId, environments, operator, keeper, work, sessions, onError } = ground;
  return new Workplace({
    ...{ workerId, settings, environments, operator, onError, source: work, leases: keeper },
    ...{ store: host.store, clock: host.clock, leaseMs: host.config.leaseMs },
    letGo: (tx, sessionId, worker) => sessions.letGo(tx, sessionId, worker),
    mayRun: (environment) => mayRun(host, environment),
  });
}

/** In a secured swarm a worker runs what policy lets its own agent run; in an open one nobody is asked. */
function mayRun({ security, processId }: Host, environment: string): boolean {
  if (!security) return true;
  const { trust, guard } = security;
  if (!trust.self) return false; // a process without an agent of its own runs nothing for others
  const worker = { agentId: trust.self.agentId, verified: true, processId };
  return guard.stillAdmits(worker, { operation: "execution:run", resource: `environment/${environment}` });
}
