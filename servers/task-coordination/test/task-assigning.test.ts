import { Maintenance } from "@mcp-swarm/coordination";
import { hasEnded, type StoredTask } from "@mcp-swarm/coordination/tasks";
import { seededRandom } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { STRATEGIES } from "../src/assignment.ts";
import { assigneesJob } from "../src/task-assignees.ts";
import { isFor } from "../src/task-queue.ts";
import { checkTasks } from "./support/invariants.ts";
import { type Living, living } from "./support/presence.ts";
import { type Host, LEASE_MS, swarm } from "./support/swarm.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

async function assigned(store: Parameters<typeof checkTasks>[0]): Promise<Record<string, string | undefined>> {
  return Object.fromEntries((await checkTasks(store)).map(({ id, assignedTo }) => [id, assignedTo]));
}

describe("an assignment", () => {
  test("is for its agent and the agent's subagents alone, whatever it waits for", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const [chief, left, right] = [host("chief"), host("left"), host("right")];
    for (const agentId of ["left", "right"]) await living(store, clock, agentId);
    await chief.tasks.addMany(chief.call, {
      tasks: [
        { id: "a", description: "x", priority: 9 },
        { id: "b", description: "x", dependencies: ["a"] },
        { id: "c", description: "x", notBeforeAt: clock.now() + 1_000 },
      ],
    });
    const answer = await chief.assignments.assign(chief.call, { strategy: "load_balanced", agents: [{ agentId: "left" }] });
    expect(answer).toMatchObject({
      unassigned: [],
      load: [{ agentId: "left", tasks: 3 }],
      balanceScore: 1,
      strategy: "load_balanced",
      more: false,
    });
    expect(await assigned(store)).toEqual({ a: "left", b: "left", c: "left" });
    await chief.tasks.add(chief.call, { id: "free", description: "x", priority: 0 });

    const refused = right.claims.claimTask(right.call, { taskId: "a" });
    await expect(refused).rejects.toEqual(code("failed_precondition", /Task a is assigned to left, which is alive/));
    expect((await right.tasks.available(right.call, {})).tasks.map(({ id }) => id)).toEqual(["free"]);
    expect((await right.claims.claimNext(right.call, {}))?.task.id).toBe("free");
    expect(await right.claims.claimNext(right.call, {})).toBeUndefined();
    expect((await left.tasks.available(left.call, {})).tasks.map(({ id }) => id)).toEqual(["a"]);
    const taken = await left.claims.claimNext(left.call, { workerId: "helper" });
    expect(taken?.task).toMatchObject({ id: "a", claimedBy: "left/helper", assignedTo: "left" });
    await left.claims.update(left.call, { taskId: "a", status: "done", workerId: "helper" });
    await clock.advance(1_001);
    await left.maintain();
    for (const id of ["b", "c"]) expect((await left.claims.claimNext(left.call, {}))?.task.id).toBe(id);
    await checkTasks(store);
  });

  test("stays while its agent renews its presence, and not a second longer than its last lease", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const [chief, other] = [host("chief"), host("other")];
    const agent = await living(store, clock, "agent");
    const maintenance = new Maintenance({ clock, random: seededRandom(7), onError: (error) => expect(error).toBeUndefined() });
    for (const job of other.jobs) maintenance.add(job);
    maintenance.start();
    await chief.tasks.addMany(chief.call, {
      tasks: [
        { id: "a", description: "x" },
        { id: "b", description: "x", dependencies: ["a"] },
      ],
    });
    await chief.assignments.assign(chief.call, { strategy: "capability", agents: [{ agentId: "agent" }] });
    await clock.advance(10 * LEASE_MS);
    expect(await assigned(store)).toEqual({ a: "agent", b: "agent" });

    agent.kill();
    const waiting = other.claims.claimNext(other.call, {}, { waitMs: 50_000 });
    let gotAt: number | undefined;
    void waiting.then(() => {
      gotAt = clock.now();
    });
    const killedAt = clock.now();
    for (let second = 0; second < 50 && gotAt === undefined; second++) await clock.advance(1_000);
    expect((await waiting)?.task.id).toBe("a");
    expect((gotAt ?? 0) - killedAt).toBeLessThanOrEqual(LEASE_MS + 2_000); // seen at the end of the second in which it came
    expect(await assigned(store)).toEqual({ a: undefined, b: undefined });
    await maintenance.stop();
  });

  test("to an agent that is gone keeps nobody from claiming the task by its id at once", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const [chief, other] = [host("chief"), host("other")];
    const agent = await living(store, clock, "agent");
    await chief.tasks.add(chief.call, { id: "a", description: "x" });
    await chief.assignments.assign(chief.call, { strategy: "adaptive" });
    await agent.presence.leave();
    expect((await other.claims.claimTask(other.call, { taskId: "a" })).task).toMatchObject({ claimedBy: "other" });
    expect(await assigned(store)).toEqual({ a: undefined });
  });

  test("of a failed task that is reset holds again, or is given up when its agent is gone by then", async () => {
    verifies("TASK-17", "TASK-09");
    const { store, clock, host } = swarm();
    const [chief, worker] = [host("chief"), host("agent", { remote: true })];
    const agent = await living(store, clock, "agent");
    await chief.tasks.add(chief.call, { id: "a", description: "x", maxAttempts: 1 });
    await chief.assignments.assign(chief.call, { strategy: "load_balanced" });
    const fail = async () => {
      await worker.claims.claimNext(worker.call, {});
      await worker.claims.update(worker.call, { taskId: "a", status: "failed" });
    };
    await fail();
    await chief.tasks.reset(chief.call, { taskId: "a" });
    expect(await assigned(store)).toEqual({ a: "agent" });
    await fail();
    agent.kill();
    await clock.advance(LEASE_MS + 1);
    await chief.maintain(); // nothing open is left of it
    await chief.tasks.reset(chief.call, { taskId: "a" });
    await checkTasks(store);
    await chief.maintain();
    expect(await assigned(store)).toEqual({ a: undefined });
  });

  test("stays when its agent comes back while it is about to be freed", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    const agent = await living(store, clock, "agent");
    await chief.tasks.add(chief.call, { id: "a", description: "x" });
    await chief.assignments.assign(chief.call, { strategy: "load_balanced" });
    let writes = 0;
    const job = assigneesJob(
      {
        scan: (range) => store.scan(range),
        now: () => store.now(),
        async transact(plan) {
          writes++;
          await living(store, clock, "agent");
          return store.transact(plan);
        },
      },
      chief.context,
    );
    for (let round = 0; round < 10; round++) {
      await job.run();
      await clock.advance(LEASE_MS / 2);
    }
    expect(writes).toBe(0); // while it lives it is only looked at
    await agent.presence.leave();
    await clock.advance(LEASE_MS);
    await job.run();
    expect(writes).toBe(1);
    expect(await assigned(store)).toEqual({ a: "agent" });
  });

  test("of very many tasks is given up as a whole when its agent dies", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    const agent = await living(store, clock, "agent");
    const tasks = Array.from({ length: 450 }, (_, at) => ({ id: `t${at}`, description: "x" }));
    await chief.tasks.addMany(chief.call, { tasks });
    await chief.assignments.assign(chief.call, { strategy: "load_balanced" });
    agent.kill();
    await clock.advance(LEASE_MS + 1);
    for (let round = 0; round < 4; round++) await chief.maintain();
    expect(Object.values(await assigned(store)).filter((agentId) => agentId !== undefined)).toEqual([]);
    expect(await store.scan({ from: "task-assignee/", before: "task-assignee0", limit: 10 })).toEqual([]);
  });
});

