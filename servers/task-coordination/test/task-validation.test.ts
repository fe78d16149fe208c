import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { contentOf } from "../../../test/support/content.ts";
import { AGENT_RUNS_MIN, estimateTask, RunHistory, UNKNOWN_RUN_MS } from "../src/estimate.ts";
import type { NewTask } from "../src/new-task.ts";
import { RUNS_KEPT_MS, type RunStats } from "../src/run-stats.ts";
import { agentScope, readTallies, swarmScope } from "../src/tally.ts";
import { validateTask } from "../src/task-validation.ts";
import { checkTasks } from "./support/invariants.ts";
import { living } from "./support/presence.ts";
import { type Host, LEASE_MS, swarm } from "./support/swarm.ts";

const validate = (host: Host, task: NewTask, workflowId?: string) => validateTask(host.call, host, { task, workflowId });

/** So many runs of a type, each of the same length. */
async function run(worker: Host, clock: { advance(ms: number): Promise<void> }, type: string, durations: readonly number[]) {
  for (const ms of durations) {
    const { task } = await worker.tasks.add(worker.call, { description: "x", type });
    await worker.claims.claimTask(worker.call, { taskId: task.id });
    await clock.advance(ms);
    await worker.claims.update(worker.call, { taskId: task.id, status: "done" });
  }
}

describe("validating a task", () => {
  const ids = fc.constantFrom("old", "new", "gone", "wf-x", "spare", "bad id", "x".repeat(65));
  const task: fc.Arbitrary<NewTask> = fc.record(
    {
      id: ids,
      description: fc.constantFrom("x", "x", "x", ""),
      dependencies: fc.array(ids, { maxLength: 2 }),
      priority: fc.constantFrom(0, 5, 9, 10, -1),
      deadlineAt: fc.constantFrom(1, 1e12, 1.5),
      maxAttempts: fc.constantFrom(1, 3, 0),
      files: fc.array(fc.constantFrom("src/**", "!src", "../up", "a.ts"), { maxLength: 2 }),
      backoff: fc.record({ initialMs: fc.constantFrom(5, 10), maxMs: fc.constantFrom(1, 20) }, { requiredKeys: [] }),
      timeoutMs: fc.constantFrom(1, 1_000, 0),
    },
    { requiredKeys: ["description"] },
  );

  test("says valid exactly when adding succeeds, in a workflow or not, and changes nothing", async () => {
    verifies("TASK-18");
    const outcomes = new Set<boolean>();
    await fc.assert(
      fc.asyncProperty(task, fc.constantFrom("none", "running", "ended", "unknown"), async (given, where) => {
        const { store, host } = swarm();
        const chief = host("chief");
        await chief.tasks.addMany(chief.call, { tasks: ["old", "spare"].map((id) => ({ id, description: "x" })) });
        const { workflow } = await chief.workflows.create(chief.call, {
          name: "flow",
          execute: true,
          tasks: [{ id: "member", description: "x" }],
        });
        if (where === "ended") await chief.workflows.cancel(chief.call, { workflowId: workflow.id });
        const workflowId = where === "none" ? undefined : where === "unknown" ? "wf-000000000000" : workflow.id;
        const before = await contentOf(store);
        const { valid, problems, estimate } = await validate(chief, given, workflowId);
        expect(await contentOf(store)).toEqual(before);
        const adding =
          workflowId === undefined
            ? chief.tasks.add(chief.call, given)
            : chief.workflows.addTask(chief.call, { workflowId, task: given });
        const added = await adding.then(
          () => true,
          () => false,
        );
        expect(valid, JSON.stringify(problems)).toBe(added);
        expect(problems.length > 0).toBe(!added);
        expect(estimate !== undefined).toBe(added);
        outcomes.add(added);
      }),
      { numRuns: 300 },
    );
    expect(outcomes).toEqual(new Set([true, false]));
  });

  test("names every field that is wrong, by the name that add_task gives it", async () => {
    verifies("TASK-18");
    const { host } = swarm();
    const chief = host("chief");
    const { problems } = await validate(chief, {
      id: "bad id",
      description: "",
      expectedOutput: "",
      deadlineAt: -1,
      priority: 11,
    });
    expect(problems.map(({ field }) => field).sort()).toEqual(["deadline", "description", "id", "output", "priority"]);
    expect((await validate(chief, { description: "x", dependencies: ["no", "nor"] })).problems).toEqual([
      { field: "dependencies", problem: "There is no task no." },
      { field: "dependencies", problem: "There is no task nor." },
    ]);
    await chief.tasks.add(chief.call, { id: "there", description: "x" });
    expect((await validate(chief, { id: "there", description: "x" })).problems).toEqual([
      { field: "id", problem: "There is a task there already." },
    ]);
    const { valid, warnings } = await validate(chief, { description: "x", dependencies: ["there"] });
    expect([valid, warnings]).toEqual([true, []]);
  });

  test("warns of what would keep it from being done, or done in time", async () => {
    verifies("TASK-18");
    const { store, clock, host } = swarm();
    const [chief, worker] = [host("chief"), host("worker")];
    await living(store, clock, "worker", ["code"]);
    await chief.tasks.addMany(chief.call, {
      tasks: [
        { id: "failed", description: "x", maxAttempts: 1 },
        { id: "editing", description: "x", files: ["src/a.ts"] },
      ],
    });
    await worker.claims.claimTask(worker.call, { taskId: "failed" });
    await worker.claims.update(worker.call, { taskId: "failed", status: "failed" });
    await worker.claims.claimTask(worker.call, { taskId: "editing" });
    await run(worker, clock, "build", [900, 1_000, 1_100]);

    const now = clock.now();
    const warningsOf = async (more: Partial<NewTask>) =>
      (await validate(chief, { description: "x", type: "build", ...more })).warnings.map(
        ({ field, problem }) => `${field}: ${problem}`,
      );
    expect(await warningsOf({})).toEqual([]);
    expect(await warningsOf({ deadlineAt: now - 1 })).toEqual(["deadline: It is over already."]);
    expect(await warningsOf({ deadlineAt: now + 1_000 })).toEqual([expect.stringMatching(/^deadline: One in ten/)]);
    expect(await warningsOf({ deadlineAt: now + 60_000 })).toEqual([]);
    expect(await warningsOf({ deadlineAt: now + 60_000, notBeforeAt: now + 70_000 })).toEqual([
      "notBefore: It may begin only after its deadline.",
    ]);
    expect(await warningsOf({ timeoutMs: 500 })).toEqual([expect.stringMatching(/^timeoutMs: Half of the tasks/)]);
    expect(await warningsOf({ dependencies: ["failed"] })).toEqual([
      expect.stringMatching(/^dependencies: Task failed is failed/),
    ]);
    expect(await warningsOf({ requiredCapabilities: ["code"] })).toEqual([]);
    expect(await warningsOf({ requiredCapabilities: ["code", "sing"] })).toEqual([expect.stringMatching(/Missing: sing\.$/)]);
    const until = new Date(
      (await checkTasks(store)).find(({ id }) => id === "editing")?.claim?.leaseExpiresAt ?? 0,
    ).toISOString();
    expect(await warningsOf({ files: ["src/**"] })).toEqual([
      `files: Some are reserved by worker until ${until}, or longer if it renews; a claim would wait.`,
    ]);
    expect(await warningsOf({ files: ["docs/**"] })).toEqual([]);
  });
});

