/** Workflows as hosts see them: several server processes over one store. */

import { taskOf } from "@mcp-swarm/coordination/tasks";
import { openStore, prefixRange, SCAN_LIMIT_MAX } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { census, ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { eventually, Host } from "../../../test/support/host.ts";

interface Workflow {
  id: string;
  status: string;
  success: boolean;
  totalTasks: number;
  completedTasks: number;
  failedTasks: number;
  rolledBack?: number;
  startedAt: number;
  endedAt: number;
  byStatus: Record<string, number>;
  error?: { taskId: string; message?: string };
}
interface Status {
  workflow: Workflow;
  results: { taskId: string; output?: unknown; cut?: string }[];
  nextCursor?: string;
  untrusted?: string[];
}
interface Claim {
  task: { id: string; rollbackOf?: string; dependencies: string[] } | null;
  context?: { taskId: string; output?: unknown }[];
}

const HOSTS = 8;
const FLOWS = 24;
const TASKS = 12;
const WAIT_MS = 500;
/** How far the times of commits by two processes may lie behind their order (contract.ts, Transaction.now). */
const CLOCKS_APART_MS_MAX = 500;

const statusOf = (host: Host, workflowId: string) => host.call<Status>("get_workflow_status", { workflowId });

describe.each(ENGINES)("$name", ({ meet }) => {
  test("one process pauses, resumes and cancels what another works on, and it is refused at once", async () => {
    verifies("TASK-13", "TASK-14", "CORE-14");
    using meeting = await meet();
    await using planner = await Host.start({ agent: "planner", store: meeting.store });
    await using worker = await Host.start({ agent: "worker", store: meeting.store });
    const tasks = ["a", "b", "c"].map((id) => ({ id, description: `Do ${id}` }));
    await planner.call("create_workflow", { id: "flow", name: "Flow", tasks, dependencies: { c: ["b"] } });
    expect(await worker.call<Claim>("claim_next_task", {})).toMatchObject({ task: null });
    await planner.call("execute_workflow", { workflowId: "flow" });
    await worker.call("claim_task", { taskId: "flow.a" });
    await planner.call("pause_workflow", { workflowId: "flow" });
    const refused = await worker.try("claim_task", { taskId: "flow.b" });
    expect(refused).toMatchObject({ isError: true, text: expect.stringMatching(/failed_precondition.*flow/) });
    await worker.call("update_task", { taskId: "flow.a", status: "done", output: "x".repeat(50_000) });
    expect((await statusOf(planner, "flow")).workflow).toMatchObject({ status: "paused", completedTasks: 1 });
    const waiting = worker.call<Claim>("claim_next_task", { waitMs: 20_000 });
    await planner.call("resume_workflow", { workflowId: "flow" });
    expect((await waiting).task?.id).toBe("flow.b");
    await planner.call("cancel_workflow", { workflowId: "flow" });
    const late = await worker.try("update_task", { taskId: "flow.b", status: "done" });
    expect(late).toMatchObject({ isError: true, text: expect.stringMatching(/failed_precondition.*cancelled/) });
    const { workflow, results, untrusted } = await statusOf(worker, "flow");
    expect(workflow).toMatchObject({ status: "cancelled", success: false, byStatus: { done: 1, cancelled: 2 } });
    // a long result is cut, and the cut names the call that reads on
    const [, tool, args] = /^(\w+) (\{.*\})$/.exec(results[0]?.cut ?? "") ?? [];
    const { part } = await worker.call<{ part: { text: string } }>(tool ?? "", JSON.parse(args ?? ""));
    expect(`${results[0]?.output}${part.text}`).toMatch(/^x{2000,}$/);
    expect(untrusted).toContain("results[].output");
    const { workflows } = await worker.call<{ workflows: Workflow[] }>("list_workflows", { status: "cancelled" });
    expect(workflows.map(({ id }) => id)).toEqual(["flow"]);
    expect((await census(meeting.store)).problems).toEqual([]);
  });

  test("a workflow from a template is undone by whoever comes, the last done task first", async () => {
    verifies("TASK-15", "TASK-16", "CORE-14");
    using meeting = await meet();
    await using planner = await Host.start({ agent: "planner", store: meeting.store });
    await using first = await Host.start({ agent: "first", store: meeting.store });
    await using second = await Host.start({ agent: "second", store: meeting.store });
    await planner.call("save_workflow_template", {
      id: "deploy",
      name: "Deploy {{version}}",
      parameters: [{ name: "version", type: "string", required: true }],
      onFailure: "compensate",
      tasks: ["build", "ship", "check"].map((id, at, ids) => ({
        id,
        description: `${id} {{version}}`,
        dependencies: at === 0 ? [] : [ids[at - 1]],
        maxAttempts: 1,
        rollback: { description: `undo ${id} {{version}}` },
      })),
    });
    const { templates } = await second.call<{ templates: object[] }>("list_workflow_templates", {});
    expect(templates).toMatchObject([{ id: "deploy", totalTasks: 3, parameters: [{ name: "version", type: "string" }] }]);
    const wrong = await second.try("create_workflow", { templateId: "deploy", parameters: {} });
    expect(wrong).toMatchObject({ isError: true, text: expect.stringMatching(/missing: version/) });
    const made = await planner.call<{ workflow: Workflow & { name: string }; count: number }>("create_workflow", {
      templateId: "deploy",
      parameters: { version: "{{version}} 1" },
      execute: true,
    });
    expect(made).toMatchObject({ count: 3, workflow: { name: "Deploy {{version}} 1", status: "running" } });
    const { id: workflowId } = made.workflow;
    for (const [host, id] of [
      [first, "build"],
      [second, "ship"],
    ] as const) {
      const { task } = await host.call<Claim>("claim_next_task", { waitMs: 20_000 });
      expect(task?.id).toBe(`${workflowId}.${id}`);
      await host.call("update_task", { taskId: task?.id, status: "done", output: { done: id } });
    }
    await first.call("claim_task", { taskId: `${workflowId}.check` });
    await first.call("update_task", { taskId: `${workflowId}.check`, status: "failed", error: "It is broken" });
    for (const [host, id] of [
      [first, "ship"],
      [second, "build"],
    ] as const) {
      const claim = await host.call<Claim>("claim_next_task", { waitMs: 20_000 });
      expect(claim.task).toMatchObject({ rollbackOf: `${workflowId}.${id}`, description: `undo ${id} {{version}} 1` });
      expect(claim.context).toMatchObject([{ taskId: `${workflowId}.${id}`, output: { done: id } }]);
      await host.call("update_task", { taskId: claim.task?.id, status: "done" });
    }
    expect((await statusOf(planner, workflowId)).workflow).toMatchObject({
      status: "compensated",
      rolledBack: 2,
      error: { taskId: `${workflowId}.check`, message: "It is broken" },
    });
    expect((await census(meeting.store)).problems).toEqual([]);
  });

  test(`${HOSTS} processes finish ${FLOWS} workflows at once: each ends with its last task, exactly once`, async () => {
    verifies("TASK-13", "TASK-15");
    using meeting = await meet();
    const hosts = await Promise.all(
      Array.from({ length: HOSTS }, (_, at) => Host.start({ agent: `agent-${at}`, store: meeting.store })),
    );
    try {
      const [planner] = hosts as [Host, ...Host[]];
      const flows = Array.from({ length: FLOWS }, (_, at) => ({ id: `flow-${at}`, compensate: at % 2 === 1 }));
      for (const { id, compensate } of flows) {
        await planner.call("create_workflow", {
          id,
          name: id,
          execute: true,
          onFailure: compensate ? "compensate" : "fail_fast",
          tasks: Array.from({ length: TASKS }, (_, task) => ({
            id: `t${task}`,
            description: "x",
            ...(compensate ? { rollback: { description: "undo" }, maxAttempts: 1 } : {}),
          })),
        });
      }
      const undone: string[] = [];
      const work = async (host: Host) => {
        for (;;) {
          const { task } = await host.call<Claim>("claim_next_task", { waitMs: WAIT_MS });
          if (!task) {
            const { workflows } = await host.call<{ workflows: Workflow[] }>("list_workflows", { limit: FLOWS });
            if (workflows.every(({ status }) => status === "completed" || status === "compensated")) return;
            continue;
          }
          // in each workflow that compensates one task fails, whichever comes last or not
          const fails = task.rollbackOf === undefined && /^flow-\d*[13579]\.t7$/.test(task.id);
          const report = await host.try("update_task", { taskId: task.id, status: fails ? "failed" : "done" });
          if (report.isError) throw new Error(`${task.id}: ${report.text}`);
          if (task.rollbackOf !== undefined) undone.push(task.rollbackOf);
        }
      };
      await Promise.all(hosts.map(work));

      expect(new Set(undone).size, "each rollback once").toBe(undone.length);
      const store = await openStore(meeting.store);
      try {
        await eventually(
          "nothing is left to move",
          async () => (await store.scan(prefixRange("workflow-moving/", 1))).length === 0,
        );
        expect(await store.scan(prefixRange("workflow-open/", 1))).toEqual([]);
        const tasks = (await store.scan(prefixRange("task/", SCAN_LIMIT_MAX))).map(({ value }) => taskOf(value));
        for (const { id, compensate } of flows) {
          const { workflow } = await statusOf(planner, id);
          const own = tasks.filter(({ workflowId }) => workflowId === id);
          const done = own.filter(({ status, rollbackOf }) => status === "done" && rollbackOf === undefined).length;
          expect(workflow, id).toMatchObject({
            status: compensate ? "compensated" : "completed",
            totalTasks: TASKS,
            completedTasks: done,
            ...(compensate ? { rolledBack: done, failedTasks: 1 } : { success: true, failedTasks: 0 }),
          });
          // in the very commit of its last task; which of its tasks that was, times of several processes may tell some ms wrongly
          const ends = own.map(({ endedAt = 0 }) => endedAt);
          expect(ends, id).toContain(workflow.endedAt);
          expect(workflow.endedAt, id).toBeGreaterThan(Math.max(...ends) - CLOCKS_APART_MS_MAX);
        }
      } finally {
        await store.close();
      }
      expect((await census(meeting.store)).problems).toEqual([]);
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });
});
