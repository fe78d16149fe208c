/** The Inspector's command line, which people debug servers with. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { run, startServerHttp } from "../support/bin.ts";
import { binOf, Host, ROOT, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";

const INSPECTOR = join(ROOT, "node_modules", ".bin", "mcp-inspector");

async function inspect(home: string, args: readonly string[]): Promise<Record<string, unknown>> {
  const outcome = await run(INSPECTOR, ["--cli", ...args], { env: { HOME: home } });
  expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
  return JSON.parse(outcome.stdout) as Record<string, unknown>;
}

describe.each(SERVERS)("the Inspector with %s", (server) => {
  test("lists and calls tools over stdio and over HTTP", async () => {
    verifies("CORE-02");
    using folder = temporaryFolder();
    await using host = await Host.start({ server, store: folder.store });
    const names = (await host.client.listTools()).tools.map((tool) => tool.name);
    await using serving = await startServerHttp(server, { SWARM_STORE: folder.store });
    const stdio = [process.execPath, binOf(server), "-e", `SWARM_STORE=${folder.store}`, "-e", "SWARM_AGENT=inspector"];
    const http = [`${serving.url}/mcp`, "--header", "Swarm-Agent: inspector"];
    for (const target of [stdio, http]) {
      const listed = (await inspect(folder.path, [...target, "--method", "tools/list", "--strict"])) as {
        tools: { name: string }[];
      };
      expect(listed.tools.map((tool) => tool.name)).toEqual(names);
    }
    if (server !== "task-coordination") return;
    for (const [index, target] of [stdio, http].entries()) {
      const args = ["--tool-name", "add_task", "--tool-arg", `id=inspected-${index}`, "description=Look at it"];
      const made = (await inspect(folder.path, [...target, "--method", "tools/call", ...args])) as {
        structuredContent: Record<string, unknown>;
      };
      expect(made.structuredContent).toMatchObject({
        task: { id: `inspected-${index}`, status: "available" },
        caller: { agentId: "inspector", verified: false },
      });
    }
    const { tasks } = await host.call<{ tasks: { id: string }[] }>("get_all_tasks");
    expect(tasks.map(({ id }) => id).sort()).toEqual(["inspected-0", "inspected-1"]);
  });
});
