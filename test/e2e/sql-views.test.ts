/** Plain SQL beside working agents: what the views show is what the tools say. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { eventually, Host } from "../support/host.ts";
import { type SqlReader, sqlReader } from "../support/sql.ts";

type Task = {
  id: string;
  title?: string;
  description: string;
  type: string;
  status: string;
  priority: number;
  createdAt: number;
  createdBy: string;
  dependencies: string[];
  parameters?: unknown;
  deadlineAt?: number;
  workflowId?: string;
  assignedTo?: string;
  claimedBy?: string;
  attempt: number;
  maxAttempts: number;
  output?: unknown;
  error?: unknown;
  progress?: unknown;
  startedAt?: number;
  endedAt?: number;
};
type Agent = Record<string, unknown> & { id: string };

const IDS = ["build", "Test-1", "ship.it", "Ünlike".replace("Ü", "U")] as const;
const json = fc.constantFrom<unknown>(
  "plain",
  ":tagged",
  { ":k": [":v", ":base64:x"], "k,": ':"::' },
  ["a", null, 1.5],
  0,
  true,
  {
    text: 'quotes " and \\ and 日本 🎉',
  },
);
const step = fc.oneof(
  fc.record({
    do: fc.constant("add" as const),
    at: fc.nat(3),
    priority: fc.option(fc.nat(9), { nil: undefined }),
    after: fc.option(fc.nat(3), { nil: undefined }),
    parameters: fc.option(json, { nil: undefined }),
    deadline: fc.boolean(),
  }),
  fc.record({ do: fc.constant("claim" as const), who: fc.nat(1) }),
  fc.record({ do: fc.constantFrom("working" as const, "done" as const, "failed" as const), who: fc.nat(1), output: json }),
  fc.record({ do: fc.constant("workflow" as const) }),
  fc.record({ do: fc.constant("tell" as const), who: fc.nat(1), results: json, status: fc.constantFrom("idle", "busy") }),
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** What each agent holds, so that it can report on it. */
type Held = [string[], string[]];

