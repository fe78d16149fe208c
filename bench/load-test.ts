/** The load test of the specification: 100 tasks that take 100 ms each, 5 agents, each with a server of its own. */
import { join } from "node:path";
import type { Options, Row } from "./row.ts";
import { scratch, swarmServer } from "./servers.ts";
import { Squad } from "./squad.ts";
import { median } from "./stats.ts";

const AGENTS = 5;
const TASKS = 100;
const WORK_MS = 100;
const ROUNDS = 3;
const MS_MAX = 2_300;
const UNEVEN_MAX = 0.1;
const WARM_UP = 50;

export async function loadTest({ quick }: Options): Promise<Row[]> {
  using folder = scratch();
  const squad = await Squad.open(
    Array.from({ length: AGENTS }, (_, at) =>
      swarmServer("task-coordination", {
        store: `sqlite:${join(folder.path, "swarm.db")}`,
        durability: "full",
        agent: `agent-${at + 1}`,
      }),
    ),
  );
  try {
    await squad.drain(WARM_UP);
    const times: number[] = [];
    const uneven: number[] = [];
    for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
      const { ms, shares } = await squad.drain(TASKS, { workMs: WORK_MS });
      times.push(ms);
      uneven.push(Math.max(...shares.map((share) => Math.abs((share * AGENTS) / TASKS - 1))));
    }
    const ideal = (TASKS * WORK_MS) / AGENTS;
    const what = `${TASKS} tasks of ${WORK_MS} ms, ${AGENTS} agents`;
    return [
      {
        what: `${what}: time for all, over the ideal`,
        subject: `${median(times).toFixed(0)} ms`,
        control: `${ideal} ms`,
        ratio: median(times) / ideal,
        goal: { atMost: MS_MAX / ideal },
      },
      {
        what: `${what}: farthest that an agent is from its share`,
        subject: `${(Math.max(...uneven) * 100).toFixed(0)}%`,
        goal: { atMost: UNEVEN_MAX, value: Math.max(...uneven) },
      },
    ];
  } finally {
    await squad.close();
  }
}
