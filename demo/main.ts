/**
 * A job on real input: five workers, each an official MCP client with its own server process, measure the files of a folder
 * through one workflow. With --kill one of them and its server get SIGKILL in the middle, and the job still finishes.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { SingleBar } from "cli-progress";
import { Command, InvalidArgumentError } from "commander";
import { markdownTable } from "markdown-table";
import { type Host, startHost } from "./host.ts";
import { FILES_MAX, type Measure, NOTHING, type PlannedTask, planJob, sourceFiles } from "./plan.ts";
import type { WorkerMessage } from "./worker.ts";

/** Tasks per call, and the lease in the demo: short, so that a take-over is soon seen. */
const TASKS_PER_CALL = 500;
const LEASE_MS = 2_000;
const STATUS_EVERY_MS = 250;
const WORKERS_MAX = 32;

interface Change {
  at: number;
  by: string;
  event: string;
  attempt: number;
}
interface Details {
  task: { id: string; title: string; status: string; claimedBy?: string; output?: Measure };
  history: Change[];
}
interface WorkflowStatus {
  id: string;
  status: string;
  totalTasks: number;
  completedTasks: number;
}

const program = new Command("npm run demo --")
  .description("Five workers measure the files of a folder through one workflow.")
  .argument("[folder]", "the folder", process.env.INIT_CWD ?? ".")
  .option("--kill", "kill a worker and its server with SIGKILL in the middle")
  .option("--workers <n>", "how many workers", whole(1, WORKERS_MAX), 5)
  .option("--pause <ms>", "time each task takes besides its work, so that one can watch", whole(0, 10_000), 20)
  .option("--store <url>", "sqlite:<path> or postgres://…; a temporary SQLite file when absent")
  .option("--out <file>", "the report as a file", "swarm-report.md")
  .parse();
const options = program.opts<{ kill?: boolean; workers: number; pause: number; store?: string; out: string }>();
const folder = resolve(process.env.INIT_CWD ?? ".", program.args[0] ?? ".");

function whole(min: number, max: number) {
  return (text: string): number => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`A whole number from ${min} to ${max}.`);
  };
}

const files = await sourceFiles(folder);
if (files.length === 0 || files.length > FILES_MAX) {
  program.error(`${folder} has ${files.length} source files; the demo takes 1 to ${FILES_MAX}. Name another folder.`);
}
const temporary = mkdtempSync(join(tmpdir(), "mcp-swarm-demo-"));
const store = options.store ?? `sqlite:${join(temporary, "swarm.db")}`;
const planner = await startHost("planner", store, LEASE_MS);
const plan = planJob(files);
const workflowId = await createWorkflow(planner, plan);
console.log(
  `${files.length} files, ${plan.length} tasks, ${options.workers} workers, store ${options.store ? "as given" : "a temporary SQLite file"}\n`,
);

/** The job as one workflow: the first tasks with it, the others added to it before it starts. */
async function createWorkflow(host: Host, tasks: readonly PlannedTask[]): Promise<string> {
  const first = tasks.slice(0, TASKS_PER_CALL);
  const { workflow } = await host.call<{ workflow: WorkflowStatus }>("create_workflow", {
    name: `measure ${files.length} files`,
    tasks: first,
  });
  for (let at = TASKS_PER_CALL; at < tasks.length; at += TASKS_PER_CALL) {
    await host.call("add_tasks", { workflowId: workflow.id, tasks: tasks.slice(at, at + TASKS_PER_CALL) });
  }
  return workflow.id;
}

// ── the workers ──

interface Worker {
  agent: string;
  child: ChildProcess;
  serverPid: number;
  done: number;
  holds: string | undefined;
  killed: boolean;
  ended: Promise<void>;
}
let kill: { worker: Worker; taskId: string } | undefined;
const workers = Array.from({ length: options.workers }, (_, index) => startWorker(`worker-${index + 1}`));

function startWorker(agent: string): Worker {
  const args = [agent, folder, workflowId, store, String(LEASE_MS), String(options.pause)];
  const child = fork(join(import.meta.dirname, "worker.ts"), args);
  const worker: Worker = {
    agent,
    child,
    serverPid: -1,
    done: 0,
    holds: undefined,
    killed: false,
    ended: new Promise((ended) => child.once("exit", () => ended())),
  };
  child.on("message", (message: WorkerMessage) => {
    if (message.kind === "started") worker.serverPid = message.serverPid;
    if (message.kind === "claimed") {
      worker.holds = message.taskId;
      if (options.kill && !kill && doneTasks() >= plan.length / 3) killNow(worker, message.taskId);
    }
    if (message.kind === "done") {
      worker.holds = undefined;
      worker.done += 1;
    }
  });
  return worker;
}

function doneTasks(): number {
  return workers.reduce((total, worker) => total + worker.done, 0);
}

/** As when a machine dies: the host and its server are gone at once, and nothing is given back. */
function killNow(worker: Worker, taskId: string): void {
  kill = { worker, taskId };
  worker.killed = true;
  process.kill(worker.serverPid, "SIGKILL");
  worker.child.kill("SIGKILL");
}

