/** One script of calls on SQLite and on PostgreSQL, and a store that moves between them. */
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { runBin } from "../support/bin.ts";
import { contentOf, lookInto } from "../support/content.ts";
import { Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";
import { SERVERS } from "../support/servers.ts";
import { Surroundings } from "../support/surroundings.ts";
import { proofOf, Recall } from "./proofs/index.ts";

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

/** Greater numbers are times in ms since the epoch. */
const EPOCH_MS_MIN = 1_500_000_000_000;

/** An answer without what differs from run to run: times, durations, and cursors, which are opaque. Members are sorted. */
function normalised(value: unknown, varies: readonly string[] = [], name = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => normalised(item, varies));
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([key]) => !varies.includes(key));
    members.sort(([one], [two]) => (one < two ? -1 : 1));
    return Object.fromEntries(members.map(([key, member]) => [key, normalised(member, varies, key)]));
  }
  if (typeof value === "number" && (/(At|Ms)$|^at$|^p\d\d$/.test(name) || value > EPOCH_MS_MIN)) return "<time>";
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

/** Ids that a store makes, each by its place among them, and hashes over what has them: no two runs have the same. */
function withoutIds(answers: readonly string[]): string[] {
  const ids = new Map<string, string>();
  const numbered = (id: string, kind: string) => {
    const known = ids.get(id) ?? `${kind}-<${ids.size}>`;
    ids.set(id, known);
    return known;
  };
  return answers.map((answer) =>
    answer.replaceAll(/\b([a-z]+)-[0-9a-z]{12}\b/g, numbered).replaceAll(/\b[0-9a-f]{64}\b/g, (hash) => numbered(hash, "hash")),
  );
}

/** Every tool of a server once, by one agent: its answers, and what the other agents of the story did for them. */
async function tell(server: string, store: string): Promise<string[]> {
  const { story, meanwhile, varies } = proofOf(server);
  await using swarm = await Surroundings.of(server, store);
  await using _ = await meanwhile?.(store, server);
  await using host = await swarm.host("teller", { env: { SWARM_LEASE_MS: "3600000" } });
  const recall = new Recall();
  const answers: string[] = [];
  for (const [tool, args] of story) {
    const { text, isError, structured } = await host.try(tool, recall.fill(args));
    recall.learn(structured);
    answers.push(`${tool} ${isError ? withoutTimes(text) : JSON.stringify(normalised(structured, varies))}`);
  }
  return withoutIds(answers);
}

describe("on both engines", () => {
  test.each(SERVERS)("every tool of %s answers the same", async (server) => {
    verifies("CORE-14");
    using folder = temporaryFolder();
    const onSqlite = await tell(server, folder.store);
    expect(onSqlite.length).toBeGreaterThan(10);
    expect(await tell(server, await freshDatabase(inject("postgresUrl")))).toEqual(onSqlite);
  });

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
    // a store is an open swarm's or a secured one's
    for (const server of SERVERS.filter((one) => !proofOf(one).members)) await tell(server, folder.store);
    const note = { messageType: "note", mailbox: true };
    await using sender = await Host.start({ server: "agent-comm", store: folder.store, agent: "sender" });
    for (const payload of ["read on PostgreSQL", "read at home"]) {
      await sender.call("send_message", { targetAgent: "mover", payload, ...note });
    }
    await sender.close();
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
    await using mail = await Host.start({ server: "agent-comm", store: postgres, agent: "mover" });
    const first = await mail.call<{ messages: { id: string }[] }>("get_messages", { limit: 1 });
    expect(first.messages).toMatchObject([{ from: "sender", payload: "read on PostgreSQL", deliveries: 1 }]);
    await mail.call("acknowledge_messages", { messageIds: first.messages.map(({ id }) => id) });
    await mail.call("send_message", { targetAgent: "mover", payload: "sent on PostgreSQL", ...note });
    await mail.close();

    const changed = await rows(postgres);
    const back = await runBin("task-coordination", ["store", "copy", postgres, other.store]);
    expect(back, back.stderr).toMatchObject({ code: 0, stderr: "" });
    expect(await rows(other.store)).toEqual(changed);
    await using home = await Host.start({ store: other.store, agent: "home" });
    expect(await home.call("claim_task", { taskId: "after-move" })).toMatchObject({
      task: { description: "Added on PostgreSQL" },
      fencingToken: 2,
    });
    await using homeMail = await Host.start({ server: "agent-comm", store: other.store, agent: "mover" });
    const rest = await homeMail.call<{ messages: { payload: string }[] }>("get_messages");
    expect(rest.messages.map(({ payload }) => payload)).toEqual(["read at home", "sent on PostgreSQL"]);

    const again = await runBin("task-coordination", ["store", "copy", folder.store, postgres]);
    expect(again).toMatchObject({ code: 1, stdout: "" }); // it is not empty
    expect(await rows(postgres)).toEqual(changed);
  });
});
