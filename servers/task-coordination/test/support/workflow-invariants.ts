import { hasEnded, type IndexEntry, type StoredTask, type StoredWorkflow, workflowKey } from "@mcp-swarm/coordination/tasks";
import { prefixRange, type Store, segment } from "@mcp-swarm/store";
import { expect } from "vitest";
import { hasWorkflowEnded } from "../../src/workflow-record.ts";
import { checkTasks } from "./invariants.ts";

const ROWS = 1_000;

async function idsUnder(store: Store, prefix: string): Promise<string[]> {
  return (await store.scan(prefixRange(prefix, ROWS))).map(({ value }) => (value as IndexEntry).id).sort();
}

export async function readWorkflow(store: Store, id: string): Promise<StoredWorkflow> {
  const entry = await store.get(workflowKey(id));
  expect(entry, `workflow ${id}`).toBeDefined();
  return entry?.value as StoredWorkflow;
}

/** Finds every index of a workflow, and what its state promises, in agreement with its tasks. Answers its tasks. */
export async function checkWorkflow(
  store: Store,
  id: string,
  options: { swept?: boolean } = {},
): Promise<{ workflow: StoredWorkflow; tasks: StoredTask[] }> {
  const workflow = await readWorkflow(store, id);
  const tasks = (await checkTasks(store, options)).filter(({ workflowId }) => workflowId === id);
  const ids = (matches: (task: StoredTask) => boolean) =>
    tasks
      .filter(matches)
      .map((task) => task.id)
      .sort();
  const open = ids((task) => !hasEnded(task));
  expect(await idsUnder(store, `workflow-open/${segment(id)}/`), "workflow-open").toEqual(open);
  expect(await idsUnder(store, `workflow-failed/${segment(id)}/`), "workflow-failed").toEqual(
    ids(({ status }) => status === "failed"),
  );
  expect(await idsUnder(store, "workflow-all/")).toContain(id);
  for (const state of ["created", "running", "paused", "compensating", "completed", "failed", "cancelled", "compensated"]) {
    const listed = (await idsUnder(store, `workflow-state/${state}/`)).includes(id);
    expect(listed, `listed as ${state}`).toBe(state === workflow.state);
  }
  if (workflow.state === "completed" || workflow.state === "compensated") expect(open, workflow.state).toEqual([]);
  expect(workflow.endedAt !== undefined, "an end").toBe(hasWorkflowEnded(workflow));
  // one that is under way has work, or is about to get some
  const drained = open.length === 0 && (workflow.state === "running" || workflow.state === "paused");
  if (drained) expect(await store.get(`workflow-moving/${segment(id)}`), "nothing is open, and it goes on").toBeDefined();
  return { workflow, tasks };
}
