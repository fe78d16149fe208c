/** The gateway: every server from one process, and lines that a person pastes to mount them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { runBin, startHttp } from "../support/bin.ts";
import { binOf, ERAS, Host, ROOT, temporaryFolder } from "../support/host.ts";
import { freePort, freshDatabase } from "../support/postgres.ts";
import { SERVERS } from "../support/servers.ts";

const start = (env: Record<string, string | undefined>, args: readonly string[] = ["--http", "0"]) =>
  startHttp([binOf("gateway"), ...args], env, { says: /gateway is running at (http:\/\/\S+?)\. Stop/ });

interface Mounting {
  mcpServers: Record<string, { type: string; command: string; args: string[]; url: string; headers: Record<string, string> }>;
}

/** The JSON documents that stand in a text. */
function documentsIn(text: string): Mounting[] {
  return [...text.matchAll(/^\{\n[\s\S]*?^\}$/gm)].map(([json]) => JSON.parse(json) as Mounting);
}

/** A command line as a shell would split it, for the quoting that the help uses. */
function words(line: string): string[] {
  return [...line.matchAll(/'((?:[^']|'\\'')*)'|"([^"]*)"|(\S+)/g)].map(
    ([, single, double, bare]) => single?.replaceAll("'\\''", "'") ?? double ?? bare ?? "",
  );
}

