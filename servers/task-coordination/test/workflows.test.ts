import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkTasks } from "./support/invariants.ts";
import { swarm } from "./support/swarm.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

test("a workflow is created with all its tasks, waits for its start, runs in the order of its dependencies and ends with its last task", async () => {
  verifies("TASK-13", "TASK-14");
  const { store, host } = swarm();
  const planner = host("planner");
  const worker = host("worker");
  const { workflow, tasks } = await planner.workflows.create(planner.call, {
    name: "Release",
    tasks: [
      { id: "build", description: "Build" },
      { id: "test", description: "Test", dependencies: ["build"] },
      { id: "ship", description: "Ship" },
    ],
    dependencies: { ship: ["test"] },
    metadata: { version: "1.2" },
  });
  expect(workflow).toMatchObject({ status: "created", onFailure: "fail_fast", createdBy: "planner" });
  expect(tasks).toEqual(["build", "test", "ship"].map((id) => ({ id: `${workflow.id}.${id}`, status: "blocked" })));
  expect(await worker.claims.claimNext(worker.call, {})).toBeUndefined();
  await expect(worker.claims.claimTask(worker.call, { taskId: `${workflow.id}.build` })).rejects.toEqual(
    code("failed_precondition"),
  );
  await planner.workflows.execute(planner.call, { workflowId: workflow.id });
  for (const id of ["build", "test", "ship"]) {
    const claim = await worker.claims.claimNext(worker.call, { workflowId: workflow.id });
    expect(claim?.task.id).toBe(`${workflow.id}.${id}`);
    await worker.claims.update(worker.call, { taskId: `${workflow.id}.${id}`, status: "done", output: `${id} is done` });
  }
  const status = await planner.workflows.status(planner.call, { workflowId: workflow.id });
  expect(status.workflow).toMatchObject({
    status: "completed",
    success: true,
    totalTasks: 3,
    completedTasks: 3,
    failedTasks: 0,
    progress: 100,
    metadata: { version: "1.2" },
  });
  expect(status.results.map(({ output }) => output)).toEqual(["build is done", "test is done", "ship is done"]);
  await checkTasks(store);
});
