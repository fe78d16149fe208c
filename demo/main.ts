/**
 * A job on real input: five workers, each with official MCP clients and server processes of its own, measure the files of a
 * folder through one workflow. They write the report together, each part under the report's lock, and tell of each part by
 * message and on a topic, on which an auditor who comes late catches up. With --kill one worker and its servers get SIGKILL
 * while it holds the lock, and with --secure, where each agent proves itself by a key, one is revoked; the job still finishes.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Command, InvalidArgumentError } from "commander";
import { inBatches } from "./batches.ts";
import { Crew, type How, workerName } from "./crew.ts";
import { type Host, type Server, type Swarm, startHost, startServer } from "./host.ts";
import { Mailbox } from "./mailbox.ts";
import { FILES_MAX, type PlannedTask, planJob, sourceFiles } from "./plan.ts";
import { type Outcome, problemsOf, reportText, type Secured, type TaskDetails } from "./report.ts";
import { PARTS_WRITTEN, REPORT_TOPIC, readParts } from "./report-file.ts";
import { Administration, secure } from "./secured.ts";
import { Transcript } from "./transcript.ts";

/** Tasks per call, and the lease in the demo: short, so that a take-over is soon seen. */
const TASKS_PER_CALL = 500;
const LEASE_MS = 2_000;
const STATUS_EVERY_MS = 250;
const PROGRESS_EVERY_MS = 1_000;
const WORKERS_MAX = 32;

interface WorkflowStatus {
  id: string;
  status: string;
  completedTasks: number;
}

const program = new Command("npm run demo --")
  .description("Five workers measure the files of a folder through one workflow and write a report of it together.")
  .argument("[folder]", "the folder", process.env.INIT_CWD ?? ".")
  .option("--kill", "kill a worker and its servers with SIGKILL while it holds the report's lock")
  .option(
    "--secure",
    "secure the swarm: each agent has a key, and a worker is revoked while it holds a task and the report's lock",
  )
  .option("--workers <n>", "how many workers", whole(1, WORKERS_MAX), 5)
  .option("--pause <ms>", "time each task takes besides its work, so that one can watch", whole(0, 10_000), 20)
  .option("--store <url>", "sqlite:<path> or postgres://…; a temporary SQLite file when absent")
  .option("--out <file>", "the report as a file", "swarm-report.md")
  .parse();
const options = program.opts<{ kill?: boolean; secure?: boolean; workers: number; pause: number; store?: string; out: string }>();
const folder = resolve(process.env.INIT_CWD ?? ".", program.args[0] ?? ".");

function whole(min: number, max: number) {
  return (text: string): number => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`A whole number from ${min} to ${max}.`);
  };
}

if (options.secure && options.store !== undefined) {
  program.error(
    "With --secure the store is a temporary one: the keys are thrown away at the end, and nobody could use it again.",
  );
}
const losses: readonly How[] = [...(options.kill ? ["killed" as const] : []), ...(options.secure ? ["revoked" as const] : [])];
if (options.workers <= losses.length) program.error(`Somebody must finish the job: give at least ${losses.length + 1} workers.`);
const files = await sourceFiles(folder);
if (files.length === 0 || files.length > FILES_MAX) {
  program.error(`${folder} has ${files.length} source files; the demo takes 1 to ${FILES_MAX}. Name another folder.`);
}
const temporary = mkdtempSync(join(tmpdir(), "mcp-swarm-demo-"));
process.once("exit", () => rmSync(temporary, { recursive: true, force: true }));
const open: Swarm = { store: options.store ?? `sqlite:${join(temporary, "swarm.db")}`, leaseMs: LEASE_MS };
const plan = planJob(files);
const parts = plan.filter(({ parameters }) => parameters.part !== undefined).length;
console.log(
  `${files.length} files, ${plan.length} tasks, ${parts} parts of a report, ${options.workers} workers, store ${options.store ? "as given" : "a temporary SQLite file"}\n`,
);
const transcript = new Transcript();
let swarm = open;
let administration: Administration | undefined;
if (options.secure) {
  const workers = Array.from({ length: options.workers }, (_, index) => workerName(index));
  const keys = join(temporary, "keys");
  const secured = await secure(open, ["planner", "auditor", ...workers], keys);
  administration = await Administration.start(secured, keys);
  transcript.say(
    `the swarm is secured: an administrator has the root key; the planner, the auditor and ${options.workers} workers have a key each`,
  );
  swarm = secured;
}
const planner = await startHost("planner", swarm);
const mailbox = new Mailbox(planner.comm);
const workflowId = await createWorkflow(planner, plan);
const partsFile = join(temporary, "report.json");
/** One who was not there when the work began, and reads of all of it from the topic's history. */
interface Auditor {
  server: Server;
  mailbox: Mailbox;
  announcedBefore: number;
}
let auditor: Promise<Auditor> | undefined;

