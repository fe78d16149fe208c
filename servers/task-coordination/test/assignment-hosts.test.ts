/** Assigning, predicting and measuring as hosts see them: several server processes over one store. */
import { describe, expect, test } from "vitest";
import { census, ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { eventually, Host } from "../../../test/support/host.ts";

interface Assigned {
  assignedCount: number;
  assignments: { taskId: string; agentId: string; confidence: number; estimatedDurationMs: number }[];
  unassigned: { taskId: string; reason: string; missingCapabilities?: string[] }[];
  load: { agentId: string; tasks: number }[];
  strategy: string;
}
interface Claim {
  task: { id: string; assignedTo?: string } | null;
}
interface Validation {
  valid: boolean;
  problems: { field: string }[];
  warnings: { field: string; problem: string }[];
  estimate?: { queued: number; estimate: { scope: string; basedOn: number } };
}
interface Metrics {
  metrics: {
    counts: Record<string, number>;
    open: number;
    overdue: number;
    events: Record<string, number>;
    runMs: { count: number; p50?: number };
    donePerMinute: { last60Min: number };
    agents?: { agentId: string; held: number; assigned: number; done: number }[];
    slots?: { slots: number; used: number };
  };
}

const TASKS = 12;
const LEASE_MS = 4_000;

describe.each(ENGINES)("$name", ({ meet }) => {
  test("each of three hosts does its own tasks, those of one that is killed go to the others, and metrics agree", async () => {
    verifies("TASK-17", "TASK-19", "TASK-10", "CORE-14");
    using meeting = await meet();
    const start = (agent: string) =>
      Host.start({ agent, store: meeting.store, env: { SWARM_LEASE_MS: String(LEASE_MS), SWARM_DURABILITY: "normal" } });
    const hosts = new Map(await Promise.all(["ann", "bob", "cyd"].map(async (name) => [name, await start(name)] as const)));
    const of = (name: string) => hosts.get(name) as Host;
    try {
      // an agent says what it can do when it looks for work
      for (const host of hosts.values()) await host.call("claim_next_task", { capabilities: ["code"] });
      const tasks = Array.from({ length: TASKS }, (_, at) => ({
        id: `t${at}`,
        description: "x",
        requiredCapabilities: ["code"],
        ...(at === 0 ? { deadline: 1 } : {}),
      }));
      await of("ann").call("add_tasks", { tasks: [...tasks, { id: "odd", description: "x", requiredCapabilities: ["sing"] }] });
      const answer = await of("ann").call<Assigned>("assign_tasks", { strategy: "adaptive", idempotencyKey: "once" });
      expect(answer).toMatchObject({ strategy: "deadline_aware", assignedCount: TASKS });
      expect(answer.load.map(({ tasks }) => tasks)).toEqual([4, 4, 4]);
      expect(answer.unassigned).toEqual([
        { taskId: "odd", reason: "No agent has what it requires.", missingCapabilities: ["sing"] },
      ]);
      const again = await of("ann").call<Assigned>("assign_tasks", { strategy: "adaptive", idempotencyKey: "once" });
      expect(again.assignments).toEqual(answer.assignments);

      const foreign = answer.assignments.find(({ agentId }) => agentId !== "ann");
      const refused = await of("ann").try("claim_task", { taskId: foreign?.taskId });
      expect(refused).toMatchObject({ isError: true, text: expect.stringMatching(/failed_precondition.*assigned to (bob|cyd)/) });
      const before = await of("bob").call<Metrics>("get_metrics", { scope: "swarm" });
      expect(before.metrics).toMatchObject({ counts: { available: TASKS + 1 }, overdue: 1, slots: { used: 0 } });
      expect(before.metrics.agents?.map(({ assigned }) => assigned)).toEqual([4, 4, 4]);

      const done: string[] = [];
      const work = async (name: string): Promise<string | undefined> => {
        const { task } = await of(name).call<Claim>("claim_next_task", { capabilities: ["code"] });
        if (!task) return undefined;
        expect([name, undefined]).toContain(task.assignedTo);
        await of(name).call("update_task", { taskId: task.id, status: "done" });
        done.push(task.id);
        return task.assignedTo;
      };
      expect(await work("cyd")).toBe("cyd");
      await of("cyd").kill();
      await eventually("all is done, what the killed host was to do by the others", async () => {
        for (const name of ["ann", "bob"]) await work(name);
        return done.length === TASKS;
      });
      expect(new Set(done).size).toBe(TASKS);

      const { metrics } = await of("bob").call<Metrics>("get_metrics", { scope: "swarm" });
      expect(metrics).toMatchObject({ counts: { done: TASKS, available: 1 }, open: 1, overdue: 0, runMs: { count: TASKS } });
      expect(metrics.events).toMatchObject({ added: TASKS + 1, claimed: TASKS, done: TASKS });
      expect(metrics.donePerMinute.last60Min).toBe(TASKS / 60);
      const mine = await of("bob").call<Metrics>("get_metrics", { scope: "agent" });
      expect(mine.metrics.events.done).toBe(metrics.agents?.find(({ agentId }) => agentId === "bob")?.done);
      expect((await census(meeting.store)).problems).toEqual([]);
    } finally {
      for (const host of hosts.values()) await host.close();
    }
  });

  test("a task is validated and estimated before it is added, and nothing is added by that", async () => {
    verifies("TASK-18", "CORE-14");
    using meeting = await meet();
    await using host = await Host.start({ agent: "ann", store: meeting.store });
    await host.call("add_task", { id: "first", description: "x", type: "build", files: ["src/**"] });
    const validate = (task: unknown) => host.call<Validation>("validate_task", { task });
    expect(await validate({ description: 7, colour: "red", priority: 10 })).toMatchObject({ valid: false, warnings: [] });
    const wrong = (await validate({ description: 7, colour: "red", priority: 10 })).problems.map(({ field }) => field);
    expect(wrong.sort()).toEqual(["colour", "description", "priority"]);
    expect((await validate({ id: "first", description: "x" })).problems.map(({ field }) => field)).toEqual(["id"]);
    await host.call("claim_task", { taskId: "first" });
    await host.call("update_task", { taskId: "first", status: "done" });
    const good = await validate({ description: "x", type: "build", dependencies: ["first"], requiredCapabilities: ["sing"] });
    expect(good).toMatchObject({ valid: true, problems: [], estimate: { queued: 0, estimate: { scope: "type", basedOn: 1 } } });
    expect(good.warnings.map(({ field }) => field)).toEqual(["requiredCapabilities"]);
    expect(await host.call("estimate_task", { taskId: "first" })).toMatchObject({ agentId: "ann", estimate: { basedOn: 1 } });
    const { tasks } = await host.call<{ tasks: { id: string }[] }>("get_all_tasks", {});
    expect(tasks.map(({ id }) => id)).toEqual(["first"]);
  });
});