// ── while it runs ──

const startedAt = performance.now();
await planner.call("execute_workflow", { workflowId });
const bar = new SingleBar({
  format: "{bar} {value}/{total} tasks · {working}",
  hideCursor: true,
  noTTYOutput: true,
  notTTYSchedule: 2_000,
});
bar.start(plan.length, 0, { working: "" });
let status: WorkflowStatus;
do {
  await pause(STATUS_EVERY_MS);
  status = (await planner.call<{ workflow: WorkflowStatus }>("get_workflow_status", { workflowId })).workflow;
  const working = workers.map(
    ({ agent, holds, killed }) =>
      `${agent.replace("worker-", "")}:${killed ? "killed" : (holds ?? "–").replace(`${workflowId}.`, "")}`,
  );
  bar.update(status.completedTasks, { working: working.join("  ") });
  if (workers.every(({ child }) => child.exitCode !== null || child.signalCode !== null)) break;
} while (status.status === "running" || status.status === "created");
bar.stop();
const tookMs = performance.now() - startedAt;
await Promise.all(workers.map(({ ended }) => ended));

// ── the report ──

const details = await inBatches(plan, 50, (task) => planner.call<Details>("get_task", { taskId: `${workflowId}.${task.id}` }));
const report = details.find(({ task }) => task.id === `${workflowId}.report`);
const total = report?.task.output ?? NOTHING;
const counted = total.files + total.missing;
const completions = details.map(({ history }) => history.filter(({ event }) => event === "done").length);
const takenOver = details.flatMap(({ task, history }) => {
  const lost = history.find(({ event }) => event === "lease_expired" || event === "given_back");
  if (!lost) return [];
  const before = history.filter(({ at, event }) => event === "claimed" && at <= lost.at).at(-1);
  return [
    {
      task,
      from: before?.by ?? "?",
      to: task.claimedBy ?? "?",
      afterMs: (history.find(({ at, event }) => event === "claimed" && at > lost.at)?.at ?? lost.at) - (before?.at ?? lost.at),
    },
  ];
});
const problems = [
  ...(status.status === "completed" ? [] : [`the workflow ended as ${status.status}`]),
  ...(counted === files.length ? [] : [`the report counts ${counted} files of ${files.length}`]),
  ...(completions.every((count) => count === 1) ? [] : ["a task was finished not exactly once"]),
  ...(options.kill && !kill ? ["nobody was killed: the job was over too soon; use a larger folder"] : []),
  ...(kill && !takenOver.some(({ task }) => task.id === kill?.taskId) ? ["what the killed worker held was not taken over"] : []),
];

async function inBatches<T, R>(items: readonly T[], size: number, run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += size) results.push(...(await Promise.all(items.slice(at, at + size).map(run))));
  return results;
}

const columns = ({ files, lines, blank, bytes, longestLine }: Measure) => [files, lines, blank, bytes, longestLine];
const number = (value: number) => value.toLocaleString("en-US");
const folderRows = details
  .filter(({ task }) => /\.folder-\d+$/.test(task.id))
  .map(({ task }) => [task.title, ...columns(task.output ?? NOTHING).map(number), task.claimedBy ?? ""])
  .sort(([a = ""], [b = ""]) => a.localeCompare(b));
const align = ["l", "r", "r", "r", "r", "r", "l"];
const byFolder = markdownTable([["folder", "files", "lines", "blank", "bytes", "longest line", "added up by"], ...folderRows], {
  align,
});
const byWorker = markdownTable(
  [
    ["worker", "tasks", "share", "end"],
    ...workers.map(({ agent, killed }) => {
      const tasks = details.filter(({ task }) => task.claimedBy === agent).length;
      return [agent, number(tasks), `${((100 * tasks) / plan.length).toFixed(1)} %`, killed ? "killed" : "finished"];
    }),
  ],
  { align: ["l", "r", "r", "l"] },
);
const text = `# ${folder.split("/").at(-1)}: ${number(total.files)} files, ${number(total.lines)} lines, ${number(total.bytes)} bytes

${plan.length} tasks by ${workers.length} workers in ${(tookMs / 1_000).toFixed(1)} s. Every file was counted once: ${counted === files.length && completions.every((count) => count === 1) ? "yes" : "NO"}.

## Folders
${byFolder}

## Workers
${byWorker}

## Taken over
${takenOver.length === 0 ? "Nothing: no worker was lost." : takenOver.map(({ task, from, to, afterMs }) => `- ${task.title} (${task.id.replace(`${workflowId}.`, "")}): from ${from} to ${to}, ${number(afterMs)} ms after it was claimed`).join("\n")}
`;
console.log(`\n${text}`);
const out = resolve(process.env.INIT_CWD ?? ".", options.out);
writeFileSync(out, text);
console.log(`The report is in ${out}`);

await planner.close();
rmSync(temporary, { recursive: true, force: true });
if (problems.length > 0) {
  console.error(`\nNot as it should be: ${problems.join("; ")}.`);
  process.exitCode = 1;
}
