/** How a server process ends, and what others find then. */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { isAlive, plainEnv, RawHost, startServerHttp } from "../support/bin.ts";
import { binOf, eventually, Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

/** How long a process may take to be gone once it is told to end. */
const END_MS_MAX = 2_000;

const WAYS: Record<string, (raw: RawHost) => void> = {
  "end of stdin": (raw) => raw.child.stdin?.end(),
  SIGTERM: (raw) => raw.child.kill("SIGTERM"),
  SIGINT: (raw) => raw.child.kill("SIGINT"),
  SIGHUP: (raw) => raw.child.kill("SIGHUP"),
};

/** Processes whose parent is `pid`. */
function childrenOf(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
}

interface Claim {
  fencingToken: number;
  task: { id: string; status: string; attempt: number } | null;
}

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  test.each(Object.keys(WAYS))(
    "%s ends the process within 2 s: its task and its slot are free at once, its waiting call leaves nothing",
    async (way) => {
      verifies("CORE-07", "TASK-01");
      using folder = temporaryFolder();
      const store = engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));
      // a lease so long that only giving back frees anything
      const env = { SWARM_STORE: store, SWARM_LEASE_MS: "600000", SWARM_WORKER_SLOTS: "1" };
      await using other = await Host.start({ store, agent: "other", env });
      await other.call("add_task", { id: "held", description: "Held work" });
      const raw = new RawHost("task-coordination", { ...env, SWARM_AGENT: "leaver" });
      await raw.initialize();
      expect((await raw.callText("claim_worker_slot", "{}")).result).toMatchObject({ structuredContent: { slot: { slot: 1 } } });
      expect((await raw.callText("claim_task", '{"taskId":"held"}')).result).toMatchObject({
        structuredContent: { task: { status: "claimed" } },
      });
      raw.write(
        '{"jsonrpc":"2.0","id":500,"method":"tools/call","params":{"name":"claim_next_task","arguments":{"waitMs":50000},"_meta":{"progressToken":1}}}\n',
      );
      await raw.callText("get_all_tasks", "{}"); // answered after the waiting call began
      expect((await other.try("claim_worker_slot")).text).toMatch(/^(limit_exceeded|failed_precondition|unavailable|conflict): /);
      expect((await other.try("claim_task", { taskId: "held" })).text).toMatch(/^conflict: /);
      if (process.platform === "linux") expect(childrenOf(raw.pid)).toBe("");

      const pid = raw.pid;
      WAYS[way]?.(raw);
      await eventually(`process ${pid} is gone after ${way}`, () => !isAlive(pid), END_MS_MAX);

      expect(raw.strays).toEqual([]);
      const { task, fencingToken } = await other.call<Claim>("claim_task", { taskId: "held" });
      expect(task).toMatchObject({ id: "held", status: "claimed" });
      expect(fencingToken).toBe(2);
      expect(await other.call("claim_worker_slot")).toMatchObject({ slot: { slot: 1, workerId: "other" } });
      await other.call("add_task", { id: "later", description: "Nobody waits for this" });
      const { task: later } = await other.call<{ task: { status: string } }>("get_task", { taskId: "later" });
      expect(later.status).toBe("available");
      await raw.end();
      expect(raw.child.exitCode, raw.stderr).toBe(0);
      expect(raw.stderr).toBe(""); // a call that was waiting is no failure to speak of
    },
  );
});

