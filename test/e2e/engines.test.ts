/** One script of calls on SQLite and on PostgreSQL, and a store that moves between them. */
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { runBin } from "../support/bin.ts";
import { contentOf, lookInto } from "../support/content.ts";
import { Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

type Step = readonly [host: "a" | "b", tool: string, args: Record<string, unknown>];

/** Good calls and bad, of two agents. */
const SCRIPT: readonly Step[] = [
  ["a", "get_all_tasks", {}],
  [
    "a",
    "add_task",
    { id: "build", description: "Build it", priority: 7, type: "code", parameters: { target: ["x", 1, null], ключ: "значение" } },
  ],
  ["a", "add_task", { id: "build", description: "Again" }],
  [
    "b",
    "add_tasks",
    {
      tasks: [
        { id: "test", description: "Test", dependencies: ["build"] },
        { id: "ship", description: "Ship", dependencies: ["test", "docs"] },
        { id: "docs", description: "文書 📚" },
      ],
    },
  ],
  [
    "b",
    "add_tasks",
    {
      tasks: [
        { id: "x", description: "X", dependencies: ["y"] },
        { id: "y", description: "Y", dependencies: ["x"] },
      ],
    },
  ],
  ["b", "add_task", { id: "lost", description: "Lost", dependencies: ["nowhere"] }],
  ["a", "get_available_tasks", {}],
  ["a", "get_all_tasks", { limit: 2 }],
  ["a", "get_all_tasks", { status: "blocked" }],
  ["a", "get_all_tasks", { type: "code" }],
  ["a", "claim_worker_slot", {}],
  ["b", "claim_worker_slot", { workerId: "child" }],
  ["b", "get_workers", {}],
  ["a", "claim_next_task", { workerSlot: 1 }],
  ["b", "claim_task", { taskId: "build" }],
  ["b", "claim_task", { taskId: "ship" }],
  ["b", "claim_task", { taskId: "nowhere" }],
  ["b", "update_task", { taskId: "build", status: "done" }],
  ["a", "update_task", { taskId: "build", status: "working", progress: { percent: 50, note: "Half" } }],
  ["a", "update_task", { taskId: "build", status: "done", fencingToken: 99 }],
  ["a", "get_task", { taskId: "build" }],
  ["a", "update_task", { taskId: "build", status: "done", output: { artifact: "a.tar", smile: "🙂" } }],
  ["a", "update_task", { taskId: "build", status: "done" }],
  ["b", "claim_next_task", { type: "none" }],
  ["b", "claim_next_task", { capabilities: ["write"] }],
  ["b", "update_task", { taskId: "docs", status: "failed", error: "No paper" }],
  ["b", "get_task", { taskId: "docs" }],
  ["b", "reset_failed_task", { taskId: "docs" }],
  ["b", "claim_task", { taskId: "docs" }],
  ["b", "update_task", { taskId: "docs", status: "available", checkpoint: "Chapter 2" }],
  ["a", "claim_task", { taskId: "docs" }],
  ["a", "renew_task", { taskId: "docs" }],
  ["a", "update_task", { taskId: "docs", status: "done", output: "text" }],
  ["a", "cancel_task", { taskId: "test", withDependents: true, reason: "Changed our minds" }],
  ["a", "get_task", { taskId: "ship" }],
  [
    "a",
    "add_tasks",
    {
      tasks: [
        { id: "r1", description: "Files", files: ["src/**"] },
        { id: "r2", description: "Same files", files: ["src/a.ts"] },
      ],
    },
  ],
  ["a", "claim_task", { taskId: "r1" }],
  ["b", "claim_task", { taskId: "r2" }],
  ["b", "claim_task", { taskId: "r2", workerId: "a/child" }],
  ["a", "update_task", { taskId: "r1", status: "done" }],
  ["b", "claim_task", { taskId: "r2", workerId: "child" }],
  ["b", "release_worker_slot", { slot: 2, workerId: "child" }],
  ["b", "release_worker_slot", { slot: 1 }],
  [
    "a",
    "create_workflow",
    {
      id: "flow",
      name: "Flow",
      tasks: [
        { id: "f1", description: "One" },
        { id: "f2", description: "Two", dependencies: ["f1"] },
      ],
    },
  ],
  ["a", "execute_workflow", { workflowId: "flow" }],
  ["a", "pause_workflow", { workflowId: "flow" }],
  ["b", "claim_next_task", { workflowId: "flow" }],
  ["a", "resume_workflow", { workflowId: "flow" }],
  ["b", "claim_next_task", { workflowId: "flow" }],
  ["a", "get_workflow_status", { workflowId: "flow" }],
  ["a", "cancel_workflow", { workflowId: "flow" }],
  ["a", "list_workflows", {}],
  ["a", "get_all_tasks", { limit: 200 }],
];

/** An answer without what differs from run to run: times, durations, and cursors, which are opaque. Members are sorted. */
function normalised(value: unknown, name = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => normalised(item));
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).sort(([one], [two]) => (one < two ? -1 : 1));
    return Object.fromEntries(members.map(([key, member]) => [key, normalised(member, key)]));
  }
  if (typeof value === "number" && /(At|Ms)$|^at$/.test(name)) return "<time>";
  if (typeof value === "string" && name === "nextCursor") return "<cursor>";
  return value;
}

