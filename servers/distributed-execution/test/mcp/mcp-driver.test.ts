/** The driver against servers that do what no server should; each is a process of its own. */
import { spawn } from "node:child_process";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Json } from "@mcp-swarm/core";
import { newId } from "@mcp-swarm/core";
import { afterEach, describe, expect, test } from "vitest";
import { verifies } from "../../../../test/requirements.ts";
import { eventually } from "../../../../test/support/host.ts";
import { findLeash } from "../../src/mcp/leash.ts";
import { EXIT } from "../../src/mcp/mcp-driver.ts";
import { fromWorker, Lab, ODD_SERVER, odd, processesWith } from "./support.ts";

const CANARY = "canary-Secret/1+2";
const code = (expected: string) => expect.objectContaining({ code: expected });
const exit = (number: number) => ({ kind: "exit", code: number });
const OUTPUT = { kind: "limit", limit: "outputBytes" };
const TIME = { kind: "limit", limit: "wallMs" };

afterEach(async () => {
  await eventually("no odd server is left", () => processesWith(ODD_SERVER).length === 0);
});

describe("a call of a tool", () => {
  test("brings structured content, or text, as its value, and a failure of the tool as stderr and exit code 1", async () => {
    verifies("EXEC-15");
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    const echo = await lab.call("echo", { path: "{{task.description}}", deep: [{ a: null }] });
    expect(echo).toMatchObject({ outcome: { ending: exit(EXIT.done), files: [] }, stdout: "", stderr: "" });
    expect(echo.outcome.value).toEqual({ path: "{{task.description}}", deep: [{ a: null }], calls: 1 });
    expect((await lab.call("text")).outcome.value).toBe("plain words");
    const failed = await lab.call("fails");
    expect(failed).toMatchObject({ outcome: { ending: exit(EXIT.failed) }, stderr: "it failed with nothing\n" });
    expect(failed.outcome.value).toBeUndefined();
    const refused = await lab.call("refuses");
    expect(refused.outcome.ending).toEqual(exit(EXIT.refused));
    expect(refused.stderr).toContain("refused the call. no, said with nothing");
  });

  test("brings images and resources as files under names of our own, within the limits", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    const { outcome } = await lab.call("picture");
    expect(outcome.value).toBe("see");
    expect(outcome.files.map(({ path }) => path)).toEqual(["image-1.png", "resource-2.csv"]);
    expect(
      Buffer.from(outcome.files[0]?.bytes ?? [])
        .subarray(1, 4)
        .toString(),
    ).toBe("PNG");
    const many = await lab.call("many_files");
    expect(many.outcome.files).toHaveLength(10);
    expect(many.outcome.cut.files).toHaveLength(20);
    expect(many.outcome.cut.files?.[0]).toEqual({ path: "image-11.png", because: "too many files" });
  });

  test("brings a large value as a file, and says so", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    const { outcome } = await lab.call("huge", {}, { limits: { fileBytes: 2_000_000 } });
    expect(outcome.value).toBeUndefined();
    expect(outcome.cut.valueBytes).toBe(1_000_011);
    const [file] = outcome.files;
    expect(file?.path).toBe("value.json");
    expect(JSON.parse(Buffer.from(file?.bytes ?? []).toString())).toEqual({ much: "y".repeat(1_000_000) });
  });

  test("passes progress on to stdout", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    expect(await lab.call("progress")).toMatchObject({ outcome: { value: "done" }, stdout: "half-way\n" });
  });

  test("finds nothing of the worker's environment but PATH, and what the operator lists", async () => {
    verifies("EXEC-15");
    await using lab = new Lab({ mcpServers: { odd: odd("plain", { env: { LISTED: "yes" } }) } }, { env: { SWARM_STORE: "x" } });
    const { value } = (await lab.call("environment")).outcome;
    const { PWD: _byTheLeash, ...rest } = value as Record<string, string>;
    expect(rest).toEqual({ PATH: process.env.PATH, LISTED: "yes" });
  });

  test("has no other input than its code", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    const ran = await lab.call("echo", {}, { stdin: "x" });
    expect(ran.outcome.ending).toEqual(exit(EXIT.refused));
    expect(ran.stderr).toContain("code alone");
  });

  test("that this worker's operator does not permit is for another worker", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd("plain", { tools: ["echo"] }) } });
    await expect(lab.call("text")).rejects.toThrow(code("unavailable"));
    await expect(lab.run({ server: "elsewhere", tool: "t" })).rejects.toThrow(code("unavailable"));
  });
});