async function comeLate(): Promise<Auditor> {
  const server = await startServer("comm", "auditor", swarm);
  const announcedBefore = crew.announced;
  transcript.say(`the auditor comes and subscribes to the topic from its start; ${announcedBefore} parts were announced before`);
  await server.call("subscribe", { topics: [REPORT_TOPIC], replayFrom: "start" });
  return { server, mailbox: new Mailbox(server.call), announcedBefore };
}

const crew = new Crew({
  workers: options.workers,
  order: { folder, workflowId, ...swarm, pauseMs: options.pause, partsFile },
  transcript,
  loseNow: (done, lost) => (done >= (plan.length * (lost + 1)) / (losses.length + 2) ? losses[lost] : undefined),
  async revoke(agent) {
    await administration?.revoke(agent);
  },
  onAnnounced(count) {
    if (auditor || count < parts / 3) return;
    auditor = comeLate();
    auditor.catch(() => {}); // heard of when it is awaited
  },
});

/** The job as one workflow: the first tasks with it, the others added to it before it starts. */
async function createWorkflow(host: Host, tasks: readonly PlannedTask[]): Promise<string> {
  const { workflow } = await host.tasks<{ workflow: WorkflowStatus }>("create_workflow", {
    name: `measure ${files.length} files`,
    tasks: tasks.slice(0, TASKS_PER_CALL),
  });
  for (let at = TASKS_PER_CALL; at < tasks.length; at += TASKS_PER_CALL) {
    await host.tasks("add_tasks", { workflowId: workflow.id, tasks: tasks.slice(at, at + TASKS_PER_CALL) });
  }
  return workflow.id;
}

// ── while it runs ──

await crew.started();
transcript.say(`the planner and ${options.workers} workers are there, each with three servers; the workflow begins`);
const begunAt = transcript.elapsedMs;
await planner.tasks("execute_workflow", { workflowId });
let status: WorkflowStatus;
let toldAt = begunAt;
do {
  await pause(STATUS_EVERY_MS);
  status = (await planner.tasks<{ workflow: WorkflowStatus }>("get_workflow_status", { workflowId })).workflow;
  if (transcript.elapsedMs - toldAt >= PROGRESS_EVERY_MS) {
    toldAt = transcript.elapsedMs;
    transcript.say(
      `${status.completedTasks} of ${plan.length} tasks done; the planner has heard of ${mailbox.news.length} of ${parts} parts`,
    );
  }
} while (!crew.allEnded && (status.status === "running" || status.status === "created"));
const tookMs = transcript.elapsedMs - begunAt;
transcript.say(`the workflow is ${status.status}`);
await crew.ended();
await mailbox.stop();
const late = await auditor;
await late?.mailbox.stop();

// ── what is there when it has ended ──

const found = {
  name: folder.split("/").at(-1) ?? folder,
  files: files.length,
  workflowStatus: status.status,
  tookMs,
  details: await inBatches(plan, (task) => planner.tasks<TaskDetails>("get_task", { taskId: `${workflowId}.${task.id}` })),
  parts: readParts(partsFile),
  partsWritten: (await planner.state<{ entry: { value: number } }>("get_state", { key: PARTS_WRITTEN })).entry.value,
  crew,
  reported: mailbox.news,
  late: late && { news: late.mailbox.news, announcedBefore: late.announcedBefore },
  lossesWanted: losses,
};
await Promise.all([planner.close(), late?.server.close()]);
const outcome: Outcome = administration ? { ...found, secured: await lookBack(administration) } : found;
await administration?.close();

/** All others have ended, so that all they did is covered by their last checkpoints. */
async function lookBack(administrator: Administration): Promise<Secured> {
  const revoked = crew.losses.find(({ how, refused }) => how === "revoked" && refused)?.worker.agent;
  const revocation = revoked === undefined ? undefined : await administrator.lookBack(revoked);
  const audit = await administrator.verifyAuditLog();
  transcript.say(
    `the administrator verified the audit log: ${audit.rows} entries, ${audit.checkpoints} signed checkpoints, ${audit.ok ? "none was changed" : `CHANGED: ${audit.firstBad?.details}`}`,
  );
  return { revocation, audit };
}

// ── the report ──

const text = reportText(outcome);
console.log(`\n${text}`);
const out = resolve(process.env.INIT_CWD ?? ".", options.out);
writeFileSync(out, text);
console.log(`The report is in ${out}`);

const problems = problemsOf(outcome);
if (problems.length > 0) {
  console.error(`\nNot as it should be: ${problems.join("; ")}.`);
  process.exitCode = 1;
}
