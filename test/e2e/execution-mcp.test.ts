/**
 * Workflow tasks that other MCP servers do without a person: the real servers from npm, as real processes, and for Perplexity a stub
 * that speaks its HTTP API.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openStore } from "@mcp-swarm/store";
import pg from "pg";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { plainEnv, runBin, startHttp } from "../support/bin.ts";
import { Canaries } from "../support/canaries.ts";
import { binOf, eventually, Host, ROOT, temporaryFolder } from "../support/host.ts";
import { npxProgram } from "../support/npm-program.ts";
import { type PerplexityStub, perplexityStub, type Reply } from "../support/perplexity.ts";
import { freshDatabase } from "../support/postgres.ts";
import { supabaseApi } from "../support/supabase-api.ts";
import { processesWith } from "../support/workers.ts";

const SERVER = "distributed-execution";
const ODD_SERVER = join(ROOT, "servers", SERVER, "test", "mcp", "odd-server.ts");
/** No task of these tests takes so long; it is how long they wait for one another. */
const WITHIN_MS = 50_000;

const THINKING = npxProgram("@modelcontextprotocol/server-sequential-thinking");
const POSTGRES = npxProgram("@modelcontextprotocol/server-postgres");
const SUPABASE = npxProgram("@supabase/mcp-server-supabase");
const PERPLEXITY = npxProgram("@perplexity-ai/mcp-server");

const fromWorker = (name: string) => ["$", `{env:${name}}`].join("");

/** Everything that one test uses, under a marker that stands in each command line. */
class Place implements Disposable {
  readonly folder = temporaryFolder();
  /** Names the operator's file, and with it every runner; servers that runners start carry it as an argument. */
  readonly marker = `swarm-${randomBytes(8).toString("hex")}`;
  readonly key = `pplx-${randomBytes(16).toString("hex")}`;
  readonly token = `sbp_${randomBytes(20).toString("hex")}`;
  readonly databaseUrl: string;
  #content: object;

  constructor({
    perplexityUrl = "http://127.0.0.1:9",
    databaseUrl = "",
    supabaseUrl = "http://127.0.0.1:9",
  }: {
    perplexityUrl?: string;
    databaseUrl?: string;
    supabaseUrl?: string;
  }) {
    this.databaseUrl = databaseUrl;
    const node = (script: string, ...args: string[]) => ({ command: process.execPath, args: [script, ...args] });
    const file = {
      mcpServers: {
        thinking: node(THINKING, this.marker),
        perplexity: {
          ...node(PERPLEXITY, this.marker),
          env: { PERPLEXITY_API_KEY: fromWorker("PERPLEXITY_API_KEY"), PERPLEXITY_BASE_URL: perplexityUrl },
          keepWarmMs: 60_000,
        },
        database: { ...node(POSTGRES, fromWorker("DATABASE_URL"), this.marker), tools: ["query"] },
        supabase: {
          // the last is not called; it names the process
          ...node(
            SUPABASE,
            "--api-url",
            supabaseUrl,
            "--features",
            "account,database,functions",
            `--content-api-url=http://${this.marker}.invalid`,
          ),
          env: { SUPABASE_ACCESS_TOKEN: fromWorker("SUPABASE_ACCESS_TOKEN") },
        },
        odd: { ...node(ODD_SERVER, "stubborn", this.marker), tools: ["*"] },
      },
      profiles: {
        coordination: { server: "thinking", uses: "coordination" },
        research: { server: "perplexity", uses: "research" },
        database: { server: "database", uses: "postgres" },
        cloud: { server: "supabase", uses: "supabase" },
      },
      runner: {
        tasks: node(binOf("task-coordination")),
        agents: node(binOf("agent-comm")),
      },
    };
    this.#content = file;
    this.change((same) => same);
  }

