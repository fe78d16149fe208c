import { isHeld } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkTasks } from "./support/invariants.ts";
import { Model } from "./support/model.ts";
import { swarm } from "./support/swarm.ts";

const AGENTS = 3;
const REMOTE_LEASE_MS = 30_000;
/** Operations between two recounts of everything. */
const RECOUNT_EVERY = 10;

const agent = fc.nat(AGENTS - 1);
/** Picks a task by its place among those added. */
const target = fc.nat(30);
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("add" as const),
      priority: fc.integer({ min: 3, max: 6 }),
      deadlineIn: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
      dependencies: fc.array(target, { maxLength: 3 }),
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      backoffMs: fc.constantFrom(0, 1_000, 20_000),
      timeoutMs: fc.option(fc.constantFrom(5_000, 60_000), { nil: undefined }),
      delayMs: fc.constantFrom(0, 0, 0, 10_000),
      again: fc.integer({ min: 0, max: 20 }).map((roll) => roll === 0),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("claim" as const), agent, target }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("next" as const), agent }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("update" as const),
      agent,
      target,
      status: fc.constantFrom("done" as const, "done" as const, "failed" as const, "available" as const, "working" as const),
      stale: fc.integer({ min: 0, max: 8 }).map((roll) => roll === 0),
      foreign: fc.integer({ min: 0, max: 8 }).map((roll) => roll === 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("renew" as const), target }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cancel" as const), target, withDependents: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("reset" as const), target }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(1, 1_000, 30_000, 700_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("maintain" as const) }) },
);

/** What came of it, in words that both sides share. */
async function outcomeOf<T>(work: () => T | Promise<T>): Promise<{ value: T } | { code: string }> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof SwarmError) return { code: error.code };
    throw error;
  }
}

