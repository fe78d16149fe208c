/** The domain of this server at work in one process: what its tools are given. */
import { LeaseKeeper, Maintenance } from "@mcp-swarm/coordination";
import type { Caller } from "@mcp-swarm/identity";
import type { Domain, Host } from "@mcp-swarm/server";
import type { Claims } from "./claims.ts";
import type { Assignments } from "./task-assigning.ts";
import { taskCoordination } from "./task-coordination.ts";
import type { Tasks } from "./tasks.ts";
import type { WorkerSlots } from "./worker-slots.ts";
import type { WorkflowTemplates } from "./workflow-template.ts";
import type { Workflows } from "./workflows.ts";

export interface TaskServer extends Domain {
  readonly tasks: Tasks;
  readonly claims: Claims;
  readonly slots: WorkerSlots;
  readonly assignments: Assignments;
  readonly workflows: Workflows;
  readonly templates: WorkflowTemplates;
  /** Tells the swarm what an agent can do, for those who assign tasks. */
  announce(caller: Caller, capabilities: readonly string[]): Promise<void>;
}

export async function openTaskServer({ store, presence, config, clock, random, log }: Host): Promise<TaskServer> {
  const keeper = new LeaseKeeper({
    store,
    clock,
    leaseMs: config.leaseMs,
    onError: (error, kind) => log.warn({ err: error, kind }, "Leases were not renewed"),
  });
  const coordination = taskCoordination({
    store,
    clock,
    random,
    keeper,
    leaseMs: config.leaseMs,
    workerSlots: config.workerSlots,
    retentionDays: config.retentionDays,
  });
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  for (const job of coordination.jobs) maintenance.add(job);
  maintenance.start();
  return {
    ...coordination,
    announce: (caller, capabilities) => presence.announce(caller, { capabilities }),
    async close() {
      await maintenance.stop();
      await keeper.releaseAll();
    },
  };
}