describe("estimating", () => {
  const historyOf = (durations: readonly number[]): RunHistory => {
    const meanMs = durations.reduce((sum, ms) => sum + ms, 0) / durations.length;
    const m2 = durations.reduce((sum, ms) => sum + (ms - meanMs) ** 2, 0);
    const stats: RunStats = { count: durations.length, meanMs, m2, lastAt: 0 };
    return new RunHistory({ runs: new Map([["t", stats]]), runMs: {} }, new Map(), 0);
  };

  test("goes by the agent's own runs, then the type's, then the swarm's, then by nothing", async () => {
    verifies("TASK-18");
    const { clock, host } = swarm();
    const [quick, slow, fresh] = [host("quick"), host("slow"), host("fresh")];
    expect(await estimateTask(fresh.call.store, {})).toEqual({
      type: "general",
      queued: 0,
      expectedWaitMs: 0,
      estimate: {
        estimatedMs: UNKNOWN_RUN_MS,
        p50Ms: UNKNOWN_RUN_MS,
        p90Ms: UNKNOWN_RUN_MS,
        confidence: 0,
        basedOn: 0,
        scope: "none",
      },
    });
    await run(quick, clock, "build", [100, 100, 100]);
    await run(slow, clock, "build", Array(AGENT_RUNS_MIN - 1).fill(400));
    const of = async (type: string, agentId?: string) => (await estimateTask(fresh.call.store, { type, agentId })).estimate;
    expect(await of("build", "quick")).toMatchObject({
      scope: "agent+type",
      basedOn: 3,
      estimatedMs: 100,
      p50Ms: 100,
      p90Ms: 100,
    });
    for (const agentId of ["slow", "fresh", undefined]) {
      expect(await of("build", agentId)).toMatchObject({ scope: "type", basedOn: 5, estimatedMs: 220 });
    }
    const other = await of("deploy");
    expect(other).toMatchObject({ scope: "swarm", basedOn: 5 });
    expect(Math.abs(other.estimatedMs - 220)).toBeLessThanOrEqual(0.091 * 220 + 1);
    await slow.tasks.add(slow.call, { id: "mine", description: "x", type: "build" });
    await quick.claims.claimTask(quick.call, { taskId: "mine" });
    expect(await estimateTask(fresh.call.store, { taskId: "mine" })).toMatchObject({
      type: "build",
      agentId: "quick",
      estimate: { scope: "agent+type" },
    });
    await expect(estimateTask(fresh.call.store, { taskId: "none" })).rejects.toEqual(
      expect.objectContaining({ code: "not_found" }),
    );
  });

  test("forgets runs of a type that nobody ran for RUNS_KEPT_MS, an agent's own and all", async () => {
    verifies("TASK-18");
    const { clock, host } = swarm();
    const [old, fresh] = [host("old"), host("fresh")];
    const scopeOf = async (type: string, agentId: string) =>
      (await estimateTask(fresh.call.store, { type, agentId })).estimate.scope;
    await run(old, clock, "build", [100, 100, 100]);
    await clock.advance(RUNS_KEPT_MS - 60_000);
    expect(await scopeOf("build", "old")).toBe("agent+type");
    await run(fresh, clock, "build", [50]);
    await clock.advance(60_000);
    expect(await scopeOf("build", "old")).toBe("type"); // its own are too old
    await clock.advance(RUNS_KEPT_MS);
    expect(await scopeOf("build", "old")).toBe("swarm");
    await run(old, clock, "deploy", [100]);
    const [swarmTally, own] = await readTallies(old.call.store, [swarmScope, agentScope("old")]);
    expect([...(own?.runs.keys() ?? [])]).toEqual(["deploy"]);
    expect(swarmTally?.runs.has("deploy")).toBe(true);
  });

  test("tells how long a new task waits behind others at the rate at which tasks were done lately", async () => {
    verifies("TASK-18");
    const { clock, host } = swarm();
    const worker = host("worker");
    await worker.tasks.addMany(worker.call, { tasks: Array.from({ length: 10 }, () => ({ description: "x", type: "later" })) });
    expect(await estimateTask(worker.call.store, {})).not.toHaveProperty("expectedWaitMs");
    await run(worker, clock, "build", Array(30).fill(1_000)); // 30 in the last 15 minutes: two a minute
    expect(await estimateTask(worker.call.store, {})).toMatchObject({ queued: 10, expectedWaitMs: 5 * 60_000 });
  });

  test("is surer the more runs there are and the less they differ, and never orders its percentiles wrongly", () => {
    verifies("TASK-18", "TASK-17");
    const durations = fc.array(fc.integer({ min: 1, max: 1_000_000 }), { minLength: 1, maxLength: 50 });
    const predict = (runs: readonly number[]) => historyOf(runs).predict("t");
    fc.assert(
      fc.property(durations, (runs) => {
        const { estimatedMs, p50Ms, p90Ms, confidence, basedOn } = predict(runs);
        expect(basedOn).toBe(runs.length);
        expect(estimatedMs).toBe(Math.round(runs.reduce((sum, ms) => sum + ms, 0) / runs.length));
        expect(p50Ms).toBeLessThanOrEqual(estimatedMs);
        expect(p50Ms).toBeLessThanOrEqual(p90Ms);
        expect(confidence).toBeGreaterThanOrEqual(0);
        expect(confidence).toBeLessThan(1);
        expect(predict([...runs, ...runs]).confidence).toBeGreaterThanOrEqual(confidence);
        expect(predict(runs.map(() => 7)).confidence).toBeGreaterThanOrEqual(confidence);
      }),
    );
    expect(predict(Array(400).fill(7)).confidence).toBe(0.99);
    expect(predict([500, 500, 500, 500]).confidence).toBe(0.5);
    expect(predict([100, 900, 100, 900]).confidence).toBeLessThan(0.3); // as many runs, which differ
  });

  test("of skewed run times is near their true percentiles", () => {
    verifies("TASK-18");
    // run times whose logarithms are spread evenly around e^8 as those of the normal distribution are
    const runs = Array.from({ length: 999 }, (_, at) => Math.exp(8 + 0.5 * probit((at + 1) / 1_000)));
    const { p50Ms, p90Ms } = historyOf(runs).predict("t");
    expect(Math.abs(p50Ms / (runs[499] ?? 0) - 1)).toBeLessThan(0.05);
    expect(Math.abs(p90Ms / (runs[899] ?? 0) - 1)).toBeLessThan(0.05);
  });
});

/** The normal distribution's quantile, by bisection of its distribution function (Abramowitz and Stegun 26.2.17). */
function probit(fraction: number): number {
  const below = (x: number): number => {
    const t = 1 / (1 + 0.2316419 * Math.abs(x));
    const tail =
      (Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)) *
      (t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))));
    return x >= 0 ? 1 - tail : tail;
  };
  let [low, high] = [-8, 8];
  for (let round = 0; round < 60; round++) {
    const middle = (low + high) / 2;
    if (below(middle) < fraction) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

test("an estimate of a swarm at rest stays what it was", async () => {
  verifies("TASK-18");
  const { clock, host } = swarm();
  const worker = host("worker");
  await run(worker, clock, "build", [10, 20, 30]);
  const before = (await estimateTask(worker.call.store, { type: "build" })).estimate;
  await clock.advance(100 * LEASE_MS);
  expect((await estimateTask(worker.call.store, { type: "build" })).estimate).toEqual(before);
});