describe("a server that misbehaves", () => {
  test.each<[string, object, RegExp]>([
    ["pours_lines", OUTPUT, /said more than/],
    ["pours_one_line", OUTPUT, /said more than/],
    ["pours_errors", OUTPUT, /said more than/],
    ["too_huge", OUTPUT, /said more than/],
    ["dies", exit(EXIT.gone), /ended before it answered/],
    ["ends_rudely", exit(EXIT.gone), /ended before it answered/],
    ["no_result", exit(EXIT.refused), /refused the call/],
    ["unknown_tool", exit(EXIT.refused), /Method not found/],
  ])("is ended, and the answer says how: %s", async (tool, ending, stderr) => {
    verifies("EXEC-15");
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    const ran = await lab.call(tool);
    expect(ran.outcome.ending).toEqual(ending);
    expect(ran.stderr).toMatch(stderr);
    // the next call gets a fresh server
    expect((await lab.call("echo")).outcome.value).toEqual({ calls: 1 });
  });

  test("is ended at the output limit of its progress, and what was said until then is kept", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    const ran = await lab.call("pours_progress", {}, { limits: { outputBytes: 5_000 } });
    expect(ran.outcome.ending).toEqual(OUTPUT);
    expect(ran.stdout).toHaveLength(5_000);
  });

  test("is ended when its time is over, by the task's limit or its operator's", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd(), quick: odd("plain", { callMs: 300 }) } });
    expect((await lab.call("silent", {}, { limits: { wallMs: 300 } })).outcome.ending).toEqual(TIME);
    expect((await lab.run({ server: "quick", tool: "silent" })).outcome.ending).toEqual(TIME);
  });

  test("is ended when the run is stopped, whatever signals it ignores", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd("stubborn") } });
    const stop = new AbortController();
    const running = lab.call("silent", {}, { signal: stop.signal });
    await eventually("it runs", () => processesWith(ODD_SERVER).length > 0);
    stop.abort();
    expect((await running).outcome.ending).toEqual({ kind: "killed" });
    expect(processesWith(ODD_SERVER)).toEqual([]);
    const before = await lab.call("silent", {}, { signal: AbortSignal.abort() });
    expect(before.outcome.ending).toEqual({ kind: "killed" });
  });

  test("gets no model and no person to answer it", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    expect((await lab.call("asks_model")).outcome.value).toBe("was told: no");
    expect((await lab.call("asks_person")).outcome.value).toBe("was told: no");
  });

  test("may say things that are no messages, as long as there are few", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd() } });
    expect((await lab.call("garbage")).outcome.value).toBe("after garbage");
  });

  test("that cannot be started did not run the task: another worker may", async () => {
    const servers = {
      ...{ gone: { command: "no-such-program", tools: ["*"] }, dies: odd("dies-at-once") },
      mute: odd("never-speaks", { startMs: 500 }),
    };
    await using lab = new Lab({ mcpServers: servers });
    for (const server of Object.keys(servers)) {
      await expect(lab.run({ server, tool: "echo" }), server).rejects.toThrow(code("unavailable"));
    }
    await expect(lab.driver.probe()).resolves.toMatchObject({ available: false });
  });

  test("of an older revision, which ends or says nothing when it is asked for its revision, is spoken to as it expects", async () => {
    await using lab = new Lab({
      mcpServers: { ends: odd("dies-when-probed"), mute: odd("ignores-probe", { startMs: 2_000 }) },
    });
    for (const server of ["ends", "mute"]) {
      expect((await lab.run({ server, tool: "echo" })).outcome.value, server).toEqual({ calls: 1 });
    }
  });
});

describe("what a server starts", () => {
  test.each([undefined, "group"] as const)("is dead when the task has ended (leash: %s)", async (leash) => {
    verifies("EXEC-15");
    const kind = leash ?? (await findLeash(process.env.PATH ?? "")).kind;
    if (process.platform === "linux" && leash === undefined) {
      expect(kind, "bubblewrap is needed: apt-get install bubblewrap").toBe("namespace");
    }
    const marker = newId("odd");
    await using lab = new Lab({ mcpServers: { odd: odd("stubborn", {}, marker) } }, leash ? { leash } : {});
    await lab.call("echo");
    expect(processesWith(marker)).toEqual([]);
    await lab.call("silent", {}, { limits: { wallMs: 300 } });
    expect(processesWith(marker)).toEqual([]);
    if (kind !== "namespace") return; // a group does not hold who leaves it, and the capabilities say so
    await lab.call("children");
    expect(processesWith(marker)).toEqual([]);
    await lab.call("stays", {}, { limits: { wallMs: 500 } });
    expect(processesWith(marker)).toEqual([]);
  });

  test.each(["namespace", "group"] as const)("dies with a worker that is killed (leash: %s)", async (kind) => {
    verifies("EXEC-15");
    const marker = newId("odd");
    const worker = spawn(process.execPath, [join(import.meta.dirname, "busy-worker.ts"), kind, marker], { stdio: "ignore" });
    // the server, and with a namespace what it has let loose
    await eventually("the server runs", () => processesWith(marker).length >= (kind === "namespace" ? 4 : 3));
    worker.kill("SIGKILL");
    await eventually("nobody is left", () => processesWith(marker).length === 0);
  });
});