describe("assigning", () => {
  test("leaves out and names what was claimed, ended or assigned while it planned", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const [chief, other] = [host("chief"), host("other")];
    for (const agentId of ["left", "other"]) await living(store, clock, agentId);
    await chief.tasks.addMany(chief.call, { tasks: ["a", "b", "c", "d"].map((id) => ({ id, description: "x" })) });
    const late: Call = {
      ...chief.call,
      async transact(plan, options) {
        await other.claims.claimTask(other.call, { taskId: "a" });
        await other.tasks.cancel(other.call, { taskId: "b" });
        await other.assignments.assign(other.call, { strategy: "capability", taskIds: ["c"], agents: [{ agentId: "other" }] });
        return chief.call.transact(plan, options);
      },
    };
    const answer = await chief.assignments.assign(late, { strategy: "load_balanced", agents: [{ agentId: "left" }] });
    expect(answer.assignments.map(({ taskId }) => taskId)).toEqual(["d"]);
    expect(answer.unassigned).toEqual([
      { taskId: "a", reason: "It is claimed." },
      { taskId: "b", reason: "It is cancelled." },
      { taskId: "c", reason: "Another assigned it in the meantime." },
    ]);
    expect(answer.load).toEqual([{ agentId: "left", tasks: 1, predictedMs: 60_000 }]);
    expect(await assigned(store)).toMatchObject({ a: undefined, c: "other", d: "left" });
  });

  test("takes what is assigned already only when told to, and does not count it twice", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    for (const agentId of ["left", "right"]) await living(store, clock, agentId);
    await chief.tasks.addMany(chief.call, { tasks: ["a", "b", "c", "d"].map((id) => ({ id, description: "x" })) });
    await chief.assignments.assign(chief.call, { strategy: "load_balanced", agents: [{ agentId: "left" }] });
    const again = await chief.assignments.assign(chief.call, { strategy: "load_balanced" });
    expect(again).toMatchObject({ assignments: [], unassigned: [], balanceScore: 0 });
    const named = await chief.assignments.assign(chief.call, { strategy: "load_balanced", taskIds: ["a", "ghost"] });
    expect(named.unassigned).toEqual([
      { taskId: "a", reason: "It is assigned to left already; with reassign it is assigned anew." },
      { taskId: "ghost", reason: "There is no such task." },
    ]);
    const anew = await chief.assignments.assign(chief.call, { strategy: "load_balanced", reassign: true });
    expect(anew).toMatchObject({ balanceScore: 1, load: [{ tasks: 2 }, { tasks: 2 }] });
    expect(Object.values(await assigned(store)).sort()).toEqual(["left", "left", "right", "right"]);
  });

  test("refuses agents that are not there, twice the same, and mixed ways to name tasks; nothing is assigned", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    await living(store, clock, "left");
    await chief.tasks.add(chief.call, { id: "a", description: "x" });
    const assign = (input: Partial<Parameters<typeof chief.assignments.assign>[1]>) =>
      chief.assignments.assign(chief.call, { strategy: "load_balanced", ...input });
    await expect(assign({ agents: [{ agentId: "left" }, { agentId: "gone" }] })).rejects.toEqual(
      code("failed_precondition", /Agent gone is not alive/),
    );
    await expect(assign({ agents: [{ agentId: "left" }, { agentId: "left" }] })).rejects.toEqual(code("invalid_argument"));
    await expect(assign({ agents: [] })).rejects.toEqual(code("invalid_argument"));
    await expect(assign({ taskIds: ["a"], type: "general" })).rejects.toEqual(code("invalid_argument", /taskIds/));
    expect(await assigned(store)).toEqual({ a: undefined });
  });

  test("fits agents by what they announced, or by what the caller says of them", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    await living(store, clock, "coder", ["code"]);
    await living(store, clock, "polyglot", ["code", "draw", "talk"]);
    await living(store, clock, "quiet");
    await chief.tasks.addMany(chief.call, {
      tasks: [
        { id: "code", description: "x", requiredCapabilities: ["code"] },
        { id: "draw", description: "x", requiredCapabilities: ["draw"] },
        { id: "sing", description: "x", requiredCapabilities: ["sing"] },
      ],
    });
    const answer = await chief.assignments.assign(chief.call, { strategy: "adaptive" });
    expect(answer).toMatchObject({ strategy: "capability", reason: expect.stringMatching(/differ in which agents/) });
    expect(answer.unassigned).toEqual([
      { taskId: "sing", reason: "No agent has what it requires.", missingCapabilities: ["sing"] },
    ]);
    expect(await assigned(store)).toEqual({ code: "coder", draw: "polyglot", sing: undefined });
    await chief.assignments.assign(chief.call, {
      strategy: "capability",
      taskIds: ["sing"],
      agents: [{ agentId: "quiet", capabilities: ["sing"] }],
    });
    expect(await assigned(store)).toMatchObject({ sing: "quiet" });
  });

  test("predicts from what each agent took for the type, with a confidence that grows with the runs", async () => {
    verifies("TASK-17", "TASK-18");
    const { store, clock, host } = swarm();
    const [chief, quick, slow] = [host("chief"), host("quick"), host("slow")];
    for (const agentId of ["quick", "slow"]) await living(store, clock, agentId);
    for (let run = 0; run < 4; run++) {
      for (const [worker, runMs] of [
        [quick, 100],
        [slow, 400],
      ] as const) {
        const { task } = await chief.tasks.add(chief.call, { description: "x", type: "build" });
        await worker.claims.claimTask(worker.call, { taskId: task.id });
        await clock.advance(runMs);
        await worker.claims.update(worker.call, { taskId: task.id, status: "done" });
      }
    }
    const tasks = Array.from({ length: 10 }, (_, at) => ({ id: `t${at}`, description: "x", type: "build" }));
    await chief.tasks.addMany(chief.call, { tasks });
    const answer = await chief.assignments.assign(chief.call, { strategy: "compute_optimized" });
    expect(answer.load).toEqual([
      { agentId: "quick", tasks: 8, predictedMs: 800 },
      { agentId: "slow", tasks: 2, predictedMs: 800 },
    ]);
    expect(answer.balanceScore).toBe(1);
    for (const { agentId, estimatedDurationMs, confidence } of answer.assignments) {
      expect(estimatedDurationMs).toBe(agentId === "quick" ? 100 : 400);
      expect(confidence).toBe(0.5); // four runs without any spread
    }
    expect(Math.max(...answer.assignments.map(({ estimatedFinishAt = 0 }) => estimatedFinishAt))).toBe(clock.now() + 800);
  });

  test("takes the tasks of one workflow or one type, and at most 500 in one commit", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    await living(store, clock, "agent");
    await chief.tasks.add(chief.call, { id: "other", description: "x", type: "odd" });
    const { workflow } = await chief.workflows.create(chief.call, {
      name: "flow",
      tasks: [
        { id: "first", description: "x" },
        { id: "second", description: "x", dependencies: ["first"] },
      ],
    });
    const members = await chief.assignments.assign(chief.call, { strategy: "load_balanced", workflowId: workflow.id });
    expect(members.assignments).toHaveLength(2);
    const odd = await chief.assignments.assign(chief.call, { strategy: "load_balanced", type: "odd" });
    expect(odd.assignments.map(({ taskId }) => taskId)).toEqual(["other"]);
    for (let call = 0; call < 2; call++) {
      const tasks = Array.from({ length: 300 }, () => ({ description: "x" }));
      await chief.tasks.addMany(chief.call, { tasks });
    }
    const first = await chief.assignments.assign(chief.call, { strategy: "load_balanced" });
    expect([first.assignments.length, first.more]).toEqual([500, true]);
    const second = await chief.assignments.assign(chief.call, { strategy: "load_balanced" });
    expect([second.assignments.length, second.more]).toEqual([100, false]);
    await checkTasks(store);
  });

  test("makes no more queues than claims can look at", async () => {
    verifies("TASK-17");
    const { store, clock, host } = swarm();
    const chief = host("chief");
    for (let agent = 0; agent < 60; agent++) await living(store, clock, `a${agent}`);
    const types = Array.from({ length: 10 }, (_, type) => `type-${type}`);
    for (const type of types) {
      const tasks = Array.from({ length: 60 }, () => ({ description: "x", type }));
      await chief.tasks.addMany(chief.call, { tasks });
    }
    const outcomes: (string | number)[] = [];
    for (const type of types) {
      const assigning = chief.assignments.assign(chief.call, { strategy: "load_balanced", type });
      outcomes.push(
        await assigning.then(
          (answer) => answer.assignments.length,
          (error: { code: string }) => error.code,
        ),
      );
    }
    expect(outcomes).toEqual([...Array(8).fill(60), "limit_exceeded", "limit_exceeded"]);
    expect((await checkTasks(store)).filter(({ assignedTo }) => assignedTo !== undefined)).toHaveLength(480);
  });
});

