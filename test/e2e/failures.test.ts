/** What nobody foresaw: the model reads an id, the operator reads the cause. */
import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";
import { Surroundings } from "../support/surroundings.ts";

const SECRET = "text-of-another-agent";

/** A call of each server that writes a record, whose id may be in the answer, and calls that need it. */
interface Calls {
  write: readonly [tool: string, json: string];
  /** Of the record. */
  namespace: string;
  uses: (answer: unknown) => readonly (readonly [tool: string, json: string])[];
}
const CALLS: Record<string, Calls> = {
  "agent-comm": {
    write: ["send_message", `{"targetAgent":"a1","messageType":"note","payload":"Work ${SECRET}"}`],
    namespace: "msg",
    uses: (answer) => {
      const read = JSON.stringify({ messageId: (answer as { message: { id: string } }).message.id });
      return [
        ["get_message", read],
        ["get_message", read],
        ["get_message", read],
      ];
    },
  },
  "distributed-execution": {
    write: [
      "submit_task",
      `{"code":"Work","stdin":"${SECRET}","environment":"javascript","dedupe":"Work","requires":{"labels":["nowhere","Work"]}}`,
    ],
    namespace: "exec",
    uses: (answer) => {
      const one = JSON.stringify({ taskId: (answer as { task: { id: string } }).task.id });
      return [
        ["get_result", one],
        ["get_output", one],
        ["cancel_task", one],
      ];
    },
  },
  security: {
    write: ["put_secret", `{"name":"Work","value":"${SECRET}"}`],
    namespace: "secret",
    uses: () => [
      ["get_secret", '{"name":"Work"}'],
      ["put_secret", '{"name":"Work"}'],
      ["list_secrets", "{}"],
    ],
  },
  "shared-state": {
    write: ["set_state", `{"key":"a1","value":"Work ${SECRET}"}`],
    namespace: "state",
    uses: () => [
      ["get_state", '{"key":"a1"}'],
      ["patch_state", '{"key":"a1","append":1}'],
      ["list_state", "{}"],
    ],
  },
  "task-coordination": {
    write: ["add_task", `{"id":"a1","description":"Work ${SECRET}"}`],
    namespace: "task",
    uses: () => [
      ["get_task", '{"taskId":"a1"}'],
      ["claim_task", '{"taskId":"a1"}'],
      ["get_task", '{"taskId":"a1"}'],
    ],
  },
};

/** Ways in which the store really breaks under a running server. */
const BREAKS: Record<string, (path: string, namespace: string) => void> = {
  "a record whose bytes changed on disk": (path, namespace) => {
    const db = new DatabaseSync(path);
    db.exec("DROP TRIGGER keyv_foreign_write");
    db.prepare("UPDATE keyv SET value = replace(value, 'Work', 'Lurk') WHERE namespace = ?").run(namespace);
    db.close();
  },
  "a table that is gone": (path) => {
    const db = new DatabaseSync(path);
    db.exec("DROP TABLE keyv");
    db.close();
  },
};

describe.each(Object.keys(BREAKS))("%s", (what) => {
  test.each(Object.keys(CALLS))(
    "of %s reads `internal` and an id; cause and stack are on stderr alone, under the same id",
    async (server) => {
      const { write, namespace, uses } = CALLS[server] ?? expect.fail("No such server");
      verifies("CORE-06");
      using folder = temporaryFolder();
      await using swarm = await Surroundings.of(server, folder.store);
      await using raw = await swarm.raw("a1");
      await raw.initialize();
      const written = (await raw.callText(...write)).result;
      expect(written?.isError).not.toBe(true);
      BREAKS[what]?.(folder.store.slice("sqlite:".length), namespace);

      const ids = new Set<string>();
      for (const [tool, json] of uses(written?.structuredContent)) {
        const { result } = await raw.callText(tool, json);
        const { content, isError, _meta, structuredContent } = result as {
          content: { text: string }[];
          isError: boolean;
          _meta: Record<string, unknown>;
          structuredContent?: unknown;
        };
        const text = content.map((part) => part.text).join("\n");
        expect(isError, text).toBe(true);
        expect(structuredContent).toBeUndefined();
        expect(_meta["mcp-swarm/error"]).toMatchObject({ code: "internal" });
        const id = /^internal: Something failed inside the server \((\S+)\)\.\n/.exec(text)?.[1] ?? "no id";
        expect(text).not.toMatch(/checksum|SQLITE|no such table|keyv|\.js:|\n\s+at /);
        expect(JSON.stringify(result)).not.toContain(SECRET);
        ids.add(id);
        const line = await eventually("the cause is on stderr", () => raw.stderr.split("\n").find((one) => one.includes(id)));
        const logged = JSON.parse(line) as { level: number; errorId: string; tool: string; err: { stack: string } };
        expect(logged).toMatchObject({ level: 50, errorId: id, tool });
        expect(logged.err.stack).toMatch(/\n\s+at /);
      }
      expect(ids.size).toBe(3);
      expect([...ids]).not.toContain("no id");
      expect(raw.strays).toEqual([]);
      expect((await raw.ask("tools/list", {})).result?.tools).toBeDefined();
      expect(raw.stderr).not.toContain(SECRET);
    },
  );
});

test("over HTTP a failure reads the same, and the server goes on for others", async () => {
  verifies("CORE-06");
  using folder = temporaryFolder();
  const { startServerHttp } = await import("../support/bin.ts");
  await using serving = await startServerHttp("task-coordination", { SWARM_STORE: folder.store });
  await using host = await Host.http(`${serving.url}/mcp`, { agent: "remote" });
  await host.call("add_task", { id: "a1", description: "Work" });
  BREAKS["a record whose bytes changed on disk"]?.(folder.store.slice("sqlite:".length), "task");
  const answer = await host.try("get_task", { taskId: "a1" });
  expect(answer).toMatchObject({
    isError: true,
    text: expect.stringMatching(/^internal: Something failed inside the server \(\S+\)\./),
  });
  await host.call("add_task", { id: "a2", description: "Other work" });
  expect((await host.call<{ task: { id: string } }>("get_task", { taskId: "a2" })).task.id).toBe("a2");
});

test("a store whose folder is taken away fails the call, not the process", async () => {
  verifies("CORE-06", "CORE-13");
  using folder = temporaryFolder();
  await using host = await Host.start({ store: `sqlite:${folder.path}/missing/\u{1f4be} space/swarm.db`, agent: "a1" });
  await host.call("add_task", { id: "a1", description: "Work" });
  await using blocked = await Host.start({ store: "sqlite:/dev/null/nowhere/swarm.db", agent: "a2" });
  for (const _ of [1, 2]) {
    const answer = await blocked.try("get_all_tasks");
    expect(answer).toMatchObject({
      isError: true,
      text: expect.stringMatching(/^unavailable: The folder of the store could not be made\.\n.*SWARM_STORE/),
    });
  }
});
