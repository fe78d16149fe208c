/**
 * Which queues of tasks there are.
 *
 * | key | value | why |
 * |---|---|---|
 * | `task-queue/<queue>` | Queue | which queues there are |
 * | `task-queues/version` | when it changed | its revision moves whenever a queue comes or goes |
 */
import { QueueDirectory } from "@mcp-swarm/coordination";
import { type Queue, queueName } from "./task-queue.ts";

/** QUEUES_MAX bounds how many new tasks make, and what becomes available again adds few. */
export const taskQueues = new QueueDirectory<Queue>({
  prefix: "task-queue/",
  versionKey: "task-queues/version",
  nameOf: (queue) => queueName(queue),
});
