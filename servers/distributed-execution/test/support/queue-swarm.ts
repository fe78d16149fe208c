/** Processes that hand over, claim and end executions on one store, by the real queue; what runs a claimed one is the test itself. */
import { LeaseKeeper, type MaintenanceJob, SequenceSource } from "@mcp-swarm/coordination";
import { type Clock, type ManualClock, manualClock, seededRandom } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { Environments } from "../../src/environments.ts";
import type { NewExecution } from "../../src/execution-adding.ts";
import { executionJobs } from "../../src/execution-jobs.ts";
import type { ExecutionContext } from "../../src/execution-layer.ts";
import { ExecutionWork } from "../../src/execution-work.ts";
import { Executions } from "../../src/executions.ts";
import { endSession } from "../../src/session-ending.ts";
import { Sessions } from "../../src/sessions.ts";
import type { ClaimedRun, Finished, WorkerProfile } from "../../src/worker/work-source.ts";

export const LEASE_MS = 9_000;
const NEVER = new AbortController().signal;

export const OFFERED = ["javascript", "typescript", "python", "bash", "node", "python3"];

/** One process on a store. */
export function hostOn(store: Store, name: string, { clock: time, seed = 1 }: { clock: Clock; seed?: number }) {
  const random = seededRandom(seed);
  let dead = false;
  const clock: Clock = {
    now: () => time.now(),
    timer: (delayMs, fire) =>
      time.timer(delayMs, () => {
        if (!dead) fire();
      }),
  };
  const errors: unknown[] = [];
  const context: ExecutionContext = { environments: new Environments({ clock }), endSession };
  const sequence = new SequenceSource(random);
  const keeper = new LeaseKeeper({ store, clock, leaseMs: LEASE_MS, onError: (error) => errors.push(error) });
  const work = new ExecutionWork({
    ...{ store, context, clock, random, keeper, leaseMs: LEASE_MS },
    onError: (error) => errors.push(error),
  });
  const executions = new Executions({ store, context, clock, random, sequence });
  const call: Call = plainCall(store, { agentId: name, verified: false, processId: name });
  const jobs = executionJobs({ store, context, retentionDays: 1 });
  const profile = (part: Partial<WorkerProfile> = {}): WorkerProfile => ({
    workerId: name,
    arch: "x64",
    labels: [],
    environments: OFFERED.map((environment) => ({ name: environment, version: 1 })),
    sessions: [],
    takesSessions: true,
    ...part,
  });
  return {
    name,
    /** From now on nothing happens by itself in this process: it renews nothing. */
    die() {
      dead = true;
    },
    store,
    context,
    executions,
    work,
    keeper,
    call,
    jobs,
    errors,
    profile,
    sessions: new Sessions({ store, context, random }),
    submit: async (part: Partial<NewExecution> = {}) =>
      (await executions.submit(call, { code: "1", environment: "javascript", ...part })).task,
    take: (part: Partial<WorkerProfile> = {}) => work.next(profile(part), { waitMs: 0, signal: NEVER }),
    finish: (run: ClaimedRun, part: Partial<Finished> = {}, next?: WorkerProfile) => work.finish(run, outcome(part), next),
  };
}
export type QueueHost = ReturnType<typeof hostOn>;

export function outcome(part: Partial<Finished> = {}): Finished {
  return {
    ending: { kind: "exit", code: 0 },
    usage: { wallMs: 3, cpuMs: 2, peakMemoryMiB: 20 },
    files: [],
    cut: {},
    stdout: new Uint8Array(),
    stderr: new Uint8Array(),
    ...part,
  };
}

/** Every job once, until none has more to do now. */
export async function maintain(jobs: readonly MaintenanceJob[]): Promise<void> {
  for (const job of jobs) {
    let rounds = 0;
    while ((await job.run()) === 0) {
      rounds++;
      if (rounds > 1_000) throw new Error(`The job "${job.name}" does not come to an end.`);
    }
  }
}

export function queueSwarm(): { clock: ManualClock; store: MemoryStore; host: (name: string) => QueueHost } {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let seed = 0;
  const host = (name: string) => {
    seed += 1; // processes that drew the same ids would write over one another
    return hostOn(store, name, { clock, seed });
  };
  return { clock, store, host };
}
