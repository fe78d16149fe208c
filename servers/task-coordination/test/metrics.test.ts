import { hasEnded, isHeld, type StoredTask, type TaskChange } from "@mcp-swarm/coordination/tasks";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type Durations, getMetrics, type Metrics, OVERDUE_MAX } from "../src/metrics.ts";
import { DONE_MINUTES_MAX, donePerMinute, PERCENTILE_ERROR, readTally, swarmScope } from "../src/tally.ts";
import { checkTasks } from "./support/invariants.ts";
import { living } from "./support/presence.ts";
import { type Host, swarm } from "./support/swarm.ts";

const MINUTE = 60_000;

const metricsOf = (host: Host, scope: Metrics["scope"], id?: string) => getMetrics(host.call, { scope, id }, host.slots);

/** The value that so many of the sorted ones do not exceed: the nearest rank. */
function rank(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] ?? 0;
}

function expectDurations(told: Durations | undefined, values: readonly number[]): void {
  expect(told?.count).toBe(values.length);
  for (const [read, fraction] of [
    [told?.p50, 0.5],
    [told?.p90, 0.9],
    [told?.p99, 0.99],
  ] as const) {
    if (values.length === 0) expect(read).toBeUndefined();
    else
      expect(Math.abs((read ?? -1) - rank(values, fraction))).toBeLessThanOrEqual(1 + PERCENTILE_ERROR * rank(values, fraction));
  }
}

/** How long each claim waited and each done attempt ran, from the histories alone. */
function timesOf(tasks: readonly StoredTask[]): { waits: number[]; runs: { by: string; ms: number }[] } {
  const waits: number[] = [];
  const runs: { by: string; ms: number }[] = [];
  for (const { history } of tasks) {
    let readyAt = 0;
    let claimed: TaskChange | undefined;
    for (const change of history) {
      // a holder that died does not cost the task its place
      if (change.to === "available" && change.from !== "available" && change.event !== "lease_expired") readyAt = change.at;
      if (change.event === "claimed") {
        waits.push(change.at - readyAt);
        claimed = change;
      }
      if (change.event === "done" && claimed) runs.push({ by: claimed.by, ms: change.at - claimed.at });
    }
  }
  return { waits, runs };
}

/** Tasks done per minute, by the ends that the records tell. */
function throughput(tasks: readonly StoredTask[], now: number, minutes: number): number {
  const current = Math.floor(now / MINUTE);
  const part = 1 - (now % MINUTE) / MINUTE;
  const counted = tasks.map(({ status, endedAt = 0 }) => {
    const ago = current - Math.floor(endedAt / MINUTE);
    return status !== "done" || ago > minutes ? 0 : ago === minutes ? part : 1;
  });
  return counted.reduce((sum, one) => sum + one, 0) / minutes;
}

function expectRecount(told: Metrics, tasks: readonly StoredTask[], now: number): void {
  const counts: Record<string, number> = {};
  for (const { status } of tasks) counts[status] = (counts[status] ?? 0) + 1;
  expect(told.counts).toEqual(counts);
  expect(told.open).toBe(tasks.filter((task) => !hasEnded(task)).length);
  expect(told.overdue).toBe(
    tasks.filter((task) => !hasEnded(task) && task.deadlineAt !== undefined && task.deadlineAt < now).length,
  );
  expect(told.overdueAtLeast).toBeUndefined();
  const { waits, runs } = timesOf(tasks);
  expectDurations(told.waitMs, waits);
  expectDurations(
    told.runMs,
    runs.map(({ ms }) => ms),
  );
  expect(told.errorPercent).toBeCloseTo(PERCENTILE_ERROR * 100);
  for (const [name, minutes] of [
    ["last1Min", 1],
    ["last15Min", 15],
    ["last60Min", 60],
  ] as const) {
    expect(Math.abs(told.donePerMinute[name] - throughput(tasks, now, minutes))).toBeLessThanOrEqual(0.005 + 1e-9);
  }
  const events = { claimed: 0, retried: 0, expired: 0, done: 0 };
  for (const change of tasks.flatMap(({ history }) => history)) {
    if (change.event === "claimed") events.claimed++;
    if (change.event === "lease_expired") events.expired++;
    if (change.event === "done") events.done++;
    if (/^(attempt_failed|timed_out|lease_expired)$/.test(change.event) && change.to !== "failed") events.retried++;
  }
  for (const [name, count] of Object.entries(events)) {
    expect(told.events[name as keyof typeof events] ?? 0, name).toBe(count);
  }
}

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ what: fc.constant("add" as const), member: fc.boolean(), dueInMs: fc.option(fc.nat(100_000)) }),
  },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("claim" as const), host: fc.nat(2) }) },
  {
    weight: 3,
    arbitrary: fc.record({ what: fc.constantFrom("done" as const, "fail" as const, "die" as const), host: fc.nat(2) }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("cancel" as const), which: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("wait" as const), ms: fc.oneof(fc.nat(500), fc.nat(20 * MINUTE)) }) },
);

