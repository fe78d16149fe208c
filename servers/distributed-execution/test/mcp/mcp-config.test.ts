import type { Json } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../../test/requirements.ts";
import { BUILTIN_PROFILES } from "../../src/mcp/builtin-profiles.ts";
import { checkMcpCode, checkMcpTask } from "../../src/mcp/mcp-code.ts";
import { mcpConfigOf, parseMcpConfig } from "../../src/mcp/mcp-config.ts";
import { resolveServer } from "../../src/mcp/server-secrets.ts";
import { parseOperatorFile } from "../../src/operator-file.ts";
import { fromWorker } from "./support.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

const FILE = {
  mcpServers: {
    files: { command: "files-server", tools: ["read_file"] },
    all: { url: "https://tools.invalid/mcp", headers: { Authorization: `Bearer ${fromWorker("TOKEN")}` }, tools: ["*"] },
    thinking: { command: "think" },
  },
  profiles: {
    coordination: { server: "thinking", uses: "coordination" },
    own: {
      server: "files",
      operations: { read: { steps: [{ tool: "other_tool", arguments: { path: "{{parameters.path}}" } }] } },
    },
  },
} as const;
const config = parseMcpConfig(FILE);
const call = (value: unknown) => JSON.stringify(value);

describe("the operator's list of MCP servers", () => {
  test("has defaults that let tasks call nothing, keep nothing warm and bound every time", () => {
    verifies("EXEC-15");
    expect(config.servers.get("thinking")).toEqual({
      ...{ command: "think", args: [], env: {}, tools: [], startMs: 60_000, callMs: 300_000, concurrency: 1, keepWarmMs: 0 },
    });
  });

  test.each<[string, Json, RegExp]>([
    ["a server that is neither", { mcpServers: { a: {} } }, /mcpServers\.a: "command"/],
    ["a server that is both", { mcpServers: { a: { command: "x", url: "y" } } }, /mcpServers\.a: unknown field "command"/],
    ["an unknown field", { mcpServers: { a: { command: "x", shell: true } } }, /unknown field "shell"/],
    ["a name that is no name", { mcpServers: { "a b": { command: "x" } } }, /"mcpServers": entry 1/],
    ["a number out of bounds", { mcpServers: { a: { command: "x", concurrency: 1_000 } } }, /"concurrency"/],
    ["a list in place of an object", { mcpServers: [] }, /"mcpServers": not an object/],
    ["a profile of no known kind", { ...FILE, profiles: { p: { server: "files", uses: "magic" } } }, /"uses" names none of/],
    ["a profile of no server", { ...FILE, profiles: { p: { server: "gone", uses: "research" } } }, /there is no gone/],
    ["a profile without operations", { ...FILE, profiles: { p: { server: "files" } } }, /it has no operations/],
    [
      "a placeholder that is none",
      {
        ...FILE,
        profiles: { p: { server: "files", operations: { o: { steps: [{ tool: "t", arguments: { a: "{{x y}}" } }] } } } },
      },
      /profiles\.p\.operations\.o: This is not a placeholder/,
    ],
  ])("names the place of a mistake: %s", (_, file, message) => {
    expect(() => parseMcpConfig(file as { mcpServers?: Json; profiles?: Json })).toThrow(code("invalid_argument", message));
  });

  test("is part of the operator's file, which keeps it as it stands there", () => {
    const file = parseOperatorFile({ ...FILE, runner: { tasks: { url: "http://127.0.0.1:1/mcp" } } });
    expect(mcpConfigOf(file)?.profiles.get("coordination")?.operations.size).toBe(4);
    expect(file.runner).toEqual({ tasks: { url: "http://127.0.0.1:1/mcp" } });
    expect(mcpConfigOf(parseOperatorFile({}))).toBeUndefined();
    expect(() => parseOperatorFile({ runner: { other: {} } })).toThrow(code("invalid_argument"));
  });

  test("has every profile that comes with the package, and all their placeholders are read", () => {
    const profiles = Object.fromEntries(Object.keys(BUILTIN_PROFILES).map((uses) => [uses, { server: "files", uses }]));
    const read = parseMcpConfig({ ...FILE, profiles });
    expect([...read.profiles].map(([name, { operations }]) => [name, [...operations.keys()]])).toEqual([
      ["coordination", ["structured_reasoning", "decompose_task", "synthesize_results", "coordinate_workflow"]],
      ["research", ["research", "verify_facts", "current_information", "expert_analysis"]],
      ["supabase", ["execute_sql", "manage_projects", "deploy_function", "realtime_subscriptions"]],
      ["postgres", ["execute_sql"]],
    ]);
  });
});

