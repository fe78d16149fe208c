/** The task domain of one process, put together. */
import { type LeaseKeeper, type MaintenanceJob, SequenceSource } from "@mcp-swarm/coordination";
import { type Clock, LEASE_MS_DEFAULT, type Random } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { Claims } from "./claims.ts";
import { TALLY_SHARDS } from "./tally.ts";
import { assigneesJob } from "./task-assignees.ts";
import { Assignments } from "./task-assigning.ts";
import { taskJobs } from "./task-jobs.ts";
import type { TaskContext } from "./task-layer.ts";
import { Tasks } from "./tasks.ts";
import { WORKER_SLOTS_DEFAULT, WorkerSlots } from "./worker-slots.ts";
import { workflowRules } from "./workflow-layer.ts";
import { workflowJob } from "./workflow-moving.ts";
import { WorkflowTemplates } from "./workflow-template.ts";
import { Workflows } from "./workflows.ts";

/** Lease of a caller without a process (over HTTP), which renews by itself; for tasks without timeoutMs. */
export const REMOTE_LEASE_MS_DEFAULT = 300_000;

export interface TaskCoordinationOptions {
  store: Store;
  clock: Clock;
  random: Random;
  /** Renews what this process holds. */
  keeper: LeaseKeeper;
  /** `SWARM_LEASE_MS`; the keeper's. */
  leaseMs?: number | undefined;
  remoteLeaseMs?: number | undefined;
  /** `SWARM_WORKER_SLOTS`. */
  workerSlots?: number | undefined;
  /** `SWARM_RETENTION_DAYS`. */
  retentionDays?: number | undefined;
}

export interface TaskCoordination {
  readonly tasks: Tasks;
  readonly claims: Claims;
  readonly slots: WorkerSlots;
  readonly assignments: Assignments;
  readonly workflows: Workflows;
  readonly templates: WorkflowTemplates;
  /** For what else works on tasks within a transaction. */
  readonly context: TaskContext;
  readonly sequence: SequenceSource;
  /** For `Maintenance`. */
  readonly jobs: readonly MaintenanceJob[];
}

/** Once for each process. */
export function taskCoordination(options: TaskCoordinationOptions): TaskCoordination {
  const { store, clock, random, keeper } = options;
  const leaseMs = options.leaseMs ?? LEASE_MS_DEFAULT;
  const remoteLeaseMs = options.remoteLeaseMs ?? REMOTE_LEASE_MS_DEFAULT;
  const context: TaskContext = { shard: random.integer(TALLY_SHARDS), workflows: workflowRules };
  const sequence = new SequenceSource(random);
  const tasks = new Tasks({ context, sequence, random });
  const slots = new WorkerSlots({ slots: options.workerSlots ?? WORKER_SLOTS_DEFAULT, leaseMs, remoteLeaseMs, keeper });
  const claims = new Claims({ context, clock, keeper, slots, leaseMs, remoteLeaseMs });
  const workflows = new Workflows({ context, sequence, random });
  const assignments = new Assignments(context);
  const jobs = [
    ...taskJobs({ store, context, tasks, retentionDays: options.retentionDays }),
    workflowJob(store, context),
    assigneesJob(store, context),
  ];
  const templates = new WorkflowTemplates({ random });
  return { tasks, claims, slots, assignments, workflows, templates, context, sequence, jobs };
}