describe("whatever agents do", () => {
  const AGENTS = ["left", "right", "third"] as const;
  const step = fc.oneof(
    fc.record({ what: fc.constant("add" as const), needs: fc.subarray(["c", "go"]), after: fc.boolean() }),
    fc.record({
      what: fc.constant("assign" as const),
      strategy: fc.constantFrom(...STRATEGIES),
      reassign: fc.boolean(),
    }),
    fc.record({ what: fc.constantFrom("claim" as const, "done" as const, "fail" as const), agent: fc.nat(2) }),
    fc.record({ what: fc.constantFrom("kill" as const, "start" as const), agent: fc.nat(2) }),
    fc.record({ what: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 2 * LEASE_MS }) }),
  );

  test("a task assigned to a living agent is held by nobody else, and the dead have nothing", async () => {
    verifies("TASK-17");
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const { store, clock, host } = swarm();
        const hosts: Host[] = AGENTS.map((agentId) => host(agentId));
        const alive: (Living | undefined)[] = AGENTS.map(() => undefined);
        const held = (task: StoredTask, agent: Host) => task.claim?.by === agent.agentId && !hasEnded(task);
        for (const one of steps) {
          const agent = "agent" in one ? hosts[one.agent] : hosts[0];
          if (!agent) continue;
          const all = await checkTasks(store);
          if (one.what === "add") {
            const dependencies = one.after ? all.slice(-1).map(({ id }) => id) : [];
            await agent.tasks.add(agent.call, { description: "x", requiredCapabilities: one.needs, dependencies });
          } else if (one.what === "assign") {
            await agent.assignments.assign(agent.call, { strategy: one.strategy, reassign: one.reassign });
          } else if (one.what === "claim") {
            const before = new Map(all.map(({ id, assignedTo }) => [id, assignedTo]));
            const got = await agent.claims.claimNext(agent.call, { capabilities: ["c", "go"] });
            const whose = got && before.get(got.task.id);
            if (whose !== undefined) expect(isFor(agent.agentId, whose)).toBe(true);
          } else if (one.what === "done" || one.what === "fail") {
            const mine = all.find((task) => held(task, agent) && task.claim && task.claim.leaseExpiresAt > clock.now());
            const status = one.what === "done" ? "done" : "failed";
            if (mine) await agent.claims.update(agent.call, { taskId: mine.id, status, fencingToken: mine.fencingToken });
          } else if (one.what === "kill") {
            alive[one.agent]?.kill();
            alive[one.agent] = undefined;
          } else if (one.what === "start") {
            alive[one.agent] ??= await living(store, clock, agent.agentId, one.agent === 0 ? ["c"] : ["c", "go"]);
          } else if (one.what === "wait") await clock.advance(one.ms);
        }
        for (const one of alive) one?.kill();
        await clock.advance(LEASE_MS + 1);
        for (const one of hosts) await one.maintain();
        for (const { status, assignedTo } of await checkTasks(store)) {
          if (!hasEnded({ status })) expect(assignedTo).toBeUndefined();
        }
      }),
      { numRuns: 60 },
    );
  });
});
