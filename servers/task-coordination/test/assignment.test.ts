import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  type Assignable,
  type Assigning,
  balanceScore,
  type Candidate,
  canDo,
  loadOf,
  type Predict,
  planAssignments,
  STRATEGIES,
} from "../src/assignment.ts";
import type { Estimate } from "../src/estimate.ts";

const NOW = 1_750_000_000_000;
const SKILLS = ["c", "go", "rust", "sql"];

/** Each task has a type of its own; `durations[type]` is what it takes, times the agent's slowness. */
function predictor(durations: readonly number[], slowness: Readonly<Record<string, number>> = {}): Predict {
  return (type, agentId): Estimate => {
    const estimatedMs = (durations[Number(type)] ?? 0) * (slowness[agentId] ?? 1);
    return { estimatedMs, p50Ms: estimatedMs, p90Ms: estimatedMs, confidence: 0.5, basedOn: 4, scope: "type" };
  };
}

function task(at: number, more: Partial<Assignable> = {}): Assignable {
  return { taskId: `t${at}`, type: String(at), requiredCapabilities: [], priority: 5, readyAt: NOW, seq: `s${at}`, ...more };
}

function agent(at: number, more: Partial<Candidate> = {}): Candidate {
  return { agentId: `a${at}`, capabilities: [], tasks: 0, predictedMs: 0, ...more };
}

const durations = (min: number, max: number) => fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: min, maxLength: max });
const skills = fc.subarray(SKILLS);

/** The shortest possible time in which so many agents that are alike do all of it, by trying every way. */
function shortestMakespan(work: readonly number[], agents: number): number {
  const load = new Array<number>(agents).fill(0);
  const put = (at: number): number => {
    const next = work[at];
    if (next === undefined) return Math.max(...load);
    let best = Number.POSITIVE_INFINITY;
    for (let to = 0; to < agents; to++) {
      load[to] = (load[to] ?? 0) + next;
      best = Math.min(best, put(at + 1));
      load[to] = (load[to] ?? 0) - next;
    }
    return best;
  };
  return put(0);
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, at) => permutations(items.filter((_, other) => other !== at)).map((rest) => [item, ...rest]));
}

const plans = fc.record({
  strategy: fc.constantFrom(...STRATEGIES),
  work: durations(0, 12),
  needs: fc.array(skills, { minLength: 12, maxLength: 12 }),
  priorities: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 12, maxLength: 12 }),
  deadlines: fc.array(fc.option(fc.integer({ min: 0, max: 3_000 }), { nil: undefined }), { minLength: 12, maxLength: 12 }),
  ready: fc.array(fc.option(fc.integer({ min: -5_000, max: 2_000 }), { nil: undefined }), { minLength: 12, maxLength: 12 }),
  agents: fc.array(
    fc.record({
      has: skills,
      tasks: fc.integer({ min: 0, max: 3 }),
      predictedMs: fc.integer({ min: 0, max: 2_000 }),
      maxLoad: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
      slowness: fc.integer({ min: 1, max: 3 }),
    }),
    { maxLength: 4 },
  ),
});

type Given = typeof plans extends fc.Arbitrary<infer Value> ? Value : never;

function assigningOf(given: Given): Assigning {
  return {
    strategy: given.strategy,
    tasks: given.work.map((_, at) =>
      task(at, {
        requiredCapabilities: given.needs[at] ?? [],
        priority: given.priorities[at] ?? 5,
        deadlineAt: given.deadlines[at] === undefined ? undefined : NOW + (given.deadlines[at] ?? 0),
        readyAt: given.ready[at] === undefined ? undefined : NOW + (given.ready[at] ?? 0),
      }),
    ),
    agents: given.agents.map(({ has, tasks, predictedMs, maxLoad }, at) =>
      agent(at, { capabilities: has, tasks, predictedMs, maxLoad }),
    ),
    predict: predictor(given.work, Object.fromEntries(given.agents.map(({ slowness }, at) => [`a${at}`, slowness]))),
    now: NOW,
  };
}

