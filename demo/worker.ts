/**
 * One worker of the demo: claims tasks of the workflow until the workflow has ended, writes its parts of the report while it
 * holds the report's lock, and tells the swarm of each. Its one argument is a WorkerOrder as JSON.
 */
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { inBatches } from "./batches.ts";
import { Refused, type Swarm, startHost } from "./host.ts";
import { type Measure, measureFile, type PlannedTask, sum } from "./plan.ts";
import { PARTS_WRITTEN, REPORT_LOCK, REPORT_TOPIC, readParts, writeParts } from "./report-file.ts";

export interface WorkerOrder extends Swarm {
  agent: string;
  folder: string;
  workflowId: string;
  pauseMs: number;
  partsFile: string;
}

/** What its parent says to a worker that waits: to go on, or to keep what it holds until it is refused. */
export type Word = "go on" | "hold on";

/** What a worker that was revoked heard from one of its servers. */
export interface Refusal {
  tool: string;
  /** `done`: it was not refused. */
  code: string;
  text: string;
}

/** What a worker tells its parent. With `locked` and `unlocking` it waits for a word back, so that the parent sees all in order. */
export type WorkerMessage =
  | { kind: "started"; serverPids: readonly number[] }
  | { kind: "claimed"; taskId: string }
  | { kind: "locked"; taskId: string; part: string; token: number }
  | { kind: "unlocking"; part: string }
  | { kind: "announced"; part: string }
  | { kind: "done"; taskId: string }
  | { kind: "refused"; refusals: readonly Refusal[] };

type Task = Pick<PlannedTask, "id" | "type" | "parameters"> & { dependencies: string[] };

/** How long a worker waits in line for the report's lock. */
const LOCK_WAIT_MS = 30_000;
const WORK_WAIT_MS = 1_000;
/** How often a worker that holds on calls its servers, and how often at most: far longer than a revocation takes. */
const HOLD_PAUSE_MS = 100;
const HOLD_CALLS_MAX = 600;
/** What a worker hears that was away for longer than its lease: another has its task, and may have done it. */
const LOST_CLAIM: readonly string[] = ["failed_precondition", "conflict"];

// its parent is gone: so is the worker, and with their stdin its servers
process.on("disconnect", () => process.exit(1));

const order = JSON.parse(process.argv[2] ?? "") as WorkerOrder;
const host = await startHost(order.agent, order);
const tell = (message: WorkerMessage) => process.send?.(message);
tell({ kind: "started", serverPids: host.serverPids });

const tellAndWait = async (message: WorkerMessage): Promise<Word> => {
  const heard = once(process, "message");
  tell(message);
  const [word] = (await heard) as [Word];
  return word;
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
  const word = await tellAndWait({ kind: "locked", taskId, part, token: fencingToken });
  if (word === "hold on") await endAsRevoked(taskId, fencingToken);
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

async function refusalOf(tool: string, calling: Promise<unknown>): Promise<Refusal> {
  try {
    await calling;
    return { tool, code: "done", text: "" };
  } catch (error) {
    if (error instanceof Refused) return { tool, code: error.code, text: error.message };
    throw error;
  }
}

/** Calls, and calls again, until it is refused. */
async function untilRefused(tool: string, call: () => Promise<unknown>): Promise<void> {
  for (let calls = 0; calls < HOLD_CALLS_MAX; calls++) {
    const { code } = await refusalOf(tool, call());
    if (code !== "done") return;
    await pause(HOLD_PAUSE_MS);
  }
}

/** It works as long as its servers let it, then tries all that it would do next, and tells what became of that. */
async function endAsRevoked(taskId: string, fencingToken: number): Promise<never> {
  await Promise.all([
    untilRefused("get_task", () => host.tasks("get_task", { taskId })),
    untilRefused("list_locks", () => host.state("list_locks", { limit: 1 })),
    untilRefused("list_agents", () => host.comm("list_agents", { limit: 1 })),
  ]);
  const news = { messageType: "result_sharing", payload: { part: "none" } };
  const refusals = [
    await refusalOf("set_state", host.state("set_state", { key: PARTS_WRITTEN, value: -1, lock: REPORT_LOCK, fencingToken })),
    await refusalOf("update_task", host.tasks("update_task", { taskId, status: "done", output: sum([]) })),
    await refusalOf("claim_next_task", host.tasks("claim_next_task", { workflowId: order.workflowId })),
    await refusalOf("broadcast_message", host.comm("broadcast_message", { scope: "topic", name: REPORT_TOPIC, ...news })),
  ];
  await tellAndWait({ kind: "refused", refusals });
  await host.close();
  process.exit(0);
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
      task.type === "measure" ? measureFile(join(order.folder, path)) : sum(await inBatches(task.dependencies, outputOf));
    if (part !== undefined) await writePart(task.id, part, output);
    await host.tasks("update_task", { taskId: task.id, status: "done", output });
  } catch (error) {
    // what one worker cannot do another may; the swarm decides whether it is tried again
    const failing = host.tasks("update_task", { taskId: task.id, status: "failed", error: String(error) });
    const { code } = await refusalOf("update_task", failing);
    if (code !== "done" && !LOST_CLAIM.includes(code)) throw error;
    continue;
  }
  tell({ kind: "done", taskId: task.id });
}
await host.close();
process.exit(0);
