/** The bins at the command line, and machines on which they cannot work: one clear line each, and the same words to the model. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openStore } from "@mcp-swarm/store";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { run, runBin } from "../support/bin.ts";
import { binOf, Host, temporaryFolder } from "../support/host.ts";
import { freePort, freshDatabase } from "../support/postgres.ts";
import { on } from "../support/preload.ts";
import { SERVERS } from "../support/servers.ts";
import { Surroundings } from "../support/surroundings.ts";
import type { ToolCall } from "./proofs/proof.ts";

/** A call that needs the store. */
const READS: Record<string, string> = {
  "agent-comm": "list_agents",
  consensus: "list_active_votes",
  "distributed-execution": "list_tasks",
  security: "whoami",
  "shared-state": "list_state",
  "task-coordination": "get_all_tasks",
};

const LONG = "long ".repeat(2_000);
/** How a server fills its disk: a call that writes much, and one that finds the `n`th again. */
const FILLS: Record<string, { write: (n: number) => ToolCall; read: (n: number) => ToolCall }> = {
  security: {
    write: (n) => ["put_secret", { name: `t${n}`, value: LONG }],
    read: (n) => ["get_secret", { name: `t${n}` }],
  },
  "agent-comm": {
    write: (n) => [
      "send_message",
      { targetAgent: "reader", messageType: "note", payload: LONG, correlationId: `t${n}`, mailbox: true },
    ],
    read: (n) => ["get_thread", { correlationId: `t${n}` }],
  },
  consensus: {
    write: (n) => ["initiate_vote", { proposal: LONG.slice(0, 8_000), participants: [`filler/c${n}`], timeout: 3_600_000 }],
    read: (n) => ["list_active_votes", { agentId: `c${n}`, mine: true }],
  },
  "distributed-execution": {
    write: (n) => [
      "create_environment",
      { name: `t${n}`, runtime: "javascript", description: LONG.slice(0, 200), env: { NOTE: LONG.slice(0, 4_000) } },
    ],
    read: (n) => ["list_environments", { name: `t${n}` }],
  },
  "shared-state": {
    write: (n) => ["set_state", { key: `t${n}`, value: LONG }],
    read: (n) => ["get_state", { key: `t${n}` }],
  },
  "task-coordination": {
    write: (n) => ["add_task", { id: `t${n}`, description: LONG }],
    read: (n) => ["get_task", { taskId: `t${n}` }],
  },
};