test("tasks do what a simple model of them does, whatever agents do in whatever order", async () => {
  verifies("TASK-05", "TASK-06", "TASK-07", "TASK-08", "TASK-09", "TASK-12");
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80, size: "max" }), async (steps) => {
      const { store, clock, host } = swarm();
      const hosts = Array.from({ length: AGENTS }, (_, at) =>
        host(`agent-${at}`, { remote: true, remoteLeaseMs: REMOTE_LEASE_MS }),
      );
      const model = new Model(clock.now(), REMOTE_LEASE_MS);
      const ids = () => [...model.tasks.keys()];
      const idAt = (at: number) => ids()[at % Math.max(1, ids().length)] ?? "none";
      for (const [at, one] of steps.entries()) {
        const who = hosts["agent" in one ? one.agent : 0] ?? hosts[0];
        if (!who) throw new Error("There are no hosts");
        const { agentId, call, claims, tasks } = who;
        let real: unknown;
        let modelled: unknown;
        switch (one.kind) {
          case "add": {
            const { priority, maxAttempts, backoffMs, timeoutMs } = one;
            const id = one.again && ids().length > 0 ? idAt(at) : `t${at}`;
            const dependencies = [...new Set(one.dependencies.slice(0, ids().length).map(idAt))].filter((on) => on !== id);
            const deadlineAt = one.deadlineIn && clock.now() + one.deadlineIn;
            const notBeforeAt = clock.now() + one.delayMs;
            const backoff = { initialMs: backoffMs, factor: 2, maxMs: 1_000_000 };
            real = await outcomeOf(async () => {
              await tasks.add(call, {
                id,
                description: "x",
                priority,
                maxAttempts,
                timeoutMs,
                dependencies,
                deadlineAt,
                notBeforeAt,
                backoff,
              });
            });
            modelled = await outcomeOf(() =>
              model.add({
                id,
                priority,
                maxAttempts,
                timeoutMs,
                dependencies,
                backoffMs,
                notBeforeAt,
                deadlineAt: deadlineAt ?? Number.POSITIVE_INFINITY,
              }),
            );
            break;
          }
          case "claim": {
            const taskId = idAt(one.target);
            real = await outcomeOf(async () => (await claims.claimTask(call, { taskId })).fencingToken);
            modelled = await outcomeOf(() => model.claim(agentId, taskId));
            break;
          }
          case "next":
            real = await outcomeOf(async () => {
              const claim = await claims.claimNext(call, {});
              return claim && { id: claim.task.id, token: claim.fencingToken };
            });
            modelled = await outcomeOf(() => model.claimNext(agentId));
            break;
          case "update": {
            // most often by the holder of one of the held tasks
            const held = [...model.tasks.values()].filter(isHeld);
            const task = held[one.target % Math.max(1, held.length)] ?? model.tasks.get(idAt(one.target));
            const taskId = task?.id ?? "none";
            const by = (one.foreign ? undefined : hosts.find((other) => other.agentId === task?.holder)) ?? who;
            const fencingToken = (task?.token ?? 0) - (one.stale ? 1 : 0);
            real = await outcomeOf(async () => {
              await by.claims.update(by.call, { taskId, status: one.status, fencingToken });
            });
            modelled = await outcomeOf(() => model.update(by.agentId, taskId, fencingToken, one.status));
            break;
          }
          case "renew": {
            const held = [...model.tasks.values()].filter(isHeld);
            const task = held[one.target % Math.max(1, held.length)] ?? model.tasks.get(idAt(one.target));
            const by = hosts.find((other) => other.agentId === task?.holder) ?? who;
            const renewal = { taskId: task?.id ?? "none", fencingToken: task?.token ?? 0 };
            real = await outcomeOf(async () => {
              await by.claims.renew(by.call, renewal);
            });
            modelled = await outcomeOf(() => model.renew(by.agentId, renewal.taskId, renewal.fencingToken));
            break;
          }
          case "cancel": {
            const { withDependents } = one;
            const taskId = idAt(one.target);
            real = await outcomeOf(async () => {
              await tasks.cancel(call, { taskId, withDependents });
            });
            modelled = await outcomeOf(() => model.cancel(taskId, withDependents));
            break;
          }
          case "reset": {
            const taskId = idAt(one.target);
            real = await outcomeOf(async () => {
              await tasks.reset(call, { taskId });
            });
            modelled = await outcomeOf(() => model.reset(taskId));
            break;
          }
          case "advance":
            await clock.advance(one.ms);
            model.now = clock.now();
            break;
          case "maintain":
            await who.maintain();
            model.freeDue();
        }
        expect(real, `step ${at}: ${one.kind}`).toEqual(modelled);
        const outcome = real !== undefined && typeof real === "object" && real !== null && "code" in real ? `refused` : "went";
        seen.set(`${one.kind} ${outcome}`, (seen.get(`${one.kind} ${outcome}`) ?? 0) + 1);

        const stored = at % RECOUNT_EVERY === 0 || at === steps.length - 1 ? await checkTasks(store) : undefined;
        for (const task of stored ?? []) {
          const expected = model.tasks.get(task.id);
          const { status, attempt, token, holder, leaseEnd } = expected ?? {};
          expect({ id: task.id, status: task.status, attempt: task.attempt, token: task.fencingToken }, `step ${at}`).toEqual({
            id: task.id,
            status,
            attempt,
            token,
          });
          if (isHeld(task)) expect([task.claim?.by, task.claim?.leaseExpiresAt]).toEqual([holder, leaseEnd]);
        }
        if (stored) expect(stored).toHaveLength(model.tasks.size);
      }
    }),
    { numRuns: 150 },
  );
  // the programs did go where the promises are
  for (const kind of ["add", "claim", "next", "update", "renew", "cancel", "reset"]) {
    expect(seen.get(`${kind} went`) ?? 0, kind).toBeGreaterThan(10);
  }
  for (const kind of ["claim", "update", "cancel", "reset"]) expect(seen.get(`${kind} refused`) ?? 0, kind).toBeGreaterThan(10);
});
