import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { runBin } from "../support/bin.ts";
import { Host, temporaryFolder } from "../support/host.ts";

describe("store sweep", () => {
  test("forgets tasks and workflows that ended before the retention, and nothing that is open or depended upon", async () => {
    verifies("CORE-16");
    using folder = temporaryFolder();
    await using host = await Host.start({ agent: "keeper", store: folder.store });
    await host.call("add_tasks", {
      tasks: [
        { id: "old", description: "ends" },
        { id: "needed", description: "ends, and is needed" },
        { id: "open", description: "waits", dependencies: ["needed", "later"] },
        { id: "later", description: "stays open" },
      ],
    });
    await host.call("create_workflow", {
      id: "flow",
      name: "flow",
      tasks: [{ id: "a", description: "all of it" }],
      execute: true,
    });
    for (const taskId of ["old", "needed", "flow.a"]) {
      await host.call("claim_task", { taskId });
      await host.call("update_task", { taskId, status: "done" });
    }

    const sweep = (days: string) =>
      runBin("task-coordination", ["store", "--json", "sweep"], {
        env: { SWARM_STORE: folder.store, SWARM_RETENTION_DAYS: days },
      });
    expect(JSON.parse((await sweep("30")).stdout)).toMatchObject({ retained: { tasks: 0, workflows: 0 } });
    expect(await host.call("get_task", { taskId: "old" })).toMatchObject({ task: { status: "done" } });

    expect(JSON.parse((await sweep("0")).stdout)).toMatchObject({ retained: { tasks: 2, workflows: 1 } });
    for (const taskId of ["old", "flow.a"]) expect((await host.try("get_task", { taskId })).text).toContain("not_found");
    expect((await host.try("get_workflow_status", { workflowId: "flow" })).text).toContain("not_found");
    for (const taskId of ["needed", "open", "later"])
      expect(await host.call("get_task", { taskId })).toHaveProperty("task.id", taskId);
  });

  test("forgets agents that were silent for the retention, with what they subscribed to, and none that lives", async () => {
    verifies("CORE-16", "COMM-13");
    using folder = temporaryFolder();
    const start = (agent: string) => Host.start({ server: "agent-comm", agent, store: folder.store });
    await using living = await start("living");
    const gone = await start("gone");
    for (const host of [living, gone]) await host.call("register_agent", { agentType: "tester", capabilities: [] });
    await gone.call("subscribe", { topics: ["news"] });
    await living.call("send_message", { targetAgent: "gone", messageType: "note", payload: "Kept for its time" });
    await gone.close();
    const sweep = (days: string) =>
      runBin("agent-comm", ["store", "--json", "sweep"], { env: { SWARM_STORE: folder.store, SWARM_RETENTION_DAYS: days } });
    expect(JSON.parse((await sweep("30")).stdout)).toMatchObject({ retained: { agents: 0 } });
    expect(JSON.parse((await sweep("0")).stdout)).toMatchObject({ retained: { agents: 1 } });
    const { agents } = await living.call<{ agents: { id: string }[] }>("list_agents");
    expect(agents.map(({ id }) => id)).toEqual(["living"]);
    // what waits for one that comes again is not the agent's record: it expires by its own time
    await using back = await start("gone");
    expect(await back.call("list_subscriptions")).toMatchObject({ subscriptions: [] });
    expect(await back.call("get_messages")).toMatchObject({ messages: [{ payload: "Kept for its time" }] });
  });
});