describe.each(SERVERS)("the bin of %s", (server) => {
  const needsStore = READS[server] ?? "";

  test("--help says how it is used, what can be chosen and which variables it reads", async () => {
    verifies("CORE-13");
    const { code, stdout, stderr } = await runBin(server, ["--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const word of ["--http", "--toolsets", "--read-only", "--where", "--version", "SWARM_STORE", "Toolsets:", "store"]) {
      expect(stdout).toContain(word);
    }
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(150);
  });

  test("--version is the version that hosts are told", async () => {
    verifies("CORE-13");
    const { code, stdout, stderr } = await runBin(server, ["--version"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    using folder = temporaryFolder();
    const { RawHost } = await import("../support/bin.ts");
    await using raw = new RawHost(server, { SWARM_STORE: folder.store });
    const { result } = await raw.initialize();
    expect(result?.serverInfo).toMatchObject({ name: `mcp-swarm-${server}`, version: stdout.trim() });
  });

  test("--where says where the store is and makes nothing", async () => {
    verifies("CORE-13");
    using folder = temporaryFolder();
    const home = { HOME: folder.path, XDG_DATA_HOME: join(folder.path, "data"), LOCALAPPDATA: join(folder.path, "data") };
    const given = await runBin(server, ["--where"], { env: { SWARM_STORE: folder.store } });
    expect(given).toMatchObject({ code: 0, stderr: "", stdout: `${folder.store}\n` });
    const usual = await runBin(server, ["--where"], { env: home, cwd: folder.path });
    expect(usual).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^sqlite:.*swarm\.db\n$/) });
    expect(usual.stdout).toContain(folder.path);
    const again = await runBin(server, ["--where"], { env: home, cwd: folder.path });
    expect(again.stdout).toBe(usual.stdout);
    const shared = await runBin(server, ["--where"], { env: { SWARM_STORE: "postgres://me:secret@db.example:5433/swarm" } });
    expect(shared).toMatchObject({ code: 0, stderr: "", stdout: "postgres://me:***@db.example:5433/swarm\n" });
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("an option or a variable that it does not know is refused in a line, with exit code 1", async () => {
    verifies("CORE-13");
    const cases: [args: string[], env: Record<string, string>, says: RegExp][] = [
      [["--nonsense"], {}, /--nonsense/],
      [["nonsense"], {}, /nonsense|arguments/],
      [["--where"], { SWARM_LEASE_MS: "soon" }, /^SWARM_LEASE_MS: /],
      [["--where"], { SWARM_STORE: "mysql://x" }, /^The store's URL begins with no scheme that is known\. Write sqlite:/],
      [[], { SWARM_LEASE_MS: "5" }, /^SWARM_LEASE_MS: /],
      [[], { SWARM_DURABILITY: "none" }, /^SWARM_DURABILITY: /],
      [[], { SWARM_WORKER_SLOTS: "1e9" }, /^SWARM_WORKER_SLOTS: /],
      [[], { SWARM_LOG: "loud" }, /^SWARM_LOG: /],
      [[], { SWARM_AGENT: "../me" }, /^Not an agent id/],
    ];
    for (const [args, env, says] of cases) {
      const outcome = await runBin(server, args, { env: { SWARM_STORE: "memory:", ...env } });
      expect(outcome, JSON.stringify([args, env])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(says) });
      expect(outcome.stderr.trimEnd().split("\n")).toHaveLength(1);
    }
  });

  test("an old Node is refused in one line that says what to do, before anything is loaded", async () => {
    verifies("CORE-13");
    using folder = temporaryFolder();
    const outcome = await run(process.execPath, [...on("old node", folder.path), binOf(server)], {
      env: { SWARM_STORE: folder.store },
    });
    expect(outcome).toMatchObject({ code: 1, stdout: "" });
    expect(outcome.stderr).toMatch(/^This server needs Node .*22\.23.*; this is v20\.11\.1\. Install a newer Node.*\n$/);
  });

  const OLD_NODE = ["/usr/bin/node", "/usr/local/bin/node"].find(existsSync);
  test.runIf(OLD_NODE)("the machine's own Node, when it is older, says the same", async () => {
    verifies("CORE-13");
    const node = OLD_NODE ?? "";
    const [major = 0] = (await run(node, ["--version"])).stdout.slice(1).split(".").map(Number);
    const outcome = await run(node, [binOf(server), "--version"]);
    if (major >= 22) expect(outcome.code).toBe(0);
    else
      expect(outcome).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^This server needs Node [^\n]*\n$/) });
  });

  /** What each broken store says, to the model and in `store check` or the log. */
  const BROKEN: Record<
    string,
    { make(folder: string, store: string): Promise<{ store: string; prefix?: string[] }>; says: RegExp; code: string }
  > = {
    "a SQLite that can corrupt": {
      make: async (folder, store) => ({ store, prefix: on("unsafe sqlite", folder) }),
      says: /SQLite 3\.46\.1 can corrupt .*\n.*Node\.js that carries SQLite 3\.51\.3/,
      code: "failed_precondition",
    },
    "a network drive": {
      make: async (folder, store) => ({ store, prefix: on("network drive", folder) }),
      says: /network.*\n?.*PostgreSQL/i,
      code: "failed_precondition",
    },
    "an unknown scheme": {
      make: async () => ({ store: "mysql://root:hidden-word@localhost/swarm" }),
      says: /no scheme that is known.*\n.*sqlite:<path>, postgres:/,
      code: "invalid_argument",
    },
    "no file": { make: async () => ({ store: "sqlite:" }), says: /names no file/, code: "invalid_argument" },
    "a newer data format": {
      make: async (_, store) => {
        await (await openStore(store)).close();
        const db = new DatabaseSync(store.slice("sqlite:".length));
        db.exec(`UPDATE keyv SET value = '{"value":{"reader":99,"writer":99}}' WHERE namespace = 'meta' AND key = 'format'`);
        db.close();
        return { store };
      },
      says: /data format 99; this program knows up to \d+.*\n.*Update MCP Swarm/,
      code: "failed_precondition",
    },
    "a newer data format on PostgreSQL": {
      make: async () => {
        const store = await freshDatabase(inject("postgresUrl"));
        await (await openStore(store)).close();
        const { default: pg } = await import("pg");
        const client = new pg.Client({ connectionString: store });
        await client.connect();
        await client.query(
          `UPDATE keyv SET value = '{"value":{"reader":99,"writer":99}}' WHERE namespace = 'meta' AND key = 'format'`,
        );
        await client.end();
        return { store };
      },
      says: /data format 99; this program knows up to \d+.*\n.*Update MCP Swarm/,
      code: "failed_precondition",
    },
    "a PostgreSQL that is not there": {
      make: async () => ({ store: `postgres://swarm:hidden-word@127.0.0.1:${await freePort()}/swarm` }),
      says: /PostgreSQL server cannot be reached: postgres:\/\/127\.0\.0\.1:\d+\/swarm.*\n.*SWARM_STORE/,
      code: "unavailable",
    },
    "a PostgreSQL that refuses the password": {
      make: async () => {
        const url = new URL(inject("postgresUrl"));
        url.password = "hidden-word";
        return { store: url.href };
      },
      says: /does not accept the user or the password/,
      code: "unavailable",
    },
    "a file that is no database": {
      make: async (folder) => {
        const { writeFileSync } = await import("node:fs");
        writeFileSync(join(folder, "text.db"), "not a database ".repeat(1_000));
        return { store: `sqlite:${join(folder, "text.db")}` };
      },
      says: /internal: Something failed inside the server \(error[-_]\S+\)/,
      code: "internal",
    },
  };

  test.each(Object.keys(BROKEN))("%s: the model reads it in plain words, and the process goes on", async (what) => {
    verifies("CORE-13");
    const { make, says, code } = BROKEN[what] ?? {};
    if (!make || !says) throw new Error("No such case");
    using folder = temporaryFolder();
    const { store, prefix = [] } = await make(folder.path, folder.store);
    await using host = await Host.start({ server, store, prefix: [...prefix, binOf(server)], agent: "reader" });
    expect((await host.client.listTools()).tools.length).toBeGreaterThan(5);
    for (const attempt of [1, 2]) {
      const answer = await host.try(needsStore);
      expect(answer.isError, `attempt ${attempt}: ${answer.text}`).toBe(true);
      expect(answer.text).toMatch(says);
      expect(answer.text).toMatch(new RegExp(`^${code}: `));
      expect(answer.text).not.toMatch(/hidden-word|\n\s+at |node:internal/);
      expect(answer.text.split("\n").length).toBeLessThanOrEqual(3);
    }
    expect(host.stderr).not.toContain("hidden-word");
  });

  test("a full disk is said in plain words, loses nothing, and reading goes on", async () => {
    verifies("CORE-13", "CORE-09");
    using folder = temporaryFolder();
    await using swarm = await Surroundings.of(server, folder.store);
    await using host = await swarm.host("filler", { prefix: [...on("full disk", folder.path), binOf(server)] });
    const fill = FILLS[server];
    if (!fill) throw new Error("Say how this server fills its disk");
    let kept = 0;
    let refused = "";
    while (kept < 200 && refused === "") {
      const answer = await host.try(...fill.write(kept));
      if (answer.isError) refused = answer.text;
      else kept += 1;
    }
    expect(kept).toBeGreaterThan(0);
    expect(refused).toMatch(/^limit_exceeded: The disk that holds the store is full; nothing was written\.\nFree some space/);
    // in a secured swarm reading is written down too, for which there has to be room
    await using roomy = swarm.verified ? await swarm.host("filler") : undefined;
    const reader = roomy ?? host;
    for (let n = 0; n < kept; n++) expect((await reader.try(...fill.read(n))).text).toContain(LONG.slice(0, 50));
    expect((await reader.try(...fill.read(kept))).text).not.toContain(LONG.slice(0, 50));
  });

  test("the store commands are there as a subcommand and answer for the store that the server would use", async () => {
    verifies("CORE-13", "CORE-16");
    using folder = temporaryFolder();
    const env = { SWARM_STORE: folder.store };
    const none = await runBin(server, ["store", "check"], { env });
    expect(none).toMatchObject({ code: 1, stdout: "" });
    await using host = await Host.start({ server, store: folder.store });
    await host.call(needsStore);
    const check = await runBin(server, ["store", "check"], { env });
    expect(check).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("sound") });
    const where = await runBin(server, ["store", "where"], { env });
    expect(where.stdout).toContain(folder.store);
  });
});
