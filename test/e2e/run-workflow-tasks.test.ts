/** The guide for workflow tasks that other MCP servers do, done as it says; only packages are not downloaded. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { plainEnv } from "../support/bin.ts";
import { binOf, eventually, Host, ROOT, temporaryFolder } from "../support/host.ts";
import { npxProgram } from "../support/npm-program.ts";
import { perplexityStub } from "../support/perplexity.ts";
import { freshDatabase } from "../support/postgres.ts";

const GUIDE = readFileSync(join(ROOT, "docs", "guides", "run-workflow-tasks.md"), "utf8");
const WITHIN_MS = 50_000;

function block(kind: string): string {
  const found = [...GUIDE.matchAll(new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, text]) => text ?? "");
  expect(found, `one block of ${kind}`).toHaveLength(1);
  return found[0] ?? "";
}

interface OperatorFile {
  mcpServers: Record<string, { command: string; args: string[]; env?: Record<string, string> }>;
  runner?: unknown;
}

test("the tasks of the guide's workflow are done by its runners, and its call is answered", async () => {
  verifies("EXEC-15");
  await using stub = await perplexityStub(() => ({ text: "It holds [1]." }));
  const databaseUrl = await freshDatabase(inject("postgresUrl"));
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query("create table orders (id int); insert into orders select generate_series(1, 5)");
  await client.end();
  using folder = temporaryFolder();

  const file = JSON.parse(block("json")) as OperatorFile;
  for (const server of Object.values(file.mcpServers)) {
    expect([server.command, server.args[0]]).toEqual(["npx", "-y"]);
    const [, name = "", ...args] = server.args;
    Object.assign(server, { command: process.execPath, args: [npxProgram(name), ...args] });
  }
  Object.assign(file.mcpServers.perplexity?.env ?? {}, { PERPLEXITY_BASE_URL: stub.url });
  file.runner = { tasks: { command: process.execPath, args: [binOf("task-coordination")] } };
  const env = { SWARM_STORE: folder.store, DATABASE_URL: databaseUrl, PERPLEXITY_API_KEY: "pplx-of-the-guide" };

  const runners: ChildProcess[] = [];
  try {
    for (const line of block("sh").trim().split("\n")) {
      const [setting = "", bin, ...args] = line.split(" ");
      expect(bin).toBe("mcp-swarm-distributed-execution");
      const [name = "", path = ""] = setting.split("=");
      writeFileSync(join(folder.path, path), JSON.stringify(file));
      const options = { cwd: folder.path, env: plainEnv({ ...env, [name]: path }), stdio: "ignore" as const };
      runners.push(spawn(process.execPath, [binOf("distributed-execution"), ...args], options));
    }
    await using planner = await Host.start({ agent: "planner", store: folder.store });
    const { workflow } = await planner.call<{ workflow: { id: string } }>(
      "create_workflow",
      JSON.parse(block("json create_workflow")),
    );
    const done = await eventually(
      "the workflow is completed",
      async () => {
        const status = await planner.call<{ workflow: { status: string }; results: { taskId: string; output?: unknown }[] }>(
          "get_workflow_status",
          { workflowId: workflow.id },
        );
        return status.workflow.status === "completed" && status;
      },
      WITHIN_MS,
    );
    const output = (id: string) => JSON.stringify(done.results.find(({ taskId }) => taskId === `${workflow.id}.${id}`)?.output);
    expect(output("facts")).toContain("It holds [1].");
    expect(output("orders")).toMatch(/5[\s\S]*4/);
    expect(output("orders")).not.toContain("3");
    expect(output("report")).toContain("What is known of the newest orders");

    await using asker = await Host.start({
      ...{ server: "distributed-execution", agent: "asker", store: folder.store },
      env: { ...env, SWARM_EXEC_CONFIG: join(folder.path, "swarm-exec.json") },
    });
    const answer = await asker.call<{ result: { value: unknown } }>("submit_task", JSON.parse(block("json submit_task")));
    expect(JSON.parse(String(answer.result.value))).toEqual([{ count: "5" }]);
  } finally {
    for (const runner of runners) {
      const closed = new Promise((resolve) => runner.once("close", resolve));
      if (runner.kill("SIGTERM")) await closed;
    }
  }
});