test("after whatever happened, metrics are what a recount of all records says, percentiles within the error they state", async () => {
  verifies("TASK-19", "TASK-10");
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
      const { store, clock, host } = swarm();
      // remote: nothing renews for them, so that a lease ends when nobody reports
      const hosts = ["ann", "bob", "cyd"].map((agentId) => host(agentId, { remote: true, remoteLeaseMs: 4 * MINUTE }));
      const [first] = hosts;
      if (!first) return;
      const { workflow } = await first.workflows.create(first.call, {
        name: "flow",
        onFailure: "continue",
        execute: true,
        tasks: [{ id: "anchor", description: "keeps it open", notBeforeAt: clock.now() + 1e12 }],
      });
      for (const one of steps) {
        const actor = hosts["host" in one ? one.host : 0] ?? first;
        if (one.what === "add") {
          const deadline = one.dueInMs === null ? {} : { deadlineAt: clock.now() + one.dueInMs };
          const task = { description: "x", maxAttempts: 2, backoff: { initialMs: 50 }, ...deadline };
          if (one.member) await actor.workflows.addTask(actor.call, { workflowId: workflow.id, task });
          else await actor.tasks.add(actor.call, task);
        } else if (one.what === "claim") await actor.claims.claimNext(actor.call, {});
        else if (one.what === "wait") await clock.advance(one.ms);
        else if (one.what === "cancel") {
          const open = (await checkTasks(store)).filter((task) => !hasEnded(task) && task.workflowId === undefined);
          const chosen = open[one.which % Math.max(1, open.length)];
          if (chosen) await actor.tasks.cancel(actor.call, { taskId: chosen.id });
        } else {
          const mine = (await checkTasks(store)).find((task) => isHeld(task) && task.claim?.by === actor.agentId);
          if (!mine) continue;
          if (one.what === "die") {
            await clock.advance(4 * MINUTE);
            await first.maintain();
          } else {
            const status = one.what === "done" ? "done" : "failed";
            await actor.claims.update(actor.call, { taskId: mine.id, status });
          }
        }
      }
      await first.maintain();
      const tasks = await checkTasks(store);
      expectRecount(await metricsOf(first, "swarm"), tasks, clock.now());
      const members = tasks.filter(({ workflowId }) => workflowId === workflow.id);
      expectRecount(await metricsOf(first, "workflow", workflow.id), members, clock.now());
      for (const { agentId } of hosts) {
        const told = await metricsOf(first, "agent", agentId);
        const held = tasks.filter((task) => isHeld(task) && task.claim?.by === agentId);
        expect(told.open).toBe(held.length);
        expect(told.overdue).toBe(held.filter(({ deadlineAt = Number.POSITIVE_INFINITY }) => deadlineAt < clock.now()).length);
        const runs = timesOf(tasks).runs.filter(({ by }) => by === agentId);
        expect(told.events.done ?? 0).toBe(runs.length);
        expectDurations(
          told.runMs,
          runs.map(({ ms }) => ms),
        );
        expect(told.waitMs).toBeUndefined();
      }
    }),
    { numRuns: 40 },
  );
});