describe("a server that is kept warm", () => {
  test("does the next task too, and a fresh one does it when it had to be ended", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd("plain", { keepWarmMs: 60_000 }) } });
    expect((await lab.call("echo")).outcome.value).toEqual({ calls: 1 });
    expect((await lab.call("echo")).outcome.value).toEqual({ calls: 2 });
    await lab.call("silent", {}, { limits: { wallMs: 200 } });
    expect((await lab.call("echo")).outcome.value).toEqual({ calls: 1 });
    await lab.call("dies");
    expect((await lab.call("echo")).outcome.value).toEqual({ calls: 1 });
  });

  test("is kept for as long as its operator says", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd("plain", { keepWarmMs: 100 }) } });
    await lab.call("echo");
    await eventually("it ends", () => processesWith(ODD_SERVER).length === 0);
    expect((await lab.call("echo")).outcome.value).toEqual({ calls: 1 });
    expect(lab.errors).toEqual([]);
  });

  test("works on as many tasks at once as its operator says; others wait, and may give up", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd("plain", { concurrency: 2, keepWarmMs: 60_000 }) } });
    const answers = await Promise.all(Array.from({ length: 6 }, () => lab.call("echo")));
    const counts = answers.map(({ outcome }) => (outcome.value as { calls: number }).calls);
    expect(counts.filter((count) => count === 1).length).toBeLessThanOrEqual(2);
    expect(processesWith(ODD_SERVER).length).toBeLessThanOrEqual(2 * 3); // each has a leash of two processes
    const busy = [lab.call("silent", {}, { limits: { wallMs: 400 } }), lab.call("silent", {}, { limits: { wallMs: 400 } })];
    expect((await lab.call("echo", {}, { limits: { wallMs: 100 } })).outcome.ending).toEqual(TIME);
    await Promise.all(busy);
    expect((await lab.call("echo")).outcome.ending).toEqual(exit(EXIT.done));
  });
});

describe("an operation of a profile", () => {
  const profiles = {
    p: {
      server: "odd",
      operations: {
        chain: {
          steps: [
            { name: "first", tool: "echo", arguments: { a: "{{parameters.a}}" } },
            {
              tool: "echo",
              arguments: { before: "{{steps.first.calls}}", n: "{{number}}/{{total}}" },
              forEach: "{{parameters.list}}",
            },
          ],
          result: { first: "{{steps.first}}", all: "{{steps.1}}" },
        },
        fails_midway: { steps: [{ tool: "fails" }, { tool: "echo" }] },
        misses: {
          steps: [
            { name: "s", tool: "echo" },
            { tool: "echo", arguments: { x: "{{steps.s.nothing}}" } },
          ],
        },
        two: { steps: [{ tool: "echo" }, { server: "other", tool: "echo" }], result: "{{steps}}" },
      },
    },
  };
  const servers = { odd: odd("plain", { tools: [] }), other: odd("plain", { tools: [] }) };

  test("is calls of one server in order, whose answers the next may use", async () => {
    verifies("EXEC-15");
    await using lab = new Lab({ mcpServers: servers, profiles });
    const ran = await lab.run({ profile: "p", operation: "chain", parameters: { a: "A", list: ["x", "y"] } });
    expect(ran.outcome.value).toEqual({
      first: { a: "A", calls: 1 },
      all: [
        { before: 1, n: "1/2", calls: 2 },
        { before: 1, n: "2/2", calls: 3 },
      ],
    });
    expect((await lab.run({ profile: "p", operation: "two", parameters: {} })).outcome.value).toEqual({
      "0": { calls: 1 },
      "1": { calls: 1 },
    });
  });

  test("ends with the first call that fails, and with what it cannot be filled with", async () => {
    await using lab = new Lab({ mcpServers: servers, profiles });
    expect((await lab.run({ profile: "p", operation: "fails_midway", parameters: {} })).outcome.ending).toEqual(
      exit(EXIT.failed),
    );
    const missed = await lab.run({ profile: "p", operation: "misses", parameters: {} });
    expect(missed).toMatchObject({ outcome: { ending: exit(EXIT.refused) }, stderr: "Missing: steps.s.nothing.\n" });
    await expect(lab.run({ profile: "p", operation: "none", parameters: {} })).rejects.toThrow(code("unavailable"));
  });
});