/** Errors name leases by their end. */
const withoutTimes = (text: string) => text.replace(/\b\d{4}-\d\d-\d\dT[\d:.]+Z|\b1\d{12}\b/g, "<time>");

async function play(store: string): Promise<{ answers: string[]; errors: number }> {
  await using a = await Host.start({ store, agent: "a" });
  await using b = await Host.start({ store, agent: "b" });
  const there = new Set((await a.client.listTools()).tools.map(({ name }) => name));
  const answers: string[] = [];
  let errors = 0;
  for (const [who, tool, args] of SCRIPT) {
    if (!there.has(tool)) continue;
    const { text, isError, structured } = await (who === "a" ? a : b).try(tool, args);
    if (isError) errors += 1;
    const shown = isError ? withoutTimes(text) : JSON.stringify(normalised(structured));
    answers.push(`${who} ${tool}(${JSON.stringify(args)}) ${isError ? "✗" : "✓"} ${shown}`);
  }
  return { answers, errors };
}

describe("on both engines", () => {
  test("the same calls get the same answers, and the same errors word for word", async () => {
    verifies("CORE-14");
    using folder = temporaryFolder();
    const onSqlite = await play(folder.store);
    const onPostgres = await play(await freshDatabase(inject("postgresUrl")));
    expect(onSqlite.answers.length).toBeGreaterThan(40);
    expect(onSqlite.errors).toBeGreaterThan(8);
    expect(onSqlite.errors).toBeLessThan(onSqlite.answers.length / 2);
    expect(onPostgres.answers).toEqual(onSqlite.answers);
  });

  test("one command moves a store to PostgreSQL and one moves it back, and work goes on where it stood", async () => {
    verifies("CORE-14", "CORE-16");
    using folder = temporaryFolder();
    using other = temporaryFolder();
    const postgres = await freshDatabase(inject("postgresUrl"));
    await play(folder.store);
    const rows = async (url: string) => {
      await using look = await lookInto(url);
      const entries = await contentOf(look.store);
      return entries.filter(({ key }) => key !== "meta/format").map(({ key, value, expiresAt }) => ({ key, value, expiresAt }));
    };
    const before = await rows(folder.store);
    expect(before.length).toBeGreaterThan(20);

    const there = await runBin("task-coordination", ["store", "copy", folder.store, postgres]);
    expect(there, there.stderr).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringMatching(/^Copied and compared \d+ entries/),
    });
    expect(there.stdout).not.toContain(new URL(postgres).password);
    expect(await rows(postgres)).toEqual(before);

    // work on PostgreSQL, then back
    await using moved = await Host.start({ store: postgres, agent: "mover" });
    expect((await moved.call<{ task: { status: string } }>("get_task", { taskId: "build" })).task.status).toBe("done");
    await moved.call("add_task", { id: "after-move", description: "Added on PostgreSQL", priority: 9 });
    expect(await moved.call("claim_next_task", {})).toMatchObject({ task: { id: "after-move" } });
    await moved.call("update_task", { taskId: "after-move", status: "available" });
    await moved.close();

    const changed = await rows(postgres);
    const back = await runBin("task-coordination", ["store", "copy", postgres, other.store]);
    expect(back, back.stderr).toMatchObject({ code: 0, stderr: "" });
    expect(await rows(other.store)).toEqual(changed);
    await using home = await Host.start({ store: other.store, agent: "home" });
    expect(await home.call("claim_task", { taskId: "after-move" })).toMatchObject({
      task: { description: "Added on PostgreSQL" },
      fencingToken: 2,
    });

    const again = await runBin("task-coordination", ["store", "copy", folder.store, postgres]);
    expect(again).toMatchObject({ code: 1, stdout: "" }); // it is not empty
    expect(await rows(postgres)).toEqual(changed);
  });
});