  /** Writes the operator's file anew. */
  change(edit: (content: object) => object): void {
    this.#content = edit(this.#content);
    writeFileSync(this.file, JSON.stringify(this.#content));
  }

  get file(): string {
    return join(this.folder.path, `${this.marker}.json`);
  }

  env(store: string): Record<string, string> {
    return {
      SWARM_STORE: store,
      SWARM_EXEC_CONFIG: this.file,
      PERPLEXITY_API_KEY: this.key,
      SUPABASE_ACCESS_TOKEN: this.token,
      DATABASE_URL: this.databaseUrl,
    };
  }

  /** Processes of the servers that runners and workers started. */
  servers(): number[] {
    return processesWith(this.marker);
  }

  [Symbol.dispose](): void {
    this.folder[Symbol.dispose]();
  }
}

class Runner implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<number | null>;
  stderr = "";

  constructor(place: Place, store: string, profile: string, ...args: string[]) {
    this.#child = spawn(process.execPath, [binOf(SERVER), "runner", "--profile", profile, ...args], {
      env: plainEnv(place.env(store)),
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.#closed = new Promise((resolve) => this.#child.once("close", (code) => resolve(code)));
  }

  static async start(place: Place, store: string, profile: string, ...args: string[]): Promise<Runner> {
    const runner = new Runner(place, store, profile, ...args);
    await eventually(`the runner of ${profile} takes tasks`, () => {
      if (runner.#child.exitCode !== null) throw new Error(`It ended:\n${runner.stderr}`);
      return runner.stderr.includes("Taking tasks");
    }).catch(async (error: unknown) => {
      await runner.kill();
      throw new Error(`It does not take tasks:\n${runner.stderr}`, { cause: error });
    });
    return runner;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#closed;
  }

  /** Asks it to end; answers its exit code. */
  async end(): Promise<number | null> {
    this.#child.kill("SIGTERM");
    return await this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

interface Status {
  workflow: { status: string; success: boolean };
  results: { taskId: string; output?: unknown; by?: string }[];
  waiting: unknown[];
}
interface Task {
  task: { status: string; attempt: number; output?: unknown; error?: { message?: string } };
  history: { event: string; note?: string }[];
}

async function statusOf(host: Host, workflowId: string, status: string): Promise<Status> {
  let last: Status | undefined;
  const read = async () => {
    last = await host.call<Status & Record<string, unknown>>("get_workflow_status", { workflowId });
    return last.workflow.status === status && last;
  };
  return await eventually(`the workflow is ${status}`, read, WITHIN_MS).catch((error: unknown) => {
    throw new Error(`It is not ${status}: ${JSON.stringify(last)}`, { cause: error });
  });
}

const task = (host: Host, taskId: string) => host.call<Task & Record<string, unknown>>("get_task", { taskId });
const planner = (store: string) => Host.start({ agent: "planner", store });

/** A stub whose first replies are these, and after them the last again. */
const replies = (...list: [Reply, ...Reply[]]) =>
  perplexityStub((_, number) => list[Math.min(number, list.length - 1)] ?? "hold");

async function nothingLeft(place: Place): Promise<void> {
  await eventually("no server is left", () => place.servers().length === 0);
}

beforeAll(async () => {
  const { stdout } = await runBin(SERVER, ["runner", "--help"]);
  expect(stdout, "the built bin has no runner: npm run build").toContain("--profile");
});

describe.each(ENGINES)("a workflow over $name", ({ meet }) => {
  test("is done by sequential thinking, Perplexity and PostgreSQL, one after a failure, and all results are in it", async () => {
    verifies("EXEC-15");
    using meeting = await meet();
    const { store } = meeting;
    await using stub = await replies({ status: 500, body: "overloaded" }, { text: "Both hold [1]." });
    const databaseUrl = await freshDatabase(inject("postgresUrl"));
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query("create table planets (name text, moons int); insert into planets values ('Mars', 2), ('Earth', 1)");
    await client.end();
    using place = new Place({ perplexityUrl: stub.url, databaseUrl });
    await using host = await planner(store);
    const { workflow } = await host.call<Status & { workflow: { id: string } }>("create_workflow", {
      name: "moons",
      execute: true,
      tasks: [
        {
          id: "facts",
          type: "research:verify_facts",
          // longer than an answer shows of a description
          description: `Mars has two moons. ${"It is known. ".repeat(200)}The end.`,
          requiredCapabilities: ["research"],
          backoff: { initialMs: 50, factor: 1 },
        },
        {
          id: "rows",
          type: "database:execute_sql",
          description: "How many moons",
          // longer than an answer shows of parameters
          parameters: { sql: `select name, moons from planets order by name ${"/* moons */ ".repeat(80)}` },
        },
        { id: "parts", type: "coordination:decompose_task", description: "First: find out.\n\nThen: write it down." },
        {
          id: "whole",
          type: "coordination:synthesize_results",
          description: "Say what we know of moons",
          dependencies: ["facts", "rows", "parts"],
        },
        { id: "by-hand", description: "For somebody who can read", dependencies: ["whole"] },
      ],
    });
    const idOf = (id: string) => `${workflow.id}.${id}`;
    await using research = await Runner.start(place, store, "research");
    await using database = await Runner.start(place, store, "database");
    await using coordination = await Runner.start(place, store, "coordination", "--slots", "2");
    const all = [research, database, coordination];

    await eventually(
      "what is not theirs waits for another",
      async () => (await task(host, idOf("by-hand"))).task.status === "available",
      WITHIN_MS,
    );
    await host.call("claim_task", { taskId: idOf("by-hand") });
    await host.call("update_task", { taskId: idOf("by-hand"), status: "done" });
    const { workflow: done, results } = await statusOf(host, workflow.id, "completed");
    expect(done.success).toBe(true);
    const output = (id: string) => results.find(({ taskId }) => taskId === idOf(id))?.output;
    expect(output("facts")).toEqual({ response: "Both hold [1].\n\nCitations:\n[1] https://source.invalid/one\n" });
    expect(JSON.parse(String(output("rows")))).toEqual([
      { name: "Earth", moons: 1 },
      { name: "Mars", moons: 2 },
    ]);
    expect(output("parts")).toMatchObject({
      parts: ["First: find out.", "Then: write it down."],
      record: [
        { thoughtNumber: 1, totalThoughts: 2, nextThoughtNeeded: true, thoughtHistoryLength: 1 },
        { thoughtNumber: 2, totalThoughts: 2, nextThoughtNeeded: false, thoughtHistoryLength: 2 },
      ],
    });
    const whole = await host.call<{ part: { text: string } }>("get_task", { taskId: idOf("whole"), field: "output" });
    for (const part of ["Both hold [1].", "Earth", "Then: write it down.", '"thoughtHistoryLength":3'])
      expect(whole.part.text).toContain(part);

    // the first attempt failed with what the server said, and the task's own attempts made the second
    const facts = await task(host, idOf("facts"));
    expect(facts.task.attempt).toBe(2);
    expect(facts.history.map(({ note }) => note).join("\n")).toContain("Perplexity API error: 500");
    expect(stub.asked).toHaveLength(2);
    for (const { body, authorization } of stub.asked) {
      expect(authorization).toBe(`Bearer ${place.key}`);
      expect(body.preset).toBe("medium");
      expect(body.input?.[1]?.content).toMatch(/^Mars has two moons\. .*The end\.$/s);
    }
    await using asker = await Host.start({ server: "agent-comm", agent: "asker", store });
    const { agents } = await asker.call<{ agents: { id: string }[] }>("list_agents", {
      type: "mcp-runner",
      status: "online",
    });
    const names = agents.map(({ id }) => id.replace(/-runner-.*/, "")).sort();
    expect(names).toEqual(["coordination", "database", "research"]);

    for (const runner of all) expect(await runner.end(), runner.stderr).toBe(0);
    await nothingLeft(place);
    for (const { stderr } of all) expect(stderr).not.toContain("Mars");
  });
});

describe("a runner", () => {
  /** One task of the profile research that is being worked on. */
  async function working(stub: PerplexityStub, place: Place, more: Record<string, unknown> = {}) {
    const { store } = place.folder;
    const host = await planner(store);
    await host.call("add_task", { id: "ask", type: "research:current_information", description: "What is new?", ...more });
    const runner = await Runner.start(place, store, "research");
    await eventually("it asks", () => stub.asked.length === 1, WITHIN_MS);
    return { store, host, runner };
  }

  test("that is killed in the middle leaves nothing behind, and another takes the task over", async () => {
    verifies("EXEC-15");
    await using stub = await replies("hold", { text: "All is well." });
    using place = new Place({ perplexityUrl: stub.url });
    const { store, host, runner } = await working(stub, place);
    expect(place.servers()).not.toEqual([]);
    await runner.kill();
    await nothingLeft(place);
    await using second = await Runner.start(place, store, "research");
    const done = await eventually(
      "another did it",
      async () => {
        const read = await task(host, "ask");
        return read.task.status === "done" && read;
      },
      WITHIN_MS,
    );
    expect(done.task.output).toMatchObject({ response: expect.stringContaining("All is well.") });
    expect(stub.asked).toHaveLength(2);
    expect(await second.end()).toBe(0);
    await host.close();
    await nothingLeft(place);
  });

  test("that is asked to end gives its task back at once, and its servers are dead", async () => {
    await using stub = await replies("hold");
    using place = new Place({ perplexityUrl: stub.url });
    const { host, runner } = await working(stub, place);
    expect(await runner.end(), runner.stderr).toBe(0);
    expect((await task(host, "ask")).task.status).toBe("available");
    await host.close();
    await nothingLeft(place);
  });

  test("stops what was cancelled, and goes on with the next", async () => {
    verifies("EXEC-15");
    await using stub = await replies("hold", { text: "Next." });
    using place = new Place({ perplexityUrl: stub.url });
    const { host, runner } = await working(stub, place);
    await host.call("cancel_task", { taskId: "ask" });
    await nothingLeft(place);
    await host.call("add_task", { id: "next", type: "research:current_information", description: "And now?" });
    await eventually("the next is done", async () => (await task(host, "next")).task.status === "done", WITHIN_MS);
    expect((await task(host, "ask")).task.status).toBe("cancelled");
    expect(await runner.end()).toBe(0);
    await host.close();
  });

  test("reports what it cannot do as failed, with the reason, and its key is nowhere", async () => {
    verifies("EXEC-15");
    await using stub = await perplexityStub(({ authorization }) => ({ status: 401, body: `not good: ${authorization}` }));
    using place = new Place({ perplexityUrl: stub.url });
    const canaries = new Canaries();
    canaries.add("the key", place.key);
    const { store, host, runner } = await working(stub, place, { maxAttempts: 1 });
    await host.call("add_task", { id: "odd", type: "research:guess", description: "x", maxAttempts: 1 });
    for (const [id, reason] of [
      ["ask", "Perplexity API error: 401"],
      ["odd", "no operation of research named guess"],
    ] as const) {
      const failed = await eventually(
        `${id} failed`,
        async () => {
          const read = await task(host, id);
          return read.task.status === "failed" && read;
        },
        WITHIN_MS,
      );
      expect(failed.task.error?.message).toContain(reason);
      canaries.look("task", id, JSON.stringify(failed));
    }
    expect((await task(host, "ask")).task.error?.message).toContain("[redacted]");
    expect(await runner.end()).toBe(0);
    await host.close();
    canaries.look("stderr", "runner", runner.stderr);
    canaries.look("stderr", "host", host.stderr);
    const opened = await openStore(store);
    await opened.close();
    canaries.lookIntoFolder("store", place.folder.path);
    expect(canaries.leaks).toEqual([]);
    expect([...canaries.looked.values()].every((bytes) => bytes > 0)).toBe(true);
  });

  test("reaches task-coordination over HTTP as well; an attempt that takes too long ends, and the next is made", async () => {
    verifies("EXEC-15");
    await using stub = await replies("hold", { text: "Over HTTP." });
    using place = new Place({ perplexityUrl: stub.url });
    const { store } = place.folder;
    const bin = [binOf("task-coordination"), "--http", "127.0.0.1:0"];
    await using server = await startHttp(bin, { SWARM_STORE: store });
    place.change((file) => ({ ...file, runner: { tasks: { url: `${server.url}/mcp` } } }));
    await using host = await Host.http(`${server.url}/mcp`, { agent: "planner" });
    const timeoutMs = 4_000;
    await host.call("add_task", {
      id: "ask",
      type: "research:research",
      description: "?",
      timeoutMs,
      backoff: { initialMs: 10 },
    });
    await using runner = await Runner.start(place, store, "research");
    const done = await eventually(
      "the second attempt does it",
      async () => {
        const read = await task(host, "ask");
        return read.task.status === "done" && read;
      },
      WITHIN_MS,
    );
    expect(done.task).toMatchObject({ attempt: 2, output: { response: expect.stringContaining("Over HTTP.") } });
    expect(await runner.end(), runner.stderr).toBe(0);
    await nothingLeft(place);
  });

  test("says what is wrong with how it was started", async () => {
    using place = new Place({});
    const none = await runBin(SERVER, ["runner", "--profile", "research"]);
    expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("SWARM_EXEC_CONFIG") });
    const env = { SWARM_EXEC_CONFIG: place.file };
    const unknown = await runBin(SERVER, ["runner", "--profile", "cooking"], { env });
    expect(unknown).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("It has: coordination, research, database, cloud."),
    });
    const keyless = await runBin(SERVER, ["runner", "--profile", "research"], { env: { ...env, PERPLEXITY_API_KEY: "" } });
    expect(keyless.code).toBe(1);
    expect(keyless.stderr).toMatch(
      /^The MCP server \w+ needs the variable PERPLEXITY_API_KEY, which this worker does not have\. Whoever/,
    );
    const slots = await runBin(SERVER, ["runner", "--profile", "research", "--slots", "many"], { env });
    expect(slots).toMatchObject({ code: 1, stderr: expect.stringContaining("--slots") });
  });
});