describe("the operator's secrets", () => {
  test("are in nothing that comes back", async () => {
    verifies("EXEC-15");
    const env = { CANARY };
    const given = { env: { CANARY: fromWorker("CANARY") } };
    await using lab = new Lab({ mcpServers: { odd: odd("plain", given), early: odd("leaks-at-start", given) } }, { env });
    const all: unknown[] = [];
    for (const tool of ["leaks", "fails", "refuses", "environment"]) {
      const ran = await lab.call(tool);
      all.push(ran, ...ran.outcome.files.map(({ bytes }) => Buffer.from(bytes).toString("latin1")));
    }
    const error = await lab.run({ server: "early", tool: "echo" }).catch((thrown: unknown) => thrown as Error);
    all.push((error as Error).message, ((error as Error).cause as Error).message, ((error as Error).cause as Error).stack);
    const text = JSON.stringify(all);
    expect(text).toContain("[redacted]");
    expect(text).toContain("bad key [redacted]");
    for (const form of [CANARY, encodeURIComponent(CANARY), Buffer.from(CANARY).toString("base64")])
      expect(text).not.toContain(form);
  });

  test("that this worker does not have keep a server from being started", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd("plain", { env: { KEY: fromWorker("NOT_THERE") } }) } });
    await expect(lab.call("echo")).rejects.toThrow(/needs the variable NOT_THERE/);
  });
});

describe("a server over HTTP", () => {
  type Answer = (message: { id?: number | string; method: string }, response: ServerResponse, request: IncomingMessage) => void;

  async function httpServer(answer: Answer) {
    const headers: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      headers.push(request.headers.authorization);
      if (request.method !== "POST") return void response.writeHead(405).end();
      let body = "";
      request.on("data", (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on("end", () => {
        const message = JSON.parse(body) as { id?: number | string; method: string };
        const json = (status: number, value: Json) =>
          response
            .writeHead(status, { "content-type": "application/json" })
            .end(JSON.stringify({ jsonrpc: "2.0", ...(value as object) }));
        if (message.method === "initialize") {
          const result = { protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "h", version: "1" } };
          json(200, { id: message.id ?? 0, result });
        } else if (message.method === "tools/call") answer(message, response, request);
        else if (message.id === undefined) response.writeHead(202).end();
        else json(200, { id: message.id, error: { code: -32601, message: "Method not found" } });
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as AddressInfo;
    const end = async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    };
    return { url: `http://127.0.0.1:${port}/mcp`, headers, [Symbol.asyncDispose]: end };
  }
  const lab = (url: string, more: Record<string, Json> = {}) =>
    new Lab(
      { mcpServers: { odd: { url, tools: ["*"], headers: { Authorization: `Bearer ${fromWorker("CANARY")}` }, ...more } } },
      { env: { CANARY } },
    );

  test("is given its header, and answers as one over stdio does", async () => {
    verifies("EXEC-15");
    await using http = await httpServer(({ id }, response, request) => {
      const text = `heard ${request.headers.authorization}`;
      const result = { content: [{ type: "text", text }] };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ jsonrpc: "2.0", id, result }));
    });
    await using tasks = lab(http.url);
    const ran = await tasks.call("anything");
    expect(ran.outcome).toMatchObject({ ending: exit(EXIT.done), value: "heard [redacted]" });
    expect(new Set(http.headers)).toEqual(new Set([`Bearer ${CANARY}`]));
  });

  test("that pours, stays silent, redirects or is not there does no harm", async () => {
    await using pouring = await httpServer((_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const pour = () => {
        while (response.write(`"${"x".repeat(65_536)}`));
      };
      response.on("drain", pour);
      response.on("close", () => response.removeListener("drain", pour));
      pour();
    });
    await using silent = await httpServer(() => {});
    await using elsewhere = await httpServer(() => {});
    await using redirecting = await httpServer((_, response) => void response.writeHead(307, { location: elsewhere.url }).end());
    await using first = lab(pouring.url);
    expect((await first.call("t")).outcome.ending).toEqual(OUTPUT);
    await using second = lab(silent.url);
    expect((await second.call("t", {}, { limits: { wallMs: 500 } })).outcome.ending).toEqual(TIME);
    await using third = lab(redirecting.url);
    expect((await third.call("t")).outcome.ending).toMatchObject({ kind: "exit" });
    expect(elsewhere.headers).toEqual([]); // its key goes nowhere else
    await using fourth = lab("http://127.0.0.1:9/mcp");
    await expect(fourth.call("t")).rejects.toThrow(code("unavailable"));
  });
});

describe("probing", () => {
  test("reaches each server, names those that answer, and leaves none behind", async () => {
    await using lab = new Lab({ mcpServers: { odd: odd(), gone: { command: "no-such-program" } } });
    const probe = await lab.driver.probe();
    expect(probe).toMatchObject({ available: true, capabilities: { runtimes: { mcp: { version: "odd" } }, session: "none" } });
    expect(processesWith(ODD_SERVER)).toEqual([]);
    await using none = new Lab({});
    await expect(none.driver.probe()).resolves.toMatchObject({ available: false, reason: expect.stringContaining("mcpServers") });
  });
});