describe("the code of a task for the environment mcp", () => {
  test("names a tool that the operator permits, or an operation with what it needs", () => {
    verifies("EXEC-15");
    expect(checkMcpCode(call({ server: "files", tool: "read_file", arguments: { path: "a" } }), config)).toEqual({
      ...{ server: "files", tool: "read_file", arguments: { path: "a" } },
    });
    expect(checkMcpCode(call({ server: "all", tool: "anything" }), config)).toMatchObject({ arguments: {} });
    checkMcpCode(call({ profile: "own", operation: "read", parameters: { path: "a" } }), config);
  });

  test.each<[string, string, ReturnType<typeof code>]>([
    ["text", "read a file", code("invalid_argument", /it is not JSON/)],
    ["another shape", call({ tool: "x" }), code("invalid_argument", /names neither/)],
    ["both shapes", call({ server: "files", tool: "read_file", profile: "own" }), code("invalid_argument", /names neither/)],
    ["arguments that are no object", call({ server: "files", tool: "read_file", arguments: [1] }), code("invalid_argument")],
    ["a name with other text", call({ server: "files\u001b[2J", tool: "read_file" }), code("invalid_argument")],
    ["deep nesting", `${"[".repeat(100)}${"]".repeat(100)}`, code("invalid_argument", /nested/)],
    ["an unknown server", call({ server: "nowhere", tool: "t" }), code("not_found", /no MCP server named nowhere/)],
    ["a tool that is not permitted", call({ server: "files", tool: "write_file" }), code("permission_denied", /write_file/)],
    ["a tool of a server without any", call({ server: "thinking", tool: "sequentialthinking" }), code("permission_denied")],
    ["an operation's own tool", call({ server: "files", tool: "other_tool" }), code("permission_denied")],
    ["an unknown profile", call({ profile: "none", operation: "o" }), code("not_found", /no profile named none/)],
    ["an unknown operation", call({ profile: "own", operation: "write" }), code("not_found", /operation of own named write/)],
    ["a missing parameter", call({ profile: "own", operation: "read" }), code("invalid_argument", /Missing: parameters\.path/)],
  ])("is refused when it is %s", (_, text, error) => {
    expect(() => checkMcpCode(text, config)).toThrow(error);
  });

  test("is judged by its shape alone where there is no operator's file", () => {
    expect(checkMcpCode(call({ server: "nowhere", tool: "t" }))).toMatchObject({ server: "nowhere" });
    expect(() => checkMcpCode("{}")).toThrow(code("invalid_argument"));
  });

  test("comes alone", () => {
    const good = call({ server: "files", tool: "read_file" });
    checkMcpTask({ code: good, args: [], stdin: "", files: [] }, config);
    for (const more of [{ args: ["a"] }, { stdin: "x" }, { files: [{}] }]) {
      expect(() => checkMcpTask({ code: good, ...more }, config)).toThrow(code("invalid_argument", /code alone/));
    }
  });
});

describe("secrets", () => {
  test("come from the worker's environment when a server is started, and are taken out of what it says", () => {
    verifies("EXEC-15");
    const given = { TOKEN: "tok-9/8+7", DATABASE: "postgres://me:pa%20ss-word@db/x" };
    const [server] = parseMcpConfig({
      mcpServers: {
        s: {
          command: "c",
          args: [fromWorker("DATABASE")],
          env: { KEY: fromWorker("TOKEN"), API_KEY: "in-the-file", MODE: "production" },
        },
      },
    }).servers.values();
    if (!server) throw new Error("no server");
    const { server: resolved, redactor } = resolveServer("s", server, given);
    expect(resolved).toMatchObject({
      args: [given.DATABASE],
      env: { KEY: given.TOKEN, API_KEY: "in-the-file", MODE: "production" },
    });
    const base64 = Buffer.from(given.TOKEN).toString("base64");
    const said = `${given.TOKEN} ${encodeURIComponent(given.TOKEN)} ${base64} in-the-file pa ss-word ${given.DATABASE} production`;
    const left = redactor.text(said);
    for (const user of ["", "a", "ab", "abc"]) {
      const basic = Buffer.from(`${user}:${given.TOKEN}@x`).toString("base64");
      const shown = Buffer.from(redactor.text(basic).replace("[redacted]", ""), "base64").toString("latin1");
      expect(shown).not.toContain("tok-9/8");
      expect(redactor.text(basic)).toContain("[redacted]");
    }
    for (const secret of [given.TOKEN, "tok-9", "in-the-file", "ss-word", base64.slice(0, 8)]) expect(left).not.toContain(secret);
    expect(left).toContain("production");
    expect(redactor.json({ [given.TOKEN]: [{ a: `x${given.TOKEN}` }] })).toEqual({ "[redacted]": [{ a: "x[redacted]" }] });
    expect(Buffer.from(redactor.bytes(Buffer.from(`\u0000ü${given.TOKEN}`))).toString()).toBe("\u0000ü[redacted]");
  });

  test("that a worker lacks are named, so that another worker may take the task", () => {
    const server = config.servers.get("all");
    if (!server) throw new Error("no server");
    expect(() => resolveServer("all", server, {})).toThrow(code("unavailable", /needs the variable TOKEN/));
  });
});