describe("the gateway", () => {
  test("serves every server at /<server>/mcp to every client, each under the name its header gives", async () => {
    verifies("CORE-02");
    using folder = temporaryFolder();
    await using gateway = await start({ SWARM_STORE: folder.store });
    for (const server of SERVERS) {
      const alone = await Host.start({ server, store: folder.store });
      const { tools } = await alone.client.listTools();
      await alone.close();
      for (const era of ERAS) {
        const host = await Host.http(`${gateway.url}/${server}/mcp`, { era, agent: `remote-${era}` });
        expect((await host.client.listTools()).tools).toEqual(tools);
        const read = tools.find((tool) => tool.annotations?.readOnlyHint === true && tool.inputSchema.required === undefined);
        const { caller } = await host.call<{ caller: unknown }>(read?.name ?? "none");
        expect(caller).toEqual({ agentId: `remote-${era}`, verified: false });
        await host.close();
      }
    }
  });

  test("runs code that is handed to it, with what its own package carries", async () => {
    verifies("EXEC-04", "EXEC-10");
    using folder = temporaryFolder();
    await using gateway = await start({ SWARM_STORE: folder.store });
    await using host = await Host.http(`${gateway.url}/distributed-execution/mcp`, { agent: "remote" });
    const answer = await host.call("submit_task", {
      environment: "typescript",
      code: "const n: number = 6; n * 7",
      waitMs: 50_000,
    });
    expect(answer).toMatchObject({ task: { status: "succeeded" }, result: { value: 42 } });
  });

  test("a caller without a name may read and is told how to get one when it writes", async () => {
    verifies("CORE-15");
    using folder = temporaryFolder();
    await using gateway = await start({ SWARM_STORE: folder.store });
    await using nobody = await Host.http(`${gateway.url}/task-coordination/mcp`);
    expect((await nobody.try("get_all_tasks")).isError).toBe(false);
    const refused = await nobody.try("add_task", { id: "a", description: "Work" });
    expect(refused).toMatchObject({ isError: true, text: expect.stringMatching(/^unauthenticated: .*\n.*Swarm-Agent/) });
    expect((await nobody.call("get_all_tasks")).tasks).toEqual([]);
    for (const name of ["../x", "a b", "x".repeat(65), "a/b/c"]) {
      const reply = await fetch(`${gateway.url}/task-coordination/mcp`, {
        method: "POST",
        headers: { "swarm-agent": name },
        body: "{}",
      });
      expect(reply.status, name).toBe(400);
    }
  });

  test("the port comes from PORT unless --http says another", async () => {
    verifies("CORE-13");
    using folder = temporaryFolder();
    const port = await freePort();
    await using byVariable = await start({ SWARM_STORE: folder.store, PORT: String(port) }, []);
    expect(byVariable.url).toBe(`http://127.0.0.1:${port}`);
    await using byFlag = await start({ SWARM_STORE: folder.store, PORT: String(port) });
    expect(byFlag.url).not.toBe(byVariable.url);
  });

  test("health is 200 while the store answers and 503 in plain words while it does not", async () => {
    verifies("CORE-13");
    const url = await freshDatabase(inject("postgresUrl"));
    await using sound = await start({ SWARM_STORE: url });
    const ok = await fetch(`${sound.url}/health`);
    expect(ok.status).toBe(200);
    const health = (await ok.json()) as { servers: { name: string }[] };
    expect(health).toMatchObject({ status: "ok", engine: "postgres" });
    expect(health.servers.map(({ name }) => name).toSorted()).toEqual(SERVERS);
    expect((await fetch(`${sound.url}/health`, { method: "POST" })).status).toBe(405);

    const nowhere = `postgres://swarm:hidden-word@127.0.0.1:${await freePort()}/swarm`;
    await using broken = await start({ SWARM_STORE: nowhere });
    const down = await fetch(`${broken.url}/health`);
    const body = await down.text();
    expect(down.status).toBe(503);
    expect(JSON.parse(body)).toMatchObject({ status: "unavailable", message: expect.stringMatching(/cannot be reached/) });
    expect(body + broken.output()).not.toContain("hidden-word");
  });

  test("a path that nothing is served at is 404 and says what is served", async () => {
    verifies("CORE-02");
    using folder = temporaryFolder();
    await using gateway = await start({ SWARM_STORE: folder.store });
    for (const path of ["/", "/mcp", "/nowhere/mcp", "/task-coordination", "/task-coordination/mcp/x"]) {
      const reply = await fetch(gateway.url + path);
      expect(reply.status, path).toBe(404);
      expect(await reply.text()).toContain("/task-coordination/mcp");
    }
  });

  test("what it prints can be pasted: both .mcp.json documents mount every server, and so do the commands", async () => {
    verifies("CORE-01");
    using folder = temporaryFolder();
    await using gateway = await start({ SWARM_STORE: folder.store });
    const output = gateway.output();
    const [stdio, http] = documentsIn(output);
    expect(Object.keys(stdio?.mcpServers ?? {}).toSorted()).toEqual(SERVERS);
    expect(Object.keys(http?.mcpServers ?? {}).toSorted()).toEqual(SERVERS);

    for (const [server, { command, args, type }] of Object.entries(stdio?.mcpServers ?? {})) {
      expect(type).toBe("stdio");
      await using host = await Host.start({ command, prefix: args, store: folder.store, agent: "pasted" });
      expect((await host.client.listTools()).tools.length).toBeGreaterThan(5);
      const line = new RegExp(`^  claude mcp add ${server} -- (.+)$`, "m").exec(output)?.[1];
      expect(words(line ?? "")).toEqual([command, ...args]);
    }
    for (const [server, { url, headers, type }] of Object.entries(http?.mcpServers ?? {})) {
      expect(type).toBe("http");
      await using host = await Host.http(url, { agent: headers["Swarm-Agent"] ?? "" });
      expect((await host.client.listTools()).tools.length).toBeGreaterThan(5);
      const line = new RegExp(`^  claude mcp add --transport http ${server} (.+)$`, "m").exec(output)?.[1];
      expect(words(line ?? "")).toEqual([url, "--header", `Swarm-Agent: ${headers["Swarm-Agent"]}`]);
    }
    expect(output).toContain(`Store: ${folder.store}`);
  });

  test("--help, --version and --where answer without serving", async () => {
    verifies("CORE-13");
    const help = await runBin("gateway", ["--help"]);
    expect(help).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("--http <[host:]port>") });
    const version = await runBin("gateway", ["--version"]);
    expect(version).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
    const where = await runBin("gateway", ["--where"], { env: { SWARM_STORE: "postgres://me:secret@db.example/swarm" } });
    expect(where).toMatchObject({ code: 0, stderr: "", stdout: "postgres://me:***@db.example/swarm\n" });
    const unknown = await runBin("gateway", ["--nonsense"]);
    expect(unknown).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("--nonsense") });
    const outside = await runBin("gateway", ["--http", "0.0.0.0:0"], { env: { SWARM_STORE: "memory:" } });
    expect(outside).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^An open swarm is served on loopback only/),
    });
  });

  test("the bins that these tests start are the built ones", () => {
    for (const server of [...SERVERS, "gateway"]) expect(existsSync(join(ROOT, "servers", server, "dist", "main.js"))).toBe(true);
  });
});