describe("submit_task with the environment mcp", () => {
  interface Answer {
    task: { id: string; status: string };
    result?: { ended: string; exitCode?: number; value?: unknown; stdout: string; stderr: string };
  }
  const asking = (place: Place) =>
    Host.start({ server: SERVER, agent: "asker", store: place.folder.store, env: place.env(place.folder.store) });
  const submit = (host: Host, code: unknown, more: Record<string, unknown> = {}) =>
    host.call<Answer & Record<string, unknown>>("submit_task", {
      ...{ environment: "mcp", code: JSON.stringify(code), waitMs: WITHIN_MS },
      ...more,
    });

  test("calls a tool, or has an operation done, by a worker whose operator permits it", async () => {
    verifies("EXEC-15");
    const databaseUrl = await freshDatabase(inject("postgresUrl"));
    using place = new Place({ databaseUrl });
    const host = await asking(place);
    const direct = await submit(host, { server: "database", tool: "query", arguments: { sql: "select 6 * 7 as answer" } });
    expect(direct.task.status, JSON.stringify(direct)).toBe("succeeded");
    expect(JSON.parse(String(direct.result?.value))).toEqual([{ answer: 42 }]);
    const reasoned = await submit(host, {
      profile: "coordination",
      operation: "structured_reasoning",
      parameters: { thoughts: ["What is asked?", "What follows?"] },
    });
    expect(reasoned.result?.value).toMatchObject({ record: [{ thoughtHistoryLength: 1 }, { thoughtHistoryLength: 2 }] });
    const wrong = await submit(host, { server: "database", tool: "query", arguments: { sql: "select nonsense" } });
    expect(wrong).toMatchObject({ task: { status: "failed" }, result: { stderr: expect.stringContaining("nonsense") } });
    const written = await submit(host, { server: "database", tool: "query", arguments: { sql: "create table x (y int)" } });
    expect(written).toMatchObject({ task: { status: "failed" }, result: { stderr: expect.stringContaining("read-only") } });
    await host.close();
    await nothingLeft(place);
  });

  test("has Supabase's own server run SQL, list projects, deploy a function and publish a table's changes", async () => {
    verifies("EXEC-15");
    const databaseUrl = await freshDatabase(inject("postgresUrl"));
    const token = { value: "" };
    await using api = await supabaseApi(databaseUrl, token);
    using place = new Place({ supabaseUrl: api.url });
    token.value = place.token;
    const host = await asking(place);
    const operation = async (name: string, parameters: Record<string, unknown>) => {
      const answer = await submit(host, { profile: "cloud", operation: name, parameters });
      expect(answer.task.status, JSON.stringify(answer)).toBe("succeeded");
      return JSON.stringify(answer.result?.value);
    };
    const sql = "create publication supabase_realtime; create table moons (name text); select 6 * 7 as answer";
    await operation("execute_sql", { projectId: "planets", sql });
    expect(await operation("execute_sql", { projectId: "planets", sql: "select 6 * 7 as answer" })).toContain("42");
    expect(await operation("manage_projects", {})).toContain("Planets");
    await operation("realtime_subscriptions", { projectId: "planets", table: "moons" });
    const published = "select tablename from pg_publication_tables where pubname = 'supabase_realtime'";
    expect(await operation("execute_sql", { projectId: "planets", sql: published })).toContain("moons");
    const files = [{ name: "index.ts", content: "Deno.serve(() => new Response('hello'))" }];
    expect(await operation("deploy_function", { projectId: "planets", name: "hello", files })).toContain("ACTIVE");
    expect(api.deployed).toEqual([expect.stringContaining("new Response('hello')")]);
    const injected = await submit(host, {
      ...{ profile: "cloud", operation: "realtime_subscriptions" },
      parameters: { projectId: "planets", table: 'moons"; drop table moons; --' },
    });
    expect(injected.task.status).toBe("failed");
    expect(await operation("execute_sql", { projectId: "planets", sql: "select count(*) from moons" })).toContain("count");
    await host.close();
    await nothingLeft(place);
  });

  test("is refused before it is queued when it cannot be done", async () => {
    verifies("EXEC-15");
    using place = new Place({});
    await using host = await asking(place);
    for (const [code, reason] of [
      ["select 1", "it is not JSON"],
      [{ server: "nowhere", tool: "t" }, "There are: thinking, perplexity, database, supabase, odd."],
      [{ server: "thinking", tool: "sequentialthinking" }, "permission_denied"],
      [{ profile: "database", operation: "execute_sql" }, "Missing: parameters.sql"],
    ] as const) {
      const given = typeof code === "string" ? code : JSON.stringify(code);
      const answer = await host.try("submit_task", { environment: "mcp", code: given });
      expect(answer).toMatchObject({ isError: true, text: expect.stringContaining(reason) });
    }
    const more = await host.try("submit_task", {
      ...{ environment: "mcp", code: JSON.stringify({ server: "odd", tool: "echo" }) },
      stdin: "x",
    });
    expect(more).toMatchObject({ isError: true, text: expect.stringContaining("code alone") });
    expect((await host.call<{ tasks: unknown[] }>("list_tasks")).tasks).toEqual([]);
  });

  test("does no harm when the server pours, stays silent, dies or asks", async () => {
    verifies("EXEC-15");
    using place = new Place({});
    const host = await asking(place);
    const odd = (tool: string, more = {}) => submit(host, { server: "odd", tool, arguments: {} }, more);
    for (const tool of ["pours_lines", "pours_one_line", "pours_errors", "too_huge", "dies", "ends_rudely"]) {
      const answer = await odd(tool);
      expect(answer.task.status, `${tool}: ${JSON.stringify(answer)}`).toBe("failed");
    }
    expect((await odd("silent", { timeout: 1_000 })).task.status).toBe("failed");
    expect((await odd("stays", { timeout: 1_000 })).task.status).toBe("failed");
    expect((await odd("asks_person")).result).toMatchObject({ value: "was told: no" });
    expect((await odd("garbage")).result).toMatchObject({ value: "after garbage" });
    const cancelled = await host.call<Answer & Record<string, unknown>>("submit_task", {
      ...{ environment: "mcp", code: JSON.stringify({ server: "odd", tool: "silent" }), timeout: 60_000 },
    });
    await eventually("it runs", () => place.servers().length > 0);
    await host.call("cancel_task", { taskId: cancelled.task.id });
    await nothingLeft(place);
    // and the server that ran it all is killed in the middle of one
    await host.call("submit_task", {
      ...{ environment: "mcp", code: JSON.stringify({ server: "odd", tool: "stays" }), timeout: 60_000 },
    });
    await eventually("it runs", () => place.servers().length > 0);
    await host.kill();
    await nothingLeft(place);
  });
});