describe("every strategy", () => {
  test("gives each task once to an agent that can do it and has room, or says why nobody gets it", () => {
    verifies("TASK-17");
    fc.assert(
      fc.property(plans, (given) => {
        const input = assigningOf(given);
        const plan = planAssignments(input);
        const seen = [...plan.assignments, ...plan.unassigned].map(({ taskId }) => taskId);
        expect(seen.sort()).toEqual(input.tasks.map(({ taskId }) => taskId).sort());
        const byId = new Map(input.tasks.map((one) => [one.taskId, one]));
        const load = loadOf(input.agents, plan.assignments);
        for (const { taskId, agentId, estimatedDurationMs } of plan.assignments) {
          const given = byId.get(taskId);
          const candidate = input.agents.find((one) => one.agentId === agentId);
          expect(given && candidate && canDo(candidate, given)).toBe(true);
          expect(estimatedDurationMs).toBe(input.predict(given?.type ?? "", agentId).estimatedMs);
        }
        for (const [at, { tasks }] of load.entries()) {
          const { maxLoad = Number.POSITIVE_INFINITY, tasks: before = 0 } = input.agents[at] ?? {};
          expect(tasks).toBeLessThanOrEqual(Math.max(maxLoad, before));
        }
        for (const { taskId, reason, missingCapabilities = [] } of plan.unassigned) {
          const wanted = byId.get(taskId);
          const able = input.agents.filter((one) => wanted && canDo(one, wanted));
          for (const one of able) {
            expect(load.find(({ agentId }) => agentId === one.agentId)?.tasks).toBeGreaterThanOrEqual(one.maxLoad ?? 1e9);
          }
          expect(reason).toMatch(/\.$/);
          for (const one of missingCapabilities) expect(wanted?.requiredCapabilities).toContain(one);
          expect(missingCapabilities.length > 0).toBe(able.length === 0 && input.agents.length > 0);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("plans the same in whatever order tasks and agents are given", () => {
    verifies("TASK-17");
    fc.assert(
      fc.property(plans, (given) => {
        const input = assigningOf(given);
        const sorted = (plan: ReturnType<typeof planAssignments>) =>
          [...plan.assignments].sort((a, b) => (a.taskId < b.taskId ? -1 : 1));
        const mirrored = planAssignments({ ...input, tasks: [...input.tasks].reverse(), agents: [...input.agents].reverse() });
        expect(sorted(mirrored)).toEqual(sorted(planAssignments(input)));
      }),
      { numRuns: 300 },
    );
  });

  test("says when each task ends if its agent works in the order of claiming, and which are late", () => {
    verifies("TASK-17");
    fc.assert(
      fc.property(plans, (given) => {
        const input = assigningOf(given);
        const { assignments } = planAssignments(input);
        for (const { agentId, predictedMs } of input.agents) {
          const own = assignments.filter((one) => one.agentId === agentId && one.estimatedFinishAt !== undefined);
          own.sort((a, b) => (a.estimatedFinishAt ?? 0) - (b.estimatedFinishAt ?? 0));
          let freeAt = NOW + predictedMs;
          for (const { taskId, estimatedDurationMs, estimatedFinishAt = 0, late } of own) {
            const { readyAt = 0, deadlineAt } = input.tasks.find((one) => one.taskId === taskId) ?? task(0);
            expect(estimatedFinishAt).toBe(Math.max(freeAt, readyAt) + estimatedDurationMs);
            expect(late ?? false).toBe(deadlineAt !== undefined && estimatedFinishAt > deadlineAt);
            freeAt = estimatedFinishAt;
          }
        }
        const blocked = new Set(input.tasks.filter(({ readyAt }) => readyAt === undefined).map(({ taskId }) => taskId));
        for (const one of assignments) expect(one.estimatedFinishAt === undefined).toBe(blocked.has(one.taskId));
      }),
      { numRuns: 300 },
    );
  });

  test("scores the balance of what agents have afterwards: 1 - (most - least) / most", () => {
    verifies("TASK-17");
    fc.assert(
      fc.property(plans, (given) => {
        const input = assigningOf(given);
        const { assignments } = planAssignments(input);
        const work = input.agents.map(
          ({ agentId, predictedMs }) =>
            predictedMs +
            assignments.filter((one) => one.agentId === agentId).reduce((sum, one) => sum + one.estimatedDurationMs, 0),
        );
        const load = loadOf(input.agents, assignments);
        expect(load.map(({ predictedMs }) => predictedMs)).toEqual(work);
        const most = Math.max(...work);
        const truth = work.length === 0 || most === 0 ? 1 : Math.min(...work) / most;
        expect(balanceScore(load)).toBeCloseTo(truth, 1);
        expect(Math.abs(balanceScore(load) - truth)).toBeLessThanOrEqual(0.005 + 1e-9);
      }),
    );
  });
});

describe("longest first", () => {
  test.each(["compute_optimized", "load_balanced"] as const)(
    "%s needs at most 4/3 - 1/(3m) of the shortest possible time on m agents that are alike",
    (strategy) => {
      verifies("TASK-17");
      fc.assert(
        fc.property(durations(1, 8), fc.integer({ min: 1, max: 3 }), (work, count) => {
          const agents = Array.from({ length: count }, (_, at) => agent(at));
          const tasks = work.map((_, at) => task(at));
          const { assignments } = planAssignments({ strategy, tasks, agents, predict: predictor(work), now: NOW });
          const makespan = Math.max(...loadOf(agents, assignments).map(({ predictedMs }) => predictedMs));
          expect(makespan).toBeLessThanOrEqual((4 / 3 - 1 / (3 * count)) * shortestMakespan(work, count) + 1e-9);
        }),
        { numRuns: 300 },
      );
    },
  );

  test("goes to an agent that is so much faster that it is done earlier in spite of what it has", () => {
    verifies("TASK-17");
    const agents = [agent(0, { predictedMs: 500 }), agent(1)];
    const { assignments } = planAssignments({
      strategy: "compute_optimized",
      tasks: [task(0)],
      agents,
      predict: predictor([1_000], { a1: 2 }),
      now: NOW,
    });
    expect(assignments[0]).toMatchObject({ agentId: "a0", estimatedDurationMs: 1_000, estimatedFinishAt: NOW + 1_500 });
  });
});

describe("earliest deadline first", () => {
  test("meets all deadlines on one agent whenever any order does", () => {
    verifies("TASK-17", "TASK-10");
    let feasible = 0;
    const work = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 150 })), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(work, (given) => {
        const tasks = given.map(([, deadline], at) => task(at, { deadlineAt: NOW + deadline }));
        const plan = planAssignments({
          strategy: "deadline_aware",
          tasks,
          agents: [agent(0)],
          predict: predictor(given.map(([duration]) => duration)),
          now: NOW,
        });
        const canBeDone = permutations(given).some((order) => {
          let at = 0;
          return order.every(([duration, deadline]) => {
            at += duration;
            return at <= deadline;
          });
        });
        if (canBeDone) feasible++;
        expect(plan.assignments.every(({ late }) => late === undefined)).toBe(canBeDone);
      }),
      { numRuns: 400 },
    );
    expect(feasible).toBeGreaterThan(0);
  });

  test("gives each task, by deadline, to the agent that finishes it earliest", () => {
    verifies("TASK-17");
    fc.assert(
      fc.property(durations(1, 8), fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 }), (work, slow) => {
        const agents = slow.map((_, at) => agent(at));
        const slowness = Object.fromEntries(slow.map((times, at) => [`a${at}`, times]));
        const tasks = work.map((_, at) => task(at, { deadlineAt: NOW + 10_000 - at }));
        const predict = predictor(work, slowness);
        const plan = planAssignments({ strategy: "deadline_aware", tasks, agents, predict, now: NOW });
        const busy = new Map(agents.map(({ agentId }) => [agentId, 0]));
        for (const one of [...tasks].reverse()) {
          const finish = (agentId: string) => (busy.get(agentId) ?? 0) + predict(one.type, agentId).estimatedMs;
          const chosen = plan.assignments.find(({ taskId }) => taskId === one.taskId)?.agentId ?? "";
          expect(finish(chosen)).toBe(Math.min(...agents.map(({ agentId }) => finish(agentId))));
          busy.set(chosen, finish(chosen));
        }
      }),
    );
  });
});

