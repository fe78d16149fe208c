/** What came of the job: the report as text, and what is not as it should be. */
import { markdownTable } from "markdown-table";
import type { Crew, How, Loss } from "./crew.ts";
import type { PartNews } from "./mailbox.ts";
import { type Measure, NOTHING, type PlannedTask, TOTAL } from "./plan.ts";
import type { Parts } from "./report-file.ts";
import type { AuditReport, Revocation } from "./secured.ts";

interface Change {
  at: number;
  by: string;
  event: string;
}
/** What `get_task` answers. */
export interface TaskDetails {
  task: { id: string; title: string; claimedBy?: string; output?: Measure; parameters?: PlannedTask["parameters"] };
  history: Change[];
}

export interface Outcome {
  /** The name of the folder that was measured. */
  name: string;
  files: number;
  workflowStatus: string;
  tookMs: number;
  details: readonly TaskDetails[];
  /** The file that the workers wrote together, and the value that counts its parts. */
  parts: Parts;
  partsWritten: number;
  crew: Crew;
  /** What the workers told the planner. */
  reported: readonly PartNews[];
  /** What one who came late read on the topic; undefined when it never came. */
  late: { news: readonly PartNews[]; announcedBefore: number } | undefined;
  lossesWanted: readonly How[];
  /** Of a secured swarm. */
  secured?: Secured;
}

/** What the administrator found in the audit log. */
export interface Secured {
  /** Absent when no revoked worker was refused. */
  revocation: Revocation | undefined;
  audit: AuditReport;
}

interface TakenOver {
  id: string;
  title: string;
  from: string;
  to: string;
  afterMs: number;
}

/** Within so long a revocation is in force in every server. */
const IN_FORCE_MS = 6_000;

/** Whether something is wrong, and what. */
type Finding = [boolean, string];

const number = (value: number) => value.toLocaleString("en-US");
const short = (id: string) => id.slice(id.indexOf(".") + 1);

export function takenOver(details: readonly TaskDetails[]): TakenOver[] {
  return details.flatMap(({ task, history }) => {
    const lost = history.find(({ event }) => event === "lease_expired" || event === "given_back");
    if (!lost) return [];
    const before = history.filter(({ at, event }) => event === "claimed" && at <= lost.at).at(-1);
    const after = history.find(({ at, event }) => event === "claimed" && at > lost.at);
    return [
      {
        id: task.id,
        title: task.title,
        from: before?.by ?? "?",
        to: task.claimedBy ?? "?",
        afterMs: (after?.at ?? lost.at) - (before?.at ?? lost.at),
      },
    ];
  });
}

function totalOf({ details }: Outcome): Measure {
  return details.find(({ task }) => task.parameters?.part === TOTAL)?.task.output ?? NOTHING;
}

function countedOnce(outcome: Outcome): boolean {
  const { files, missing } = totalOf(outcome);
  const completions = outcome.details.map(({ history }) => history.filter(({ event }) => event === "done").length);
  return files + missing === outcome.files && completions.every((count) => count === 1);
}

/** Whether each of the parts is there exactly once. */
function eachOnce(wanted: readonly string[], got: readonly string[]): boolean {
  return wanted.length === got.length && wanted.toSorted().join("\n") === got.toSorted().join("\n");
}

/** Nothing when all is as it should be. */
export function problemsOf(outcome: Outcome): string[] {
  const { details, parts, crew, late } = outcome;
  const wanted = details.flatMap(({ task }) => (task.parameters?.part === undefined ? [] : [task.parameters.part]));
  const differing = details.filter(({ task }) => {
    const part = task.parameters?.part;
    return part !== undefined && JSON.stringify(parts[part]?.measure) !== JSON.stringify(task.output);
  });
  const wrong: Finding[] = [
    [outcome.workflowStatus !== "completed", `the workflow ended as ${outcome.workflowStatus}`],
    [!countedOnce(outcome), "not every file was counted exactly once"],
    [!eachOnce(wanted, Object.keys(parts)), `the report has ${Object.keys(parts).length} parts of ${wanted.length}`],
    [differing.length > 0, `${differing.length} parts of the report are not what the tasks found`],
    [outcome.partsWritten !== wanted.length, `${outcome.partsWritten} parts were counted as written, of ${wanted.length}`],
    [!eachOnce(wanted, partsOf(outcome.reported)), "the planner did not hear of each part exactly once"],
    [!late, "nobody came late: the job was over too soon; use a larger folder"],
    [late !== undefined && !eachOnce(wanted, partsOf(late.news)), "who came late did not read of each part exactly once"],
    [late?.announcedBefore === 0, "who came late had nothing to catch up on"],
    ...outcome.lossesWanted.slice(crew.losses.length).map((how): [boolean, string] => {
      return [true, `nobody was ${how}: the job was over too soon; use a larger folder`];
    }),
    ...crew.losses.flatMap((loss) => problemsOfLoss(loss, details)),
    ...(outcome.secured ? problemsOfSecured(outcome.secured) : []),
  ];
  return [...crew.problems, ...wrong.flatMap(([is, what]) => (is ? [what] : []))];
}

