/**
 * One worker of the demo: claims tasks of the workflow until the workflow has ended, and tells its parent what it does.
 * Arguments: agent, folder, workflow, store, lease in ms, pause per task in ms.
 */
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { startHost } from "./host.ts";
import { type Measure, measureFile, sum } from "./plan.ts";

/** What a worker tells its parent. */
export type WorkerMessage =
  | { kind: "started"; serverPid: number }
  | { kind: "claimed"; taskId: string; attempt: number }
  | { kind: "done"; taskId: string };

interface Task {
  id: string;
  type: string;
  attempt: number;
  dependencies: string[];
  parameters: { path: string };
}

const [agent = "", folder = "", workflowId = "", store = "", leaseMs = "", pauseMs = ""] = process.argv.slice(2);
const tell = (message: WorkerMessage) => process.send?.(message);

const host = await startHost(agent, store, Number(leaseMs));
tell({ kind: "started", serverPid: host.serverPid });

/** A result in full: a claim shows the results it builds on, but shortens them when there are many. */
async function outputOf(taskId: string): Promise<Measure> {
  const { task } = await host.call<{ task: { output: Measure } }>("get_task", { taskId });
  return task.output;
}

for (;;) {
  const { task } = await host.call<{ task: Task | null }>("claim_next_task", { workflowId, waitMs: 2_000 });
  if (!task) {
    const { workflow } = await host.call<{ workflow: { status: string } }>("get_workflow_status", { workflowId });
    if (workflow.status !== "running" && workflow.status !== "created") break;
    continue;
  }
  tell({ kind: "claimed", taskId: task.id, attempt: task.attempt });
  if (Number(pauseMs) > 0) await pause(Number(pauseMs));
  try {
    const output =
      task.type === "measure"
        ? measureFile(join(folder, task.parameters.path))
        : sum(await Promise.all(task.dependencies.map(outputOf)));
    await host.call("update_task", { taskId: task.id, status: "done", output });
  } catch (error) {
    // what one worker cannot do another may; the swarm decides whether it is tried again
    await host.call("update_task", { taskId: task.id, status: "failed", error: String(error) });
    continue;
  }
  tell({ kind: "done", taskId: task.id });
}
await host.close();
process.exit(0);