describe("capability", () => {
  test("takes the agent whose capabilities a task uses best, then the one with the least work", () => {
    verifies("TASK-17");
    fc.assert(
      fc.property(fc.array(skills, { minLength: 1, maxLength: 4 }), skills, (has, needs) => {
        const agents = has.map((capabilities, at) => agent(at, { capabilities, predictedMs: (at * 7) % 3 }));
        const one = task(0, { requiredCapabilities: needs });
        const [assigned] = planAssignments({
          strategy: "capability",
          tasks: [one],
          agents,
          predict: predictor([10]),
          now: NOW,
        }).assignments;
        const able = agents.filter((candidate) => canDo(candidate, one));
        expect(assigned === undefined).toBe(able.length === 0);
        const surplus = (candidate: Candidate | undefined) => (needs.length === 0 ? 0 : (candidate?.capabilities.length ?? 0));
        const chosen = able.find(({ agentId }) => agentId === assigned?.agentId);
        for (const other of able) {
          expect(surplus(chosen)).toBeLessThanOrEqual(surplus(other));
          if (surplus(other) === surplus(chosen)) expect(chosen?.predictedMs).toBeLessThanOrEqual(other.predictedMs);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("what no agent has is named, and what no single agent has together", () => {
    verifies("TASK-17");
    const { unassigned } = planAssignments({
      strategy: "capability",
      tasks: [task(0, { requiredCapabilities: ["c", "cobol"] }), task(1, { requiredCapabilities: ["c", "go"] })],
      agents: [agent(0, { capabilities: ["c"] }), agent(1, { capabilities: ["go"] })],
      predict: predictor([1, 1]),
      now: NOW,
    });
    expect(unassigned).toEqual([
      { taskId: "t0", reason: "No agent has what it requires.", missingCapabilities: ["cobol"] },
      { taskId: "t1", reason: "No single agent has all that it requires.", missingCapabilities: ["c", "go"] },
    ]);
  });
});

describe("adaptive", () => {
  const agents = [agent(0, { capabilities: ["c"] }), agent(1, { capabilities: ["c", "go"] })];
  const chosen = (work: readonly number[], tasks: readonly Assignable[]) =>
    planAssignments({ strategy: "adaptive", tasks, agents, predict: predictor(work), now: NOW });

  test.each([
    ["deadline_aware", /1 of 2 tasks have a deadline/, [1, 1], [task(0, { deadlineAt: NOW }), task(1)]],
    ["capability", /differ in which agents can do them/, [1, 9], [task(0, { requiredCapabilities: ["go"] }), task(1)]],
    ["compute_optimized", /2\.5 times the mean/, [1, 1, 10, 4, 4], [0, 1, 2, 3, 4].map((at) => task(at))],
    ["load_balanced", /none has a deadline/, [4, 5], [task(0), task(1)]],
    ["load_balanced", /none has a deadline/, [4, 5], [0, 1].map((at) => task(at, { requiredCapabilities: ["go"] }))],
    ["load_balanced", /none has a deadline/, [], []],
  ] as const)("chooses %s by the work at hand, says why, and plans as that rule does", (strategy, why, work, tasks) => {
    verifies("TASK-17");
    const plan = chosen(work, tasks);
    expect(plan.strategy).toBe(strategy);
    expect(plan.reason).toMatch(why);
    const direct = planAssignments({ strategy, tasks, agents, predict: predictor(work), now: NOW });
    expect(plan.assignments).toEqual(direct.assignments);
    expect(direct.reason).not.toMatch(/Chosen/);
  });
});
