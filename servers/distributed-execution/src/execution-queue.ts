/** Queues of executions: which one an execution waits in, which ones a worker may take from, and which there are. */
import { QueueDirectory, queueNameOf, rankAt } from "@mcp-swarm/coordination";
import { type ExecutionRecord, PRIORITY_MAX, type Requires } from "./execution-record.ts";
import type { WorkerProfile } from "./worker/work-source.ts";

/** Most queues that new tasks may make: combinations of environment, its version, architecture and labels. */
export const QUEUES_MAX = 500;

/** What all executions of one queue have in common. */
export type ExecutionQueue = {
  readonly environment: string;
  readonly version: number;
  readonly requires: Requires;
  /** First tasks of sessions: a worker takes one only when it has room for another session's sandbox. */
  readonly opensSession?: true;
  /** Later tasks of sessions that this worker holds. */
  readonly workerId?: string;
};

type Queued = Pick<ExecutionRecord, "environment" | "environmentVersion" | "requires" | "sessionId" | "boundTo">;

export function queueOf({ environment, environmentVersion: version, requires, sessionId, boundTo }: Queued): ExecutionQueue {
  if (boundTo !== undefined) return { environment, version, requires: {}, workerId: boundTo };
  return { environment, version, requires, ...(sessionId === undefined ? {} : { opensSession: true as const }) };
}

export function queueName({ environment, version, requires, opensSession, workerId }: ExecutionQueue): string {
  const { arch = null, labels = [] } = requires;
  return queueNameOf([environment, version, arch, labels, opensSession ?? false, workerId ?? null]);
}

export const executionQueues = new QueueDirectory<ExecutionQueue>({
  prefix: "exec-queue/",
  versionKey: "exec-queues/version",
  nameOf: queueName,
});

/** Where an execution stands among those of its queue: by priority, which waiting raises. */
export function rankOf({ priority }: Pick<ExecutionRecord, "priority">, readyAt: number): string {
  return rankAt(PRIORITY_MAX - priority, readyAt);
}

export function mayServe(worker: WorkerProfile, queue: ExecutionQueue): boolean {
  if (queue.workerId !== undefined) return queue.workerId === worker.workerId;
  if (queue.opensSession && !worker.takesSessions) return false;
  const { arch, labels = [] } = queue.requires;
  if (arch !== undefined && arch !== worker.arch) return false;
  if (!labels.every((label) => worker.labels.includes(label))) return false;
  return worker.environments.some(({ name, version }) => name === queue.environment && version === queue.version);
}
