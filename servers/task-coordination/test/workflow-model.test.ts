import { FAILURE_POLICIES, hasEnded, isHeld, type StoredTask } from "@mcp-swarm/coordination/tasks";
import type { Store } from "@mcp-swarm/store";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { NewTask } from "../src/new-task.ts";
import { hasWorkflowEnded } from "../src/workflow-record.ts";
import { type Host, LEASE_MS, swarm } from "./support/swarm.ts";
import { checkWorkflow, readWorkflow } from "./support/workflow-invariants.ts";

const ID = "flow";
const RUNS = 200;
const STEPS_MAX = 40;
/** More rounds than any workflow of these takes to its end. */
const ROUNDS_MAX = 200;
const HOSTS = 3;
const TASKS_MAX = 9;

/** What depends on another has the lesser id, so that no order by id happens to be right. */
const idOf = (at: number) => `t${TASKS_MAX - at}`;

const newTask = (at: number, policy: string) =>
  fc.record({
    id: fc.constant(idOf(at)),
    description: fc.constant("work"),
    dependencies: at === 0 ? fc.constant([]) : fc.uniqueArray(fc.integer({ min: 0, max: at - 1 }).map(idOf), { maxLength: 3 }),
    maxAttempts: fc.constantFrom(1, 1, 2),
    backoff: fc.constant({ initialMs: 0 }),
    rollback:
      policy === "compensate"
        ? fc.option(fc.constant({ description: "undo", maxAttempts: 1, backoff: { initialMs: 0 } }), { nil: undefined, freq: 4 })
        : fc.constant(undefined),
  }) as fc.Arbitrary<NewTask & { id: string }>;

const flow = fc.constantFrom(...FAILURE_POLICIES).chain((onFailure) =>
  fc.record({
    onFailure: fc.constant(onFailure),
    execute: fc.constantFrom(true, true, false),
    /** How often a failed task is reset when the workflow has failed. */
    mendings: fc.integer({ min: 0, max: 3 }),
    /** How the work of the last phase goes, one after the other and then again. */
    outcomes: fc.array(fc.constantFrom(...(["done", "done", "done", "failed"] as const)), { minLength: 1, maxLength: 8 }),
    tasks: fc
      .integer({ min: 1, max: TASKS_MAX })
      .chain((size) => fc.tuple(...Array.from({ length: size }, (_, at) => newTask(at, onFailure)))),
  }),
);

const step = fc.record({
  what: fc.constantFrom(
    ...(["claim", "claim", "claim", "done", "done", "done", "fail", "fail", "giveBack"] as const),
    ...([
      "execute",
      "pause",
      "resume",
      "cancel",
      "cancelTask",
      "reset",
      "reset",
      "maintain",
      "expire",
      "tick",
      "extend",
    ] as const),
  ),
  host: fc.nat({ max: HOSTS - 1 }),
  task: fc.nat({ max: 8 }),
  /** Commits after which the process that does this is killed. */
  killedAfter: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined, freq: 3 }),
});

class Killed extends Error {}

/** The store of a process that is killed after so many commits. */
function killedAfter(store: Store, commits: number): Store {
  let left = commits;
  return new Proxy(store, {
    get(target, name, receiver) {
      if (name !== "transact") {
        const member: unknown = Reflect.get(target, name, receiver);
        return typeof member === "function" ? member.bind(target) : member;
      }
      return (async (plan, options) => {
        if (left-- <= 0) throw new Killed("killed");
        return target.transact(plan, options);
      }) satisfies Store["transact"];
    },
  });
}

/** What a caller may be told; everything else is a fault. */
const REFUSALS = new Set(["failed_precondition", "conflict", "not_found", "already_exists"]);

async function attempt<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Killed || REFUSALS.has((error as { code?: string }).code ?? "")) return undefined;
    throw error;
  }
}

/** Everything that depends on `id`, directly or through others. */
function dependsOn(tasks: readonly StoredTask[], task: StoredTask, id: string): boolean {
  return task.dependencies.some((on) => {
    const dependency = tasks.find((one) => one.id === on);
    return on === id || (dependency !== undefined && dependsOn(tasks, dependency, id));
  });
}