async function run(hosts: { tasks: Host[]; comm: Host[] }, steps: readonly Step[]): Promise<void> {
  const held: Held = [[], []];
  const optional = (fields: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  for (const [at, one] of steps.entries()) {
    // a step may be refused (an id that is there, nothing held): then it changes nothing, and that is looked at too
    switch (one.do) {
      case "add":
        await hosts.tasks[at % 2]?.try("add_task", {
          id: `${IDS[one.at]}${at % 5}`,
          description: at % 3 === 0 ? ":odd description" : `Do it, step ${at}`,
          ...optional({
            priority: one.priority,
            dependencies: one.after === undefined ? undefined : [`${IDS[one.after]}${(at + 4) % 5}`],
            parameters: one.parameters === undefined ? undefined : { given: one.parameters },
            deadline: one.deadline ? 1_900_000_000_123 : undefined,
          }),
        });
        break;
      case "workflow":
        await hosts.tasks[0]?.try("create_workflow", {
          id: "wf",
          name: "W",
          tasks: [{ id: "a", title: "A", description: "In a workflow" }],
        });
        await hosts.tasks[0]?.try("execute_workflow", { workflowId: "wf" });
        break;
      case "claim": {
        const { structured } = (await hosts.tasks[one.who]?.try("claim_next_task")) ?? {
          structured: {} as Record<string, unknown>,
        };
        const task = structured.task as Task | null | undefined;
        if (task) held[one.who]?.push(task.id);
        break;
      }
      case "tell":
        await hosts.comm[one.who]?.call("update_agent_status", {
          status: one.status,
          results: one.results,
          agentRole: "tester",
          currentTask: ":none",
          dependencies: ["build"],
          sessionId: "s-1",
        });
        break;
      default: {
        const taskId = one.do === "working" ? held[one.who]?.at(-1) : held[one.who]?.pop();
        if (taskId === undefined) break;
        const report =
          one.do === "done"
            ? { output: one.output }
            : one.do === "failed"
              ? { error: "It broke: :x" }
              : { progress: { percent: 40 } };
        await hosts.tasks[one.who]?.call("update_task", { taskId, status: one.do, ...report });
      }
    }
  }
}

async function checkTasks(reader: SqlReader, host: Host): Promise<number> {
  const { tasks } = await host.call<{ tasks: { id: string }[] }>("get_all_tasks", { limit: 200 });
  const rows = await reader.rows("SELECT * FROM task_distribution");
  expect(rows.map(({ task_id }) => task_id).toSorted()).toEqual(tasks.map(({ id }) => id).toSorted());
  for (const { id } of tasks) {
    const { task, history } = await host.call<{ task: Task; history: { at: number }[] }>("get_task", { taskId: id });
    const { row_key, task_definition, ...row } = rows.find(({ task_id }) => task_id === id) ?? {};
    expect(row).toEqual({
      task_id: task.id,
      workflow_id: task.workflowId,
      assigned_agent: task.claimedBy ?? task.assignedTo,
      title: task.title,
      status: task.status,
      priority: task.priority,
      dependencies: task.dependencies,
      results: task.output,
      error: task.error,
      progress: task.progress,
      attempt: task.attempt,
      created_by: task.createdBy,
      created_at: task.createdAt,
      deadline_at: task.deadlineAt,
      started_at: task.startedAt,
      completed_at: task.endedAt,
      updated_at: history.at(-1)?.at,
    });
    expect(task_definition).toMatchObject({ description: task.description, type: task.type, maxAttempts: task.maxAttempts });
    expect((task_definition as { parameters: unknown }).parameters ?? undefined).toEqual(task.parameters);
    const [again] = await reader.rows(`SELECT task_id FROM task_distribution WHERE row_key = '${String(row_key)}'`);
    expect(again?.task_id).toBe(id);
  }
  return tasks.length;
}

async function checkAgents(reader: SqlReader, host: Host): Promise<void> {
  const { agents } = await host.call<{ agents: { id: string }[] }>("list_agents", { limit: 200 });
  const rows = await reader.rows("SELECT * FROM agent_coordination");
  expect(rows.map(({ id }) => id).toSorted()).toEqual(agents.map(({ id }) => id).toSorted());
  for (const { id } of agents) {
    const { agent } = await host.call<{ agent: Agent }>("get_agent_status", { agentId: id });
    const { last_seen_at, last_status, ...row } = rows.find((one) => one.id === id) ?? {};
    expect(row).toEqual({
      id,
      session_id: agent.sessionId,
      agent_role: agent.agentRole,
      status: agent.status,
      current_task: agent.currentTask,
      results: agent.results,
      dependencies: agent.dependencies ?? [],
      created_at: agent.registeredAt,
      updated_at: agent.updatedAt,
      load: agent.load,
    });
    expect(last_seen_at).toBeTypeOf("number");
  }
}

describe.each(ENGINES)("the SQL views on $name", ({ meet }) => {
  verifies("STATE-14");

  test("show what the tools say, after whatever agents did, and can be read while they do it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 25, maxLength: 40 }), async (steps) => {
        using meeting = await meet();
        const { store } = meeting;
        const agents = ["ann", "Ben"];
        const start = (server: string) => Promise.all(agents.map((agent) => Host.start({ server, store, agent })));
        const hosts = { tasks: await start("task-coordination"), comm: await start("agent-comm") };
        try {
          await hosts.tasks[0]?.call("get_all_tasks");
          await using reader = await sqlReader(store);
          const working = { over: false };
          const reading = (async () => {
            let read = 0;
            for (; !working.over; read++) {
              await reader.rows("SELECT * FROM task_distribution");
              await reader.rows("SELECT * FROM agent_coordination");
              await new Promise((resolve) => setImmediate(resolve));
            }
            return read;
          })();
          try {
            await run(hosts, steps);
          } finally {
            working.over = true;
          }
          expect(await reading).toBeGreaterThan(0);
          await checkTasks(reader, hosts.tasks[0] as Host);
          await checkAgents(reader, hosts.comm[0] as Host);
        } finally {
          for (const host of [...hosts.tasks, ...hosts.comm]) await host.close();
        }
      }),
      { numRuns: 3, endOnFailure: true },
    );
  });

  test("show an agent that died as offline, and no row that is over", async () => {
    using meeting = await meet();
    const env = { SWARM_LEASE_MS: "1000" };
    const comm = (agent: string) => Host.start({ server: "agent-comm", store: meeting.store, agent, env });
    await using ann = await comm("ann");
    const ben = await comm("ben");
    for (const host of [ann, ben]) await host.call("update_agent_status", { status: "busy" });
    await using reader = await sqlReader(meeting.store);
    const statuses = async () =>
      Object.fromEntries(
        (await reader.rows("SELECT id, status, last_status FROM agent_coordination")).map(({ id, ...row }) => [id, row]),
      );
    expect(await statuses()).toEqual({
      ann: { status: "busy", last_status: "busy" },
      ben: { status: "busy", last_status: "busy" },
    });
    await ben.kill();
    await eventually("the dead agent is offline", async () => {
      const { ben } = (await statuses()) as Record<string, { status: string; last_status: string }>;
      return ben?.status === "offline" && ben.last_status === "busy";
    });
    expect((await statuses()).ann).toEqual({ status: "busy", last_status: "busy" });
  });
});