describe("metrics", () => {
  test("show the load of each living agent and the slots in use", async () => {
    verifies("TASK-19");
    const { store, clock, host } = swarm();
    const [ann, bob] = [host("ann"), host("bob")];
    for (const agentId of ["ann", "bob"]) await living(store, clock, agentId);
    await ann.tasks.addMany(ann.call, {
      tasks: Array.from({ length: 6 }, (_, at) => ({ id: `t${at}`, description: "x", maxAttempts: 1 })),
    });
    await ann.assignments.assign(ann.call, { strategy: "load_balanced", taskIds: ["t4", "t5"], agents: [{ agentId: "bob" }] });
    await ann.slots.claim(ann.call, {});
    for (const taskId of ["t0", "t1", "t2"]) await ann.claims.claimTask(ann.call, { taskId });
    await clock.advance(1_000);
    await ann.claims.update(ann.call, { taskId: "t0", status: "done" });
    await ann.claims.update(ann.call, { taskId: "t1", status: "failed" });
    const { agents, slots, moreAgents } = await metricsOf(bob, "swarm");
    expect(agents).toEqual([
      { agentId: "ann", held: 1, assigned: 0, done: 1, failed: 1, meanRunMs: expect.any(Number) },
      { agentId: "bob", held: 0, assigned: 2, done: 0, failed: 0 },
    ]);
    expect(Math.abs((agents?.[0]?.meanRunMs ?? 0) - 1_000)).toBeLessThanOrEqual(PERCENTILE_ERROR * 1_000 + 1);
    expect(slots).toEqual({ slots: 5, used: 1 });
    expect(moreAgents).toBeUndefined();
  });

  test("say that there are at least so many overdue tasks when there are too many to look at", async () => {
    verifies("TASK-10", "TASK-19");
    const { host } = swarm();
    const ann = host("ann");
    for (let call = 0; call < 3; call++) {
      const tasks = Array.from({ length: 400 }, () => ({ description: "x", deadlineAt: 1 }));
      await ann.tasks.addMany(ann.call, { tasks });
    }
    expect(await metricsOf(ann, "swarm")).toMatchObject({ overdue: OVERDUE_MAX, overdueAtLeast: true, open: 1_200 });
  });

  test("of what is not there are refused", async () => {
    verifies("TASK-19");
    const { host } = swarm();
    const ann = host("ann");
    const coded = (code: string) => expect.objectContaining({ code });
    await expect(metricsOf(ann, "workflow", "wf-000000000000")).rejects.toEqual(coded("not_found"));
    await expect(metricsOf(ann, "workflow")).rejects.toEqual(coded("invalid_argument"));
    await expect(metricsOf(ann, "swarm", "x")).rejects.toEqual(coded("invalid_argument"));
    expect(await metricsOf(ann, "agent")).toMatchObject({ id: "ann", open: 0, runMs: { count: 0 } });
  });

  test("remember throughput by the minute for an hour, and no longer, whatever process counted", async () => {
    verifies("TASK-19");
    const { store, clock, host } = swarm();
    const hosts = Array.from({ length: 4 }, (_, at) => host(`h${at}`, { remote: true }));
    let done = 0;
    for (let minute = 0; minute < 150; minute++) {
      await clock.advance(MINUTE);
      for (const worker of hosts.slice(0, 1 + (minute % hosts.length))) {
        const { task } = await worker.tasks.add(worker.call, { description: "x" });
        await worker.claims.claimTask(worker.call, { taskId: task.id });
        await worker.claims.update(worker.call, { taskId: task.id, status: "done" });
        done++;
      }
    }
    const tally = await readTally(store, swarmScope);
    expect(tally.events.done).toBe(done);
    expect(tally.done?.counts.length).toBeLessThanOrEqual(DONE_MINUTES_MAX + 1);
    const tasks = await checkTasks(store);
    for (const minutes of [1, 2, 15, 60]) {
      expect(donePerMinute(tally, clock.now(), minutes)).toBeCloseTo(throughput(tasks, clock.now(), minutes), 9);
    }
    expect(donePerMinute(tally, clock.now() + 2 * 60 * MINUTE, 60)).toBe(0);
  });
});
