/** A batch of tasks that only wait, against the ideal of the slots that there are: what queue and sandboxes add to them. */
import { join } from "node:path";
import { formatTable, type Options, type Row } from "./row.ts";
import { scratch } from "./servers.ts";
import { median } from "./stats.ts";
import { Workforce } from "./workforce.ts";

const TASKS = 100;
const WORK_MS = 100;
const SLOTS = 4;
const ROUNDS = { full: 5, quick: 1 };
const WARM_UP = 20;
/** They take no processor while they wait, so that more slots than processors are no hindrance. */
const WAITS = [
  { kind: "javascript", task: { code: `await new Promise((over) => setTimeout(over, ${WORK_MS})); 1`, value: 1, stdout: "" } },
  { kind: "bash", task: { code: `sleep ${WORK_MS / 1_000}; echo 1`, stdout: "1\n" } },
] as const;

export async function executionBatch({ quick }: Options): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { kind, task } of WAITS) {
    for (const workers of [1, 2]) {
      using folder = scratch();
      const store = `sqlite:${join(folder.path, "swarm.db")}`;
      const force = await Workforce.open({ store, durability: "full", workers, slots: SLOTS / workers, kind });
      const times: number[] = [];
      try {
        await force.drain(WARM_UP);
        for (let round = 0; round < (quick ? ROUNDS.quick : ROUNDS.full); round++) times.push(await force.drain(TASKS, { task }));
      } finally {
        await force.close();
      }
      const ideal = (TASKS * WORK_MS) / SLOTS;
      rows.push({
        what: `a batch of ${TASKS} ${kind} tasks that wait ${WORK_MS} ms, ${workers} × ${SLOTS / workers} slots, over the ideal`,
        subject: `${median(times).toFixed(0)} ms`,
        control: `${ideal} ms`,
        ratio: median(times) / ideal,
        ...(kind === "javascript" ? { goal: { atMost: 1.15 } } : {}),
      });
    }
  }
  return rows;
}

if (import.meta.main) {
  console.log(formatTable(await executionBatch({ quick: process.argv.includes("--quick") })));
}