function problemsOfLoss({ how, worker: { agent }, taskId, next, refused }: Loss, details: readonly TaskDetails[]): Finding[] {
  const notRefused = refused?.refusals.filter(({ code }) => code !== "permission_denied") ?? [];
  return [
    [!next, `nobody got the lock that the ${how} worker held`],
    [!takenOver(details).some(({ id }) => id === taskId), `what the ${how} worker worked on was not taken over`],
    [details.some(({ task }) => task.id === taskId && task.claimedBy === agent), `${agent} did its task although it was ${how}`],
    [how === "revoked" && !refused, `${agent} was revoked and never refused`],
    [notRefused.length > 0, `${agent} was revoked, and not refused: ${notRefused.map(({ tool }) => tool).join(", ")}`],
  ];
}

function problemsOfSecured({ revocation, audit }: Secured): Finding[] {
  const { lastWrite, firstRefusalAfterMs } = revocation ?? {};
  return [
    [!audit.ok, `the audit log was changed: ${audit.firstBad?.details}`],
    [audit.copies === 0, "no checkpoint of the audit log was copied outside the store"],
    [!lastWrite || lastWrite.afterMs > IN_FORCE_MS, "the audit log does not say that the revoked worker's writes ended in time"],
    [
      firstRefusalAfterMs === undefined || firstRefusalAfterMs < 0,
      "the audit log does not say that the revoked worker was refused",
    ],
  ];
}

function partsOf(news: readonly PartNews[]): string[] {
  return news.map(({ part }) => part);
}

export function reportText(outcome: Outcome): string {
  const { details, parts, crew, late } = outcome;
  const total = totalOf(outcome);
  const columns = ({ files, lines, blank, bytes, longestLine }: Measure) => [files, lines, blank, bytes, longestLine];
  const folderRows = Object.entries(parts)
    .filter(([part]) => part !== TOTAL)
    .map(([part, { by, measure }]) => [part, ...columns(measure).map(number), by])
    .sort(([a = ""], [b = ""]) => a.localeCompare(b));
  const workerRows = crew.workers.map(({ agent, lost }) => {
    const tasks = details.filter(({ task }) => task.claimedBy === agent).length;
    const wrote = Object.values(parts).filter(({ by }) => by === agent).length;
    const share = `${((100 * tasks) / details.length).toFixed(1)} %`;
    return [agent, number(tasks), share, number(wrote), lost ?? "finished"];
  });
  const taken = takenOver(details).map(
    ({ id, title, from, to, afterMs }) =>
      `- ${title} (${short(id)}): from ${from} to ${to}, ${number(afterMs)} ms after it was claimed`,
  );
  return `# ${outcome.name}: ${number(total.files)} files, ${number(total.lines)} lines, ${number(total.bytes)} bytes

${details.length} tasks by ${crew.workers.length} workers in ${(outcome.tookMs / 1_000).toFixed(1)} s. Every file was counted once: ${countedOnce(outcome) ? "yes" : "NO"}.

## Folders
${markdownTable([["folder", "files", "lines", "blank", "bytes", "longest line", "written by"], ...folderRows], {
  align: ["l", "r", "r", "r", "r", "r", "l"],
})}

## Workers
${markdownTable([["worker", "tasks", "share", "parts written", "end"], ...workerRows], { align: ["l", "r", "r", "r", "l"] })}

## Taken over
${taken.length === 0 ? "Nothing: no worker was lost." : taken.join("\n")}

## The report's lock
Held ${crew.holdings} times, by one worker at a time, for ${Object.keys(parts).length} parts.${crew.losses.map(passedOn).join("")}

## Messages
The planner heard of ${outcome.reported.length} parts. ${
    late
      ? `The auditor came when ${late.announcedBefore} were announced, and read of ${late.news.length} on the topic.`
      : "The auditor never came."
  }
${outcome.secured ? securedText(outcome.secured, crew.losses) : ""}`;
}

function passedOn({ how, worker, token, next }: Loss): string {
  if (!next) return "";
  const { agent, afterMs } = next;
  return `\n${worker.agent} was ${how} while it held it (token ${token}); ${agent} had it ${number(Math.round(afterMs))} ms later (token ${next.token}).`;
}

function securedText({ revocation, audit }: Secured, losses: readonly Loss[]): string {
  const { rows, chains, checkpoints, copies, uncovered, ok, firstBad } = audit;
  const log = `The audit log has ${number(rows)} entries in ${chains} chains, under ${checkpoints} signed checkpoints, ${copies} of them copied outside the store. Verified: ${ok ? "nothing was changed" : `CHANGED, ${firstBad?.details}`}; ${uncovered} entries are under no checkpoint yet.`;
  const of = losses.find(({ worker }) => worker.agent === revocation?.agent);
  if (!revocation || !of?.refused) return `\n## The secured swarm\nNobody was revoked.\n${log}\n`;
  const { agent, lastWrite, firstRefusalAfterMs } = revocation;
  const { refusals, afterMs } = of.refused;
  return `
## The secured swarm
${agent} was revoked while it held the lock and the task ${short(of.taskId)}.
Its last accepted write: ${lastWrite ? `${lastWrite.tool} on ${lastWrite.resource}, ${relative(lastWrite.afterMs)} the revocation` : "none"}. Its first refusal: ${firstRefusalAfterMs === undefined ? "none" : `${relative(firstRefusalAfterMs)} it`}.
All of its servers refused it within ${number(Math.round(afterMs))} ms, and so the calls that it made next: ${refusals.map(({ tool, code }) => `${tool} (${code})`).join(", ")}.
${log}
`;
}

function relative(afterMs: number): string {
  return `${number(Math.abs(afterMs))} ms ${afterMs <= 0 ? "before" : "after"}`;
}
