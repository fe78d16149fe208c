/** How hosts share work, and that it costs the same with many tasks as with few. The benchmarks measure; these tests bound. */
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Crew, type Member } from "../faults/crew.ts";
import { census, ENGINES, LONG, size } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";

describe.each(ENGINES)("$name", ({ meet }) => {
  const AGENTS = 5;
  const TASKS = 100;
  const TASK_MS = 100;
  /** Tasks off an equal share. */
  const OFF_MAX = 0.1 * (TASKS / AGENTS);

  test(`${TASKS} tasks of ${TASK_MS} ms are done once, by ${AGENTS} agents with equal shares within 10%`, {
    timeout: 120_000,
  }, async () => {
    verifies("TASK-20");
    using meeting = await meet();
    await using crew = await Crew.start({ store: meeting.store, size: AGENTS });
    const [first] = crew.members as [Member];
    const tasks = Array.from({ length: TASKS }, (_, n) => ({ id: `task-${n}`, description: `work for ${TASK_MS} ms` }));
    expect((await first.try("add_tasks", { tasks })).isError).toBe(false);
    for (const { id } of tasks) crew.ledger.added.add(id);
    await Promise.all(crew.members.map((member) => member.try("get_available_tasks", { limit: 1 }))); // all are up

    const begun = performance.now();
    const shares = await Promise.all(
      crew.members.map(async (member) => {
        for (let done = 0; ; done++) {
          const { claimed, isError, text } = await crew.claimNext(member);
          expect(isError, text).toBe(false);
          if (!claimed) return done;
          await delay(TASK_MS); // the task itself
          expect((await crew.report(member, claimed, "done")).isError).toBe(false);
        }
      }),
    );
    const tookMs = Math.round(performance.now() - begun);
    const found = await census(meeting.store);
    expect(found.problems).toEqual([]);
    expect(crew.ledger.missing(found)).toEqual([]);
    expect([...found.tasks.values()].filter(({ status, attempt }) => status === "done" && attempt === 1)).toHaveLength(TASKS);
    console.log(
      `${TASKS} tasks of ${TASK_MS} ms, ${AGENTS} agents: ${tookMs} ms (ideal ${(TASKS / AGENTS) * TASK_MS}), shares ${shares}`,
    );
    for (const share of shares) expect(Math.abs(share - TASKS / AGENTS), `shares ${shares}`).toBeLessThanOrEqual(OFF_MAX);
  });
});

describe.each(LONG ? ENGINES : ENGINES.slice(0, 1))("$name", ({ meet }) => {
  const FEW = 200;
  const MANY = size(20_000, 200_000);
  const BATCH = 500;
  const SAMPLES = 60;
  /** How many times slower a call may be; a scan of all tasks would be a hundred times slower. */
  const FACTOR_MAX = 3;

  test(`with ${MANY} tasks, claiming, adding and listing cost what they cost with ${FEW}`, { timeout: 1_800_000 }, async () => {
    verifies("TASK-21");
    using meeting = await meet();
    await using crew = await Crew.start({ store: meeting.store, size: 1, env: { SWARM_DURABILITY: "normal" } });
    const [member] = crew.members as [Member];
    const call = async (tool: string, args: Record<string, unknown> = {}) => {
      const answer = await member.try(tool, args);
      expect(answer.isError, answer.text).toBe(false);
      return answer.structured;
    };
    let tasks = 0;
    const fill = async (until: number) => {
      while (tasks < until) {
        const count = Math.min(BATCH, until - tasks);
        await call("add_tasks", { tasks: Array.from({ length: count }, () => ({ description: `task ${tasks++}` })) });
      }
    };
    const calls = {
      claim: async () => {
        const { task, fencingToken } = await call("claim_next_task");
        const { id } = task as { id: string };
        return async () => void (await call("update_task", { taskId: id, status: "available", fencingToken }));
      },
      add: async () => void (await call("add_task", { description: "one more" })),
      "list available": async () => void (await call("get_available_tasks", { limit: 20 })),
      "list all": async () => void (await call("get_all_tasks", { limit: 20 })),
    };
    /** Median ms of each call, taken in turns so that a slow moment of the machine meets all. */
    const measure = async () => {
      const took: Record<string, number[]> = {};
      for (let n = 0; n < SAMPLES; n++) {
        for (const [name, run] of Object.entries(calls)) {
          const begun = performance.now();
          const undo = await run();
          took[name] = [...(took[name] ?? []), performance.now() - begun];
          await undo?.();
        }
      }
      const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? 0;
      return Object.fromEntries(Object.entries(took).map(([name, values]) => [name, median(values)]));
    };
    await fill(FEW);
    await measure(); // warm
    const few = await measure();
    await fill(MANY);
    const many = await measure();
    const ratios = Object.fromEntries(Object.keys(calls).map((name) => [name, (many[name] ?? 0) / (few[name] ?? 1)]));
    console.log(`${MANY} tasks against ${FEW}, ratio of medians: ${JSON.stringify(ratios)}`);
    for (const [name, ratio] of Object.entries(ratios)) expect(ratio, name).toBeLessThanOrEqual(FACTOR_MAX);
  });
});