test("a host that is killed leaves no server behind, and its task is claimable within the lease and a second", async () => {
  verifies("CORE-07", "TASK-07");
  using folder = temporaryFolder();
  const LEASE_MS = 1_000;
  const env = { SWARM_STORE: folder.store, SWARM_LEASE_MS: String(LEASE_MS) };
  await using other = await Host.start({ store: folder.store, agent: "other", env });
  await other.call("add_task", { id: "held", description: "Held work" });
  // a host process that starts the server, claims, says the server's pid and then only lives
  const hostProgram = `
    import { spawn } from "node:child_process";
    import { createInterface } from "node:readline";
    const server = spawn(process.execPath, [${JSON.stringify(binOf("task-coordination"))}], { stdio: ["pipe", "pipe", "ignore"] });
    const send = (message) => server.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\\n");
    createInterface({ input: server.stdout }).on("line", (line) => {
      const message = JSON.parse(line);
      if (message.id === 1) send({ id: 2, method: "tools/call", params: { name: "claim_task", arguments: { taskId: "held" } } });
      if (message.id === 2) process.stdout.write(JSON.stringify({ pid: server.pid, isError: message.result.isError === true }) + "\\n");
    });
    send({ id: 1, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "h", version: "1" } } });`;
  const host = spawn(process.execPath, ["--input-type=module", "-e", hostProgram], {
    env: plainEnv({ ...env, SWARM_AGENT: "victim" }),
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    let said = "";
    host.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const line = await eventually("the host's server claims", () => /^\{.*\}\n/.exec(said)?.[0]);
    const { pid, isError } = JSON.parse(line) as { pid: number; isError: boolean };
    expect(isError).toBe(false);
    expect((await other.try("claim_task", { taskId: "held" })).text).toMatch(/^conflict: /);
    host.kill("SIGKILL");
    await eventually("the server of the killed host is gone", () => !isAlive(pid), END_MS_MAX);
    const claim = await eventually(
      "the task is claimable",
      async () => {
        const answer = await other.try("claim_task", { taskId: "held" });
        return answer.isError ? undefined : (answer.structured as unknown as Claim);
      },
      LEASE_MS + 1_000,
    );
    expect(claim.task?.id).toBe("held");
  } finally {
    host.kill("SIGKILL");
  }
});

test("a server that is itself killed gives its task back by its lease, with one more attempt, and its slot is free", async () => {
  verifies("CORE-07", "TASK-01", "TASK-07");
  using folder = temporaryFolder();
  const LEASE_MS = 1_000;
  const env = { SWARM_LEASE_MS: String(LEASE_MS), SWARM_WORKER_SLOTS: "1" };
  await using other = await Host.start({ store: folder.store, agent: "other", env });
  await other.call("add_task", { id: "held", description: "Held work", backoff: { initialMs: 0 } });
  const victim = await Host.start({ store: folder.store, agent: "victim", env });
  await victim.call("claim_worker_slot");
  await victim.call("claim_task", { taskId: "held" });
  await victim.kill();
  const waiting = await other.call<Claim>("claim_next_task", { waitMs: 20_000 });
  expect(waiting.task).toMatchObject({ id: "held", attempt: 2 });
  const slot = await eventually("the slot is free", async () => {
    const answer = await other.try("claim_worker_slot");
    return answer.isError ? undefined : answer.structured;
  });
  expect(slot).toMatchObject({ slot: { slot: 1, workerId: "other" } });
});

test.each(["SIGTERM", "SIGINT"] as const)(
  "a server over HTTP ends within 2 s on %s, with a host connected and a call waiting",
  async (signal) => {
    verifies("CORE-07");
    using folder = temporaryFolder();
    await using serving = await startServerHttp("task-coordination", { SWARM_STORE: folder.store });
    await using host = await Host.http(`${serving.url}/mcp`, { agent: "remote" });
    const waiting = host.try("claim_next_task", { waitMs: 50_000 }).then(
      () => "answered",
      () => "broken off",
    );
    await host.call("get_all_tasks");
    process.kill(serving.pid, signal);
    await eventually("the server is gone", () => !isAlive(serving.pid), END_MS_MAX);
    expect(["answered", "broken off"]).toContain(await waiting);
    await using after = await Host.start({ store: folder.store, agent: "after" });
    await after.call("add_task", { id: "later", description: "Nobody waits for this" });
    expect((await after.call<{ task: { status: string } }>("get_task", { taskId: "later" })).task.status).toBe("available");
  },
);
