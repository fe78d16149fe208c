/**
 * One worker of the demo: claims tasks of the workflow until the workflow has ended, writes its parts of the report while it
 * holds the report's lock, and tells the swarm of each. Its one argument is a WorkerOrder as JSON.
 */
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { startHost } from "./host.ts";
import { type Measure, measureFile, type PlannedTask, sum } from "./plan.ts";
import { PARTS_WRITTEN, REPORT_LOCK, REPORT_TOPIC, readParts, writeParts } from "./report-file.ts";

export interface WorkerOrder {
  agent: string;
  folder: string;
  workflowId: string;
  store: string;
  leaseMs: number;
  pauseMs: number;
  partsFile: string;
}

/** What a worker tells its parent. With `locked` and `unlocking` it waits for any word back, so that the parent sees all in order. */
export type WorkerMessage =
  | { kind: "started"; serverPids: readonly number[] }
  | { kind: "claimed"; taskId: string }
  | { kind: "locked"; taskId: string; part: string; token: number }
  | { kind: "unlocking"; part: string }
  | { kind: "announced"; part: string }
  | { kind: "done"; taskId: string };

type Task = Pick<PlannedTask, "id" | "type" | "parameters"> & { dependencies: string[] };

/** How long a worker waits in line for the report's lock. */
const LOCK_WAIT_MS = 30_000;
const WORK_WAIT_MS = 1_000;

// its parent is gone: so is the worker, and with their stdin its servers
process.on("disconnect", () => process.exit(1));

const order = JSON.parse(process.argv[2] ?? "") as WorkerOrder;
const host = await startHost(order.agent, order);
const tell = (message: WorkerMessage) => process.send?.(message);
tell({ kind: "started", serverPids: host.serverPids });

const tellAndWait = async (message: WorkerMessage) => {
  const heard = once(process, "message");
  tell(message);
  await heard;
};

/** A result in full: a claim shows the results it builds on, but shortens them when there are many. */
async function outputOf(taskId: string): Promise<Measure> {
  const { task } = await host.tasks<{ task: { output: Measure } }>("get_task", { taskId });
  return task.output;
}

/** The file has no lock of its own: two workers that wrote it at once would lose each other's parts. */
async function writePart(taskId: string, part: string, measure: Measure): Promise<void> {
  const { lock } = await host.state<{ lock: { fencingToken: number } }>("acquire_lock", {
    name: REPORT_LOCK,
    waitMs: LOCK_WAIT_MS,
  });
  const { fencingToken } = lock;
  await tellAndWait({ kind: "locked", taskId, part, token: fencingToken });
  const parts = readParts(order.partsFile);
  if (order.pauseMs > 0) await pause(order.pauseMs);
  parts[part] = { by: order.agent, measure };
  writeParts(order.partsFile, parts);
  const count = Object.keys(parts).length;
  await host.state("set_state", { key: PARTS_WRITTEN, value: count, lock: REPORT_LOCK, fencingToken });
  await tellAndWait({ kind: "unlocking", part });
  await host.state("release_lock", { name: REPORT_LOCK, fencingToken });

  // who does a task again after a worker was lost says nothing twice: the key makes the repetition the first
  const news = { messageType: "result_sharing", payload: { part, lines: measure.lines } };
  const topic = { scope: "topic", name: REPORT_TOPIC, keep: true };
  await host.comm("broadcast_message", { ...topic, ...news, idempotencyKey: `${taskId}-announced` });
  tell({ kind: "announced", part });
  await host.comm("send_message", { targetAgent: "planner", ...news, idempotencyKey: `${taskId}-reported` });
}

for (;;) {
  const claim = { workflowId: order.workflowId, waitMs: WORK_WAIT_MS };
  const { task } = await host.tasks<{ task: Task | null }>("claim_next_task", claim);
  if (!task) {
    const { workflow } = await host.tasks<{ workflow: { status: string } }>("get_workflow_status", {
      workflowId: order.workflowId,
    });
    if (workflow.status !== "running" && workflow.status !== "created") break;
    continue;
  }
  tell({ kind: "claimed", taskId: task.id });
  if (order.pauseMs > 0) await pause(order.pauseMs);
  try {
    const { path, part } = task.parameters;
    const output =
      task.type === "measure" ? measureFile(join(order.folder, path)) : sum(await Promise.all(task.dependencies.map(outputOf)));
    if (part !== undefined) await writePart(task.id, part, output);
    await host.tasks("update_task", { taskId: task.id, status: "done", output });
  } catch (error) {
    // what one worker cannot do another may; the swarm decides whether it is tried again
    await host.tasks("update_task", { taskId: task.id, status: "failed", error: String(error) });
    continue;
  }
  tell({ kind: "done", taskId: task.id });
}
await host.close();
process.exit(0);
