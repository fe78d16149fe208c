/**
 * All benchmarks, or those named: `npm run bench -- [--quick] [name …]`. Prints each table as it comes. A run that is not quick
 * writes RESULTS.md beside this file; of those that were not named, the tables stay as they are there.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { casting } from "./casting.ts";
import { decision } from "./decision.ts";
import { definitions } from "./definitions.ts";
import { executionBatch } from "./execution-batch.ts";
import { executionDrivers } from "./execution-drivers.ts";
import { executionLatency } from "./execution-latency.ts";
import { executionPrograms } from "./execution-programs.ts";
import { executionQueue } from "./execution-queue.ts";
import { fullInbox } from "./full-inbox.ts";
import { loadTest } from "./load-test.ts";
import { lockHandOver } from "./lock-hand-over.ts";
import { messageLatency } from "./message-latency.ts";
import { messageRate } from "./message-rate.ts";
import { millionKeys } from "./million-keys.ts";
import { millionTasks } from "./million-tasks.ts";
import { postgresClaims } from "./postgres-claims.ts";
import { report, type Section, sectionsOf } from "./results.ts";
import { type Bench, formatTable, meets, type Row } from "./row.ts";
import { sealed } from "./sealed.ts";
import { securedCall } from "./secured-call.ts";
import { start } from "./start.ts";
import { stateMcp } from "./state-mcp.ts";
import { stdioCall } from "./stdio-call.ts";
import { storeClaims } from "./store-claims.ts";
import { tally } from "./tally.ts";
import { tasksMcp, tasksPostgres } from "./tasks-mcp.ts";
import { tokens } from "./tokens.ts";
import { watchLatency } from "./watch-latency.ts";

const BENCHES: Readonly<Record<string, { title: string; run: Bench }>> = {
  "stdio-call": { title: "A tool call over stdio", run: stdioCall },
  start: { title: "Start and memory", run: start },
  "secured-call": { title: "A call in a secured swarm", run: securedCall },
  "tasks-mcp": { title: "Claim and complete through MCP, one SQLite file", run: tasksMcp },
  "tasks-postgres": { title: "Claim and complete through MCP, PostgreSQL", run: tasksPostgres },
  "load-test": { title: "The specification's load test", run: loadTest },
  definitions: { title: "Tool definitions as a model sees them", run: definitions },
  "store-claims": { title: "Claims on SQLite, without MCP", run: storeClaims },
  "postgres-claims": { title: "Claims on PostgreSQL, without MCP", run: postgresClaims },
  "million-tasks": { title: "A million tasks", run: millionTasks },
  "message-latency": { title: "Messages from process to process", run: messageLatency },
  "message-rate": { title: "Messages a second", run: messageRate },
  "full-inbox": { title: "An inbox in which very many messages wait", run: fullInbox },
  "state-mcp": { title: "Values through MCP", run: stateMcp },
  "watch-latency": { title: "Changes of values from process to process", run: watchLatency },
  "million-keys": { title: "A million keys", run: millionKeys },
  "lock-hand-over": { title: "Locks", run: lockHandOver },
  tally: { title: "Counting a large vote", run: tally },
  casting: { title: "Very many processes vote at once", run: casting },
  decision: { title: "Deciding what an agent may do", run: decision },
  tokens: { title: "Tokens and sealed messages", run: tokens },
  sealed: { title: "Messages that only their readers can read, through MCP", run: sealed },
  "execution-drivers": { title: "Code in sandboxes, without a queue", run: executionDrivers },
  "execution-programs": { title: "Programs of the machine in sandboxes, without a queue", run: executionPrograms },
  "execution-queue": { title: "Code in sandboxes, through the queue", run: executionQueue },
  "execution-batch": { title: "A batch of executions", run: executionBatch },
  "execution-latency": { title: "One execution, from its submission to its result", run: executionLatency },
};

const args = process.argv.slice(2);
const quick = args.includes("--quick");
const asked = args.filter((arg) => arg !== "--quick");
const unknown = asked.find((name) => !(name in BENCHES));
if (unknown !== undefined) {
  console.error(`There is no benchmark "${unknown}". There are: ${Object.keys(BENCHES).join(", ")}.`);
  process.exit(2);
}

const sections: Section[] = [];
const missed: Row[] = [];
const broken: string[] = [];
for (const [name, { title, run }] of Object.entries(BENCHES)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  console.log(`\n## ${title}\n`);
  try {
    const rows = await run({ quick });
    const table = formatTable(rows);
    console.log(table);
    sections.push({ title, table });
    missed.push(...rows.filter((row) => meets(row) === false));
  } catch (error) {
    console.error(error);
    broken.push(name);
  }
}

if (broken.length > 0) {
  console.error(`\nNot measured, because something went wrong: ${broken.join(", ")}`);
  process.exit(1);
}
console.log(missed.length === 0 ? "\nAll goals met." : `\nGoals missed: ${missed.map(({ what }) => what).join("; ")}`);
if (!quick) {
  const path = join(import.meta.dirname, "RESULTS.md");
  const before = asked.length === 0 || !existsSync(path) ? [] : sectionsOf(readFileSync(path, "utf8"));
  if (before) {
    const all = [...sections, ...before];
    const inOrder = Object.values(BENCHES).flatMap(({ title }) => all.find((section) => section.title === title) ?? []);
    writeFileSync(path, report(inOrder));
    console.log("Written to bench/RESULTS.md");
  } else console.log("bench/RESULTS.md is of another machine: a run of all benchmarks replaces it.");
}
