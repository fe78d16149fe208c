/** What the tests over all servers need to know of distributed-execution. Its code is JavaScript, which runs everywhere. */
import { expect } from "vitest";
import type { Host } from "../../support/host.ts";
import type { ServerProof, ToolCall } from "./proof.ts";

const RUNTIME = "javascript";
/** Says its input and its first argument, leaves a file and, if it may, one with a name that it was given; its value is its input. */
const ECHO = `
console.log(stdin);
console.error(args[0]);
const given = readFile("a.txt");
writeFile("out/note.txt", given);
try {
  writeFile("out/" + args[1], given);
} catch (error) {
  console.error(error.message);
}
stdin`;
const ENDLESS = "for (;;) {}";
/** No worker has it: what requires it stays in the queue. */
const NOWHERE = { requires: { labels: ["nowhere"] } };
const WAIT = { waitMs: 50_000 };

const OF_TASK = { taskId: "%task.id" };
const OF_BATCH = { batchId: "%batch.id" };
const WAITING: ToolCall = ["submit_task", { code: "'@'", environment: RUNTIME, ...NOWHERE }];

export const distributedExecution: ServerProof = {
  varies: ["cpuMs", "peakMemoryMiB", "utilisation", "running", "slots"],
  setup: [
    ["submit_task", { code: "1", environment: RUNTIME, ...NOWHERE }],
    ["submit_batch", { tasks: [{ key: "a1", code: "1" }], defaults: { environment: RUNTIME, ...NOWHERE } }],
    ["start_session", { environment: RUNTIME }],
    ["create_environment", { name: "a1", runtime: RUNTIME }],
  ],
  story: [
    ["list_environments", { limit: 3 }],
    ["create_environment", { name: "small", runtime: RUNTIME, description: "Little room", limits: { wallMs: 20_000 } }],
    ["list_environments", { name: "small" }],
    [
      "submit_task",
      {
        ...{ code: ECHO, environment: "small", stdin: "Hello", args: ["one", "two"], timeout: 20_000, priority: 7 },
        ...{ files: [{ path: "a.txt", text: "A" }], dedupe: "once", maxAttempts: 2, queueTimeout: 600_000, ...WAIT },
      },
    ],
    ["get_result", { ...OF_TASK, ...WAIT }],
    ["get_output", OF_TASK],
    ["get_artifact", { artifactId: "%result.files.0.artifactId" }],
    ["list_tasks", { environment: "small", limit: 1 }],
    ["list_workers", {}],
    WAITING,
    ["cancel_task", { ...OF_TASK, ...WAIT }],
    ["submit_task", { code: ENDLESS, environment: RUNTIME, timeout: 300, ...WAIT }],
    [
      "submit_batch",
      {
        tasks: [
          { key: "one", code: "1" },
          { key: "two", code: "2", dependencies: ["one"] },
        ],
        ...{ defaults: { environment: RUNTIME }, maxConcurrency: 1, name: "Two" },
      },
    ],
    ["get_batch", { ...OF_BATCH, ...WAIT }],
    ["cancel_batch", OF_BATCH],
    ["start_session", { environment: RUNTIME, ttlMs: 600_000 }],
    ["submit_task", { code: "var kept = 1", environment: RUNTIME, sessionId: "%session.id", ...WAIT }],
    ["submit_task", { code: "kept", environment: RUNTIME, sessionId: "%session.id", ...WAIT }],
    ["list_sessions", {}],
    ["end_session", { sessionId: "%session.id" }],
    ["delete_environment", { name: "small" }],
  ],
  writes: {
    submit_task: {
      before: [],
      args: { code: "'@'", environment: RUNTIME, ...NOWHERE },
      other: { code: "3", environment: RUNTIME, ...NOWHERE },
    },
    cancel_task: { before: [WAITING], args: OF_TASK, other: { ...OF_TASK, waitMs: 1 } },
    submit_batch: {
      before: [],
      args: { tasks: [{ key: "a", code: "'@'" }], defaults: { environment: RUNTIME, ...NOWHERE } },
      other: { tasks: [{ key: "b", code: "'@'" }], defaults: { environment: RUNTIME, ...NOWHERE } },
    },
    cancel_batch: {
      before: [["submit_batch", { tasks: [{ key: "a", code: "'@'" }], defaults: { environment: RUNTIME, ...NOWHERE } }]],
      args: OF_BATCH,
      other: { batchId: "another" },
    },
    create_environment: {
      before: [],
      args: { name: "@", runtime: RUNTIME },
      other: { name: "@", runtime: RUNTIME, description: "Another" },
    },
    delete_environment: {
      before: [["create_environment", { name: "@", runtime: RUNTIME }]],
      args: { name: "@" },
      other: { name: "another" },
    },
    start_session: {
      before: [],
      args: { environment: RUNTIME },
      other: { environment: RUNTIME, ttlMs: 600_000 },
    },
    end_session: {
      before: [["start_session", { environment: RUNTIME }]],
      args: { sessionId: "%session.id" },
      other: { sessionId: "another" },
    },
  },
  hostile: (text, n) => {
    const short = text.slice(0, 60);
    const environment = `hostile-${n}`;
    const task = { code: ECHO, stdin: text, args: [text, short], files: [{ path: "a.txt", text }] };
    const asked = { code: "1", environment: RUNTIME, ...NOWHERE };
    const made = { name: `more-${n}`, runtime: RUNTIME };
    return [
      ["writer", "create_environment", { name: environment, runtime: RUNTIME, description: text, env: { NOTE: text } }],
      ["reader", "list_environments", { name: environment }],
      ["reader", "list_environments", {}],
      ["writer", "submit_task", { ...task, environment, dedupe: text.slice(0, 128), ...WAIT }],
      ["reader", "get_result", OF_TASK],
      ["reader", "get_artifact", { artifactId: "%result.files.0.artifactId" }],
      ["reader", "get_output", OF_TASK],
      ["reader", "list_tasks", { environment }],
      ["writer", "submit_batch", { name: short, tasks: [{ key: "a", ...task }], defaults: { environment } }],
      ["writer", "get_batch", { ...OF_BATCH, ...WAIT }],
      ["reader", "get_batch", OF_BATCH],
      ["writer", "delete_environment", { name: environment }],
      // refusals, each with hostile text in what is asked
      ["reader", "submit_task", { ...asked, environment: short }],
      ["reader", "submit_task", { ...asked, files: [{ path: short, text }] }],
      ["reader", "submit_task", { ...asked, files: [{ path: "a", artifactId: short }] }],
      ["reader", "submit_task", { ...asked, files: [{ path: "a", base64: text }] }],
      ["reader", "submit_task", { ...asked, requires: { labels: [short] } }],
      ["reader", "submit_task", { ...asked, requires: { arch: text.slice(0, 16) } }],
      ["reader", "submit_task", { ...asked, sessionId: short }],
      ["reader", "submit_task", { ...asked, environment: "mcp", code: text }],
      ["reader", "submit_task", { ...asked, environment: "mcp", code: JSON.stringify({ server: text, tool: text }) }],
      ["reader", "get_result", { taskId: short }],
      ["reader", "get_output", { taskId: short }],
      ["reader", "get_output", { ...OF_TASK, after: text.slice(0, 24) }],
      ["reader", "cancel_task", { taskId: short }],
      ["reader", "get_artifact", { artifactId: short }],
      ["reader", "list_tasks", { cursor: short }],
      ["reader", "list_tasks", { batchId: short }],
      ["reader", "list_environments", { cursor: short }],
      ["reader", "list_environments", { name: short }],
      ["reader", "list_workers", { cursor: short }],
      ["reader", "create_environment", { ...made, name: short }],
      ["reader", "create_environment", { ...made, runtime: text.slice(0, 32) }],
      ["reader", "create_environment", { ...made, network: { mode: "hosts", hosts: [short] } }],
      ["reader", "create_environment", { ...made, mounts: [{ from: short, to: short }] }],
      ["reader", "create_environment", { ...made, mounts: [{ from: `/${short}`, to: `/mnt/${short}` }] }],
      ["reader", "create_environment", { ...made, packages: [short] }],
      ["reader", "create_environment", { ...made, env: { [short]: text } }],
      ["reader", "create_environment", { ...made, image: short }],
      ["reader", "create_environment", { ...made, drivers: [short] }],
      ["reader", "delete_environment", { name: short }],
      ["reader", "submit_batch", { tasks: [{ key: short, ...asked }] }],
      ["reader", "submit_batch", { tasks: [{ key: "a", dependencies: [short], ...asked }] }],
      ["reader", "submit_batch", { tasks: [{ key: "a", ...asked, files: [{ path: "b", from: short, output: short }] }] }],
      ["reader", "get_batch", { batchId: short }],
      ["reader", "cancel_batch", { batchId: short }],
      ["reader", "cancel_batch", OF_BATCH],
      ["reader", "start_session", { environment: short }],
      ["reader", "end_session", { sessionId: short }],
      ["reader", "list_sessions", { cursor: short }],
    ];
  },
  async roundTrip(writer, reader, mark) {
    const nameOf = async (host: Host) => (await host.call<{ caller: { agentId: string } }>("list_workers")).caller.agentId;
    const { task } = await writer.call<{ task: { id: string } }>("submit_task", {
      ...{ code: ECHO, environment: RUNTIME, stdin: mark, args: ["said", "named.txt"], files: [{ path: "a.txt", text: mark }] },
      ...WAIT,
    });
    const read = await reader.call<{ result: { files: { path: string; artifactId: string; uri: string }[] } }>("get_result", {
      ...{ taskId: task.id, ...WAIT },
    });
    expect(read).toMatchObject({
      task: { status: "succeeded", agentId: await nameOf(writer) },
      result: { exitCode: 0, value: mark, stdout: `${mark}\n`, stderr: "said\n" },
    });
    expect(read.result.files.map(({ path }) => path).toSorted()).toEqual(["named.txt", "note.txt"]);
    for (const { artifactId, uri } of read.result.files) {
      expect(await reader.call("get_artifact", { artifactId })).toMatchObject({ part: { text: mark } });
      expect((await reader.client.readResource({ uri })).contents).toMatchObject([{ text: mark }]);
    }
    expect(await reader.read(`execution://${task.id}`)).toMatchObject({
      task: { status: "succeeded" },
      result: { value: mark },
    });
  },
};