test("whatever agents, failures and kills do to a workflow, it keeps its promises and ends exactly once", async () => {
  verifies("TASK-13", "TASK-15");
  await fc.assert(
    fc.asyncProperty(
      flow,
      fc.array(step, { maxLength: STEPS_MAX, size: "max" }),
      async ({ outcomes, mendings: mendable, ...plan }, steps) => {
        let mendings = mendable;
        const { store, clock, host } = swarm();
        const hosts = Array.from({ length: HOSTS }, (_, at) => host(`agent-${at}`));
        const [first] = hosts as [Host, ...Host[]];
        let ends = 0;
        let resets = 0;
        let ended = false;
        const finished: string[] = [];
        const undone: string[] = [];
        /** Looks at the workflow after something happened. */
        const look = async () => {
          const { workflow, tasks } = await checkWorkflow(store, ID);
          const over = hasWorkflowEnded(workflow);
          if (over && !ended) ends++;
          ended = over;
          expect(ends, "one end for each run").toBeLessThanOrEqual(1 + resets);
          return { workflow, tasks };
        };

        await first.workflows.create(first.call, { ...plan, id: ID, name: "Flow" });
        await look();
        let extended = 0;
        const workOn = async (agent: Host) => {
          const before = await readWorkflow(store, ID);
          const answer = await attempt(agent.claims.claimNext(agent.call, { workflowId: ID }));
          if (!answer) return undefined;
          const { task } = answer;
          expect(before.state, `a claim of ${task.id}`).toBe(task.rollbackOf === undefined ? "running" : "compensating");
          const { tasks } = await look();
          for (const on of task.dependencies) expect(tasks.find(({ id }) => id === on)?.status).toBe("done");
          return task;
        };
        const report = async (agent: Host, task: StoredTask, status: "done" | "failed") => {
          const { id: taskId } = task;
          const output = status === "done" ? { output: `by ${taskId}` } : {};
          if (!(await attempt(agent.claims.update(agent.call, { taskId, status, ...output })))) return;
          if (status === "done") (task.rollbackOf === undefined ? finished : undone).push(task.rollbackOf ?? taskId);
        };
        for (const { what, host: at, task: which, killedAfter: kill } of steps) {
          const agent = hosts[at] ?? first;
          const call = kill === undefined ? agent.call : { ...agent.call, store: killedAfter(store, kill - 1) };
          const { tasks, workflow } = await checkWorkflow(store, ID);
          const held = tasks.filter(isHeld);
          const some = held[which % Math.max(1, held.length)];
          const holder = hosts.find(({ agentId }) => agentId === some?.claim?.by) ?? first;
          const any = tasks[which % tasks.length];
          switch (what) {
            case "claim":
              await workOn(agent);
              break;
            case "done":
            case "fail":
              if (some) await report(holder, some, what === "done" ? "done" : "failed");
              break;
            case "giveBack":
              if (some) await attempt(holder.claims.update(holder.call, { taskId: some.id, status: "available" }));
              break;
            case "execute":
            case "pause":
            case "resume":
              await attempt(agent.workflows[what](call, { workflowId: ID }));
              break;
            case "cancel":
              if (which < 2) await attempt(agent.workflows.cancel(call, { workflowId: ID }));
              break;
            case "cancelTask":
              if (any && which < 3)
                await attempt(agent.tasks.cancel(agent.call, { taskId: any.id, withDependents: which % 2 === 0 }));
              break;
            case "reset": {
              const target = tasks.find(({ status }) => status === "failed") ?? some;
              const done = target && (await attempt(agent.tasks.reset(agent.call, { taskId: target.id })));
              if (done && hasWorkflowEnded(workflow) && !hasWorkflowEnded(await readWorkflow(store, ID))) resets++;
              break;
            }
            case "maintain":
              await agent.maintain();
              break;
            case "expire":
              await clock.advance(LEASE_MS + 1);
              await agent.maintain();
              break;
            case "tick":
              await clock.advance(1);
              break;
            case "extend": {
              const task = {
                id: `x${extended++}`,
                description: "more",
                maxAttempts: 1,
                dependencies: any && !any.rollbackOf ? [any.id] : [],
              };
              await attempt(agent.workflows.addTasks(call, { workflowId: ID, tasks: [task] }));
              break;
            }
          }
          await look();
        }

        let worked = 0;
        // and then everybody works on, and it comes to its end
        for (let round = 0; ; round++) {
          expect(round, "rounds until the end").toBeLessThan(ROUNDS_MAX);
          const { workflow, tasks } = await look();
          const failed = tasks.find(({ status }) => status === "failed");
          if (workflow.state === "failed" && failed && resets < mendings) {
            if (await attempt(first.tasks.reset(first.call, { taskId: failed.id }))) {
              if (hasWorkflowEnded(workflow)) resets++;
              await look();
              continue;
            }
            mendings = 0;
          }
          if (hasWorkflowEnded(workflow) && tasks.every(hasEnded) && !(await store.get(`workflow-moving/${ID}`))) break;
          if (workflow.state === "created") await first.workflows.execute(first.call, { workflowId: ID });
          if (workflow.state === "paused") {
            expect(await workOn(first)).toBeUndefined();
            await first.workflows.resume(first.call, { workflowId: ID });
          }
          await clock.advance(1);
          for (const agent of hosts) {
            if (round % 2 === 0) await agent.maintain(); // now and then work is faster than the background
            await workOn(agent);
            const { tasks } = await look();
            const mine = tasks.filter((task) => isHeld(task) && task.claim?.by === agent.agentId);
            for (const task of mine) await report(agent, task, outcomes[worked++ % outcomes.length] ?? "done");
          }
        }

        const { workflow, tasks } = await look();
        expect(ends, "ends").toBe(1 + resets);
        const status = await first.workflows.status(first.call, { workflowId: ID, limit: 200 });
        const own = tasks.filter(({ rollbackOf }) => rollbackOf === undefined);
        const done = own.filter(({ status }) => status === "done");
        expect(status.workflow).toMatchObject({
          status: workflow.state,
          totalTasks: own.length,
          completedTasks: done.length,
          failedTasks: own.filter(({ status }) => status === "failed").length,
          progress: 100,
          success: workflow.state === "completed" && done.length === own.length,
        });
        expect(status.results.map(({ output }) => output).sort()).toEqual(done.map(({ id }) => `by ${id}`).sort());
        expect(finished.toSorted()).toEqual(done.map(({ id }) => id).sort());
        if (workflow.state === "failed") expect(status.workflow.error, "why it failed").toBeDefined();
        // whatever the workflow itself cancelled had its cause, and the cause is there to the end
        const notDone = (task: StoredTask, ...statuses: StoredTask["status"][]) =>
          task.dependencies.some((on) => tasks.some(({ id, status }) => id === on && statuses.includes(status)));
        for (const task of own) {
          const why = task.error?.code;
          if (why === "workflow_failed") expect(workflow.state, task.id).not.toBe("completed");
          if (why === "dependency_failed") expect(notDone(task, "failed", "cancelled"), task.id).toBe(true);
          if (why === "dependency_cancelled") expect(notDone(task, "cancelled"), task.id).toBe(true);
          if (workflow.state === "completed") expect(task.status, task.id).not.toBe("failed");
        }
        // each rollback once, in the reverse order of the ends of what it undoes
        expect(new Set(undone).size).toBe(undone.length);
        const toUndo = done.filter(({ rollback }) => rollback !== undefined).map(({ id }) => id);
        if (workflow.state === "compensated") expect(undone.toSorted()).toEqual(toUndo.toSorted());
        if (workflow.state === "completed") expect(undone).toEqual([]);
        for (const [at, id] of undone.entries()) {
          const task = own.find((one) => one.id === id);
          for (const later of undone.slice(at + 1)) {
            const other = own.find((one) => one.id === later);
            if (!task || !other) throw new Error("a rollback of nothing");
            expect(task.endedAt ?? 0, `${id} is undone before ${later}`).toBeGreaterThanOrEqual(other.endedAt ?? 0);
            expect(dependsOn(own, other, id), `${later} builds on ${id}`).toBe(false);
          }
        }
      },
    ),
    { numRuns: RUNS },
  );
});
