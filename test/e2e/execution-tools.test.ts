/** The tools of distributed-execution as a host uses them: the real bin, its own workers and real sandboxes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ANSWER_BYTES_MAX } from "@mcp-swarm/server";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { lookInto } from "../support/content.ts";
import { ERAS, eventually, Host, temporaryFolder } from "../support/host.ts";

const SERVER = "distributed-execution";
const JS = { environment: "javascript", waitMs: 50_000 };
/** A PNG of one red dot. */
const DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
/** No worker has it. */
const NOWHERE = { requires: { labels: ["nowhere"] } };

interface Answer {
  task: { id: string; status: string; attempt: number; waits?: string };
  result: {
    value?: unknown;
    valueText?: string;
    valueCutChars?: number;
    stdout: string;
    stdoutTail?: string;
    stdoutLeftOutChars?: number;
    files: { path: string; artifactId: string; uri: string; mimeType: string; shown?: boolean }[];
  };
}

async function withHost(look: (host: Host, folder: { path: string; store: string }) => Promise<void>, env = {}): Promise<void> {
  using folder = temporaryFolder();
  await using host = await Host.start({ server: SERVER, store: folder.store, agent: "ann", env });
  await look(host, folder);
}

describe("submit_task", () => {
  test("answers with what came out when it ends in time, and with the task alone when it does not", async () => {
    verifies("EXEC-01", "EXEC-02");
    await withHost(async (host) => {
      const code = "console.log(args[0], stdin); console.error('warned'); ({ six: 6, list: [1, null, 'ä'] })";
      const done = await host.call<Answer>("submit_task", { ...JS, code, args: ["Hello"], stdin: "there" });
      expect(done).toMatchObject({
        task: { status: "succeeded", agentId: "ann", attempt: 1, environment: "javascript", priority: 5, maxAttempts: 3 },
        result: {
          ...{ exitCode: 0, value: { six: 6, list: [1, null, "ä"] }, stdout: "Hello there\n", stderr: "warned\n" },
          ...{ wallMs: expect.any(Number), cpuMs: expect.any(Number), peakMemoryMiB: expect.any(Number), files: [] },
        },
        untrusted: ["result.value", "result.stdout", "result.stderr", "result.files"],
      });
      expect(await host.call("get_result", { taskId: done.task.id })).toMatchObject({ task: done.task, result: done.result });

      const begun = await host.call<Answer>("submit_task", { code: "for (;;) {}", environment: "javascript" });
      expect(begun.task.status).toMatch(/^(queued|running)$/);
      expect(begun).not.toHaveProperty("result");
      const running = () => host.call<Answer>("get_result", { taskId: begun.task.id });
      await eventually("it runs", async () => (await running()).task.status === "running");
      const killed = await host.call<Answer>("cancel_task", { taskId: begun.task.id, waitMs: 50_000 });
      expect(killed).toMatchObject({
        task: { status: "cancelled" },
        result: { ended: "It was killed because it was cancelled." },
      });
    });
  });

  test("tells the limit at which code was killed, in words and with its number; what code does is not repeated", async () => {
    verifies("EXEC-02", "EXEC-07");
    await withHost(async (host) => {
      await host.call("create_environment", {
        name: "small",
        runtime: "javascript",
        limits: { memoryMiB: 32, outputBytes: 2_000 },
      });
      const run = (code: string, more = {}) => host.call<Answer>("submit_task", { ...JS, environment: "small", code, ...more });
      expect(await run("for (;;) {}", { timeout: 300 })).toMatchObject({
        task: { status: "failed", attempt: 1 },
        result: { limit: "wallMs", ended: "It was killed after 300 ms of running time (timeout): its limit wallMs." },
      });
      expect(await run("const a = []; for (;;) a.push('x'.repeat(100_000) + a.length)")).toMatchObject({
        task: { status: "failed", attempt: 1 },
        result: { limit: "memoryMiB", ended: "It was killed at 32 MiB of memory: its limit memoryMiB." },
      });
      expect(await run("for (;;) console.log('much')")).toMatchObject({
        task: { status: "failed", attempt: 1 },
        result: { limit: "outputBytes", ended: "It was killed at 2000 bytes of output: its limit outputBytes." },
      });
      expect(await run("throw new TypeError('on purpose')")).toMatchObject({
        task: { status: "failed", attempt: 1 },
        result: { exitCode: 1, ended: "It ended by itself with exit code 1.", stderr: expect.stringContaining("on purpose") },
      });
    });
  });

  test("refuses what cannot run, says why and what to do, and queues nothing", async () => {
    verifies("EXEC-01", "EXEC-03");
    await withHost(async (host, { store }) => {
      const ended = await host.call<Answer>("submit_task", { ...JS, code: "1" });
      const session = await host.call<{ session: { id: string } }>("start_session", { environment: "javascript" });
      const sessionId = session.session.id;
      await host.call("end_session", { sessionId });
      await using look = await lookInto(store);
      const tasks = async () => (await look.store.scan({ from: "exec/", before: "exec0", limit: 100 })).length;
      const rows = async () => (await look.content()).filter((entry) => !JSON.stringify(entry).includes("exec-worker/")).length;
      const before = [await tasks(), await rows()];
      const cases: [args: Record<string, unknown>, says: RegExp][] = [
        [{ environment: "cobol" }, /^not_found: There is no environment cobol\.\nlist_environments names/],
        [
          { code: "é".repeat(600_000) },
          /^limit_exceeded: The code has 1200000 bytes; at most 1048576 are taken\.\nGive data as files/,
        ],
        [{ code: "a".repeat(1_048_577) }, /^invalid_argument: The input is not valid: "code"/],
        [{ code: "a\0b" }, /^invalid_argument: Field "code" contains a NUL character/],
        [{ code: "a\ud800" }, /^invalid_argument: Field "code" contains half of a surrogate pair/],
        [{ code: " \n" }, /^invalid_argument: There is no code\.\nGive what is to run as "code"/],
        [
          { timeout: 3_000_000 },
          /^invalid_argument: In environment javascript a task runs for at most 600000 ms\.\nUse a shorter timeout/,
        ],
        [
          { files: [{ path: "../a", text: "" }] },
          /^invalid_argument: A path of a file is not one that a sandbox takes\.\nUse a relative path/,
        ],
        [{ files: [{ path: "/etc/passwd", text: "" }] }, /^invalid_argument: A path of a file/],
        [
          {
            files: [
              { path: "a", text: "" },
              { path: "A", text: "" },
            ],
          },
          /^invalid_argument: Two files have the same path/,
        ],
        [{ files: [{ path: "a" }] }, /^invalid_argument: A file needs exactly one source\.\nGive it "text"/],
        [{ files: [{ path: "a", text: "", base64: "" }] }, /^invalid_argument: A file needs exactly one source/],
        [{ files: [{ path: "a", base64: "~" }] }, /^invalid_argument: .*base64/i],
        [
          { files: [{ path: "a", artifactId: "art-000000000000" }] },
          /^not_found: There is no artifact art-000000000000\.\nget_result/,
        ],
        [{ sessionId: "session-000000000000" }, /^not_found: There is no session session-000000000000\.\nlist_sessions/],
        [{ sessionId }, /^failed_precondition: /],
        [{ environment: "mcp", code: "{}" }, /^invalid_argument: The code of a task for the environment mcp is a call in JSON/],
        [{ requires: { labels: Array.from({ length: 17 }, (_, at) => `l${at}`) } }, /^invalid_argument: /],
      ];
      for (const [args, says] of cases) {
        const answer = await host.try("submit_task", { code: "1", environment: "javascript", ...args });
        expect(answer.isError, JSON.stringify(args).slice(0, 100)).toBe(true);
        expect(answer.text).toMatch(says);
        expect(answer.text.length).toBeLessThan(700);
      }
      expect(await host.try("cancel_task", { taskId: ended.task.id })).toMatchObject({
        text: `failed_precondition: Task ${ended.task.id} has ended already: succeeded.\nget_result has what came of it.`,
      });
      expect([await tasks(), await rows()]).toEqual(before);
    });
  });

  test("that nobody can serve says why it waits, and a task that waited too long says so", async () => {
    verifies("EXEC-01", "EXEC-10");
    await withHost(async (host) => {
      const lacking = await host.call<Answer>("submit_task", { ...JS, code: "1", ...NOWHERE, waitMs: 1_500 });
      expect(lacking).toMatchObject({
        task: {
          status: "queued",
          waits: expect.stringMatching(
            /^No worker has what it requires: the label nowhere\. Start one .* --labels nowhere, or cancel/,
          ),
        },
        untrusted: ["task.waits"],
      });
      const call = JSON.stringify({ server: "files", tool: "read" });
      const unknown = await host.call<Answer>("submit_task", { environment: "mcp", code: call, waitMs: 1_500 });
      expect(unknown.task.waits).toMatch(
        /^No worker offers mcp here\. This worker .*"mcpServers" in the file SWARM_EXEC_CONFIG\.$/,
      );
      const late = await host.call<Answer>("submit_task", { ...JS, code: "1", ...NOWHERE, queueTimeout: 200 });
      expect(late.task).toMatchObject({ status: "expired", because: "No worker took it before its queueTimeout was over." });
    });
    await withHost(
      async (host) => {
        const nobody = await host.call<Answer>("submit_task", { ...JS, code: "1", waitMs: 1_500 });
        expect(nobody.task.waits).toMatch(
          /^No worker is there\. .*SWARM_EXEC_SLOTS is 0; mcp-swarm-distributed-execution worker/,
        );
      },
      { SWARM_EXEC_SLOTS: "0" },
    );
  });

  test("with a dedupe key is the task that the key stands for, and other code under the key is a conflict", async () => {
    verifies("EXEC-01");
    await withHost(async (host) => {
      const asked = { ...JS, code: "1 + 1", dedupe: "sum" };
      const first = await host.call<Answer>("submit_task", asked);
      expect((await host.call<Answer>("submit_task", asked)).task.id).toBe(first.task.id);
      expect((await host.try("submit_task", { ...asked, code: "2 + 2" })).text).toMatch(
        /^conflict: This dedupe key stands for another/,
      );
    });
  });
});

describe("what came out", () => {
  test("that is long is shown by its beginning and its end, within the bound of an answer, and can be read whole", async () => {
    verifies("EXEC-02", "CORE-11");
    await withHost(async (host) => {
      const lines = 30_000;
      const code = `for (let at = 0; at < ${lines}; at++) console.log("line " + at); ({ long: "é\\u0007".repeat(20_000) })`;
      const { text } = await host.try("submit_task", { ...JS, code });
      const { task, result } = JSON.parse(text) as Answer;
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
      expect(result.stdout).toMatch(/^line 0\nline 1\n/);
      expect(result.stdoutTail).toMatch(/\nline 29999\n$/);
      const whole = Array.from({ length: lines }, (_, at) => `line ${at}\n`).join("");
      const shown = result.stdout.length + (result.stdoutTail?.length ?? 0);
      expect(shown + (result.stdoutLeftOutChars ?? 0)).toBe(whole.length);

      let read = "";
      let after: string | undefined;
      for (let pages = 0; pages < 100; pages++) {
        const page = await host.try("get_output", { taskId: task.id, ...(after === undefined ? {} : { after }) });
        expect(Buffer.byteLength(page.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
        const { parts, next, ended } = page.structured as { parts: { text: string }[]; next: string; ended: boolean };
        read += parts.map((part) => part.text).join("");
        after = next;
        if (ended) break;
      }
      expect(read === whole).toBe(true);

      const json = JSON.stringify({ long: "é\u0007".repeat(20_000) });
      expect(json.startsWith(result.valueText ?? "-")).toBe(true);
      expect((result.valueText?.length ?? 0) + (result.valueCutChars ?? 0)).toBe(json.length);
      let value = "";
      for (let offset: number | undefined = 0, pages = 0; offset !== undefined && pages < 100; pages++) {
        const page = await host.try("get_result", { taskId: task.id, valueOffset: offset });
        expect(Buffer.byteLength(page.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
        const { part } = page.structured as { part: { text: string; nextOffset?: number } };
        value += part.text;
        offset = part.nextOffset;
      }
      expect(value === json).toBe(true);
    });
  });

  test("is followed while it runs: get_output waits for more, reports that it waits, and ends with the task", async () => {
    verifies("EXEC-02", "CORE-10");
    await withHost(async (host) => {
      const code = `
        console.log("begun");
        await new Promise((done) => setTimeout(done, 7_000));
        console.log("ended");`;
      const { task } = await host.call<Answer>("submit_task", { code, environment: "javascript", timeout: 60_000 });
      const taskId = task.id;
      const told: (string | undefined)[] = [];
      const onprogress = ({ message }: { message?: string | undefined }) => void told.push(message);
      let after: string | undefined;
      let text = "";
      for (let looks = 0; looks < 20; looks++) {
        const look = await host.call<{ parts: { text: string }[]; next: string; ended: boolean; status: string }>(
          "get_output",
          { taskId, waitMs: 50_000, ...(after === undefined ? {} : { after }) },
          { onprogress },
        );
        text += look.parts.map((part) => part.text).join("");
        after = look.next;
        if (text === "begun\n") expect(look.status).toBe("running");
        if (look.ended) break;
      }
      expect(text).toBe("begun\nended\n");
      expect(told).toContain("Nothing more after 5 s");
    });
  });

  test.each(ERAS)(
    "of files are artifacts, shown to a host of %s: images as images, others as links, and taken by later tasks",
    async (era) => {
      verifies("EXEC-12", "EXEC-02");
      using folder = temporaryFolder();
      await using host = await Host.start({ server: SERVER, store: folder.store, agent: "ann", era });
      const code = `
      writeFile("out/dot.png", readBytes("given.png"));
      writeFile("out/notes/a.md", "# Ä\\n".repeat(5_000));
      writeFile("out/raw.bin", new Uint8Array([0, 1, 2, 255]));
      1`;
      const made = await host.try("submit_task", { ...JS, code, files: [{ path: "given.png", base64: DOT }] });
      const { result } = made.structured as unknown as Answer;
      const byPath = Object.fromEntries(result.files.map((file) => [file.path, file]));
      expect(byPath).toMatchObject({
        "dot.png": { mimeType: "image/png", shown: true },
        "notes/a.md": { mimeType: "text/markdown" },
        "raw.bin": { mimeType: "application/octet-stream", bytes: 4 },
      });
      expect(made.content.filter(({ type }) => type === "image")).toMatchObject([{ data: DOT, mimeType: "image/png" }]);
      expect(made.content.filter(({ type }) => type === "resource_link").map(({ uri }) => uri)).toEqual(
        result.files.filter(({ shown }) => !shown).map(({ uri }) => uri),
      );

      const [dot, notes, raw] = [byPath["dot.png"], byPath["notes/a.md"], byPath["raw.bin"]];
      expect((await host.client.readResource({ uri: dot?.uri ?? "" })).contents).toMatchObject([
        { mimeType: "image/png", blob: DOT },
      ]);
      expect((await host.client.readResource({ uri: raw?.uri ?? "" })).contents).toMatchObject([{ blob: "AAEC/w==" }]);
      const image = await host.try("get_artifact", { artifactId: dot?.artifactId });
      expect(image.structured).toMatchObject({
        artifact: { name: "dot.png", shown: true, agentId: "ann", sha256: expect.any(String) },
      });
      expect(image.content.at(-1)).toMatchObject({ type: "image", data: DOT });

      let text = "";
      for (let offset: number | undefined = 0, pages = 0; offset !== undefined && pages < 20; pages++) {
        const page = await host.try("get_artifact", { artifactId: notes?.artifactId, offset, limit: 9_998 });
        expect(Buffer.byteLength(page.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
        const { part } = page.structured as { part: { text: string; nextOffset?: number } };
        text += part.text;
        offset = part.nextOffset;
      }
      expect(text).toBe("# Ä\n".repeat(5_000));

      const taken = { path: "in/dot.png", artifactId: dot?.artifactId };
      const later = await host.call<Answer>("submit_task", { ...JS, code: "readBytes('in/dot.png').length", files: [taken] });
      expect(later.result.value).toBe(Buffer.from(DOT, "base64").length);
    },
  );

  test("is a resource whose changes a host is told of", async () => {
    verifies("EXEC-02");
    await withHost(async (host) => {
      const begun = await host.call<Answer>("submit_task", { code: "for (;;) {}", environment: "javascript", timeout: 60_000 });
      const uri = `execution://${begun.task.id}`;
      await host.subscribe(uri);
      expect((await host.client.listResources()).resources.map((resource) => resource.uri)).toContain(uri);
      await host.call("cancel_task", { taskId: begun.task.id });
      await eventually("the end is told", async () => {
        const told = host.updates(uri) > 0;
        return told && (await host.read<Answer>(uri)).task.status === "cancelled";
      });
      await expect(host.read("execution://exec-000000000000")).rejects.toThrow(/There is no task/);
      await expect(host.read("artifact://art-000000000000")).rejects.toThrow(/There is no artifact/);
    });
  });
});

describe("environments", () => {
  test("are listed with their limits and, for each worker, with what holds there or why it is not there", async () => {
    verifies("EXEC-03");
    await withHost(async (host) => {
      const { environments } = await host.call<{
        environments: { name: string; workers: Record<string, unknown>[]; limits: Record<string, number> }[];
      }>("list_environments");
      const names = environments.map(({ name }) => name);
      expect(names).toEqual(["bash", "javascript", "mcp", "node", "python", "python3", "typescript"]);
      const of = (name: string) => environments.find((one) => one.name === name);
      expect(of("javascript")).toMatchObject({
        limits: { wallMs: 600_000, memoryMiB: 256 },
        workers: [
          { available: true, driver: "quickjs", limits: { enforced: expect.arrayContaining(["wallMs", "memoryMiB"]), none: [] } },
        ],
      });
      expect(of("mcp")?.workers).toMatchObject([{ available: false, reason: expect.stringContaining("mcpServers") }]);
      const whole = await host.call<typeof environments>("list_environments", { name: "javascript" });
      expect(whole).toMatchObject({ environments: [{ workers: [{ isolates: expect.arrayContaining([expect.any(String)]) }] }] });
      expect(await host.call("list_workers")).toMatchObject({
        workers: [{ kind: "server", slots: 2, environments: expect.arrayContaining(["javascript", "typescript"]) }],
      });
      const pages: string[] = [];
      for (let cursor: string | undefined, at = 0; at < 10; at++) {
        const page = await host.call<{ environments: { name: string }[]; nextCursor?: string }>("list_environments", {
          ...{ limit: 3, ...(cursor === undefined ? {} : { cursor }) },
        });
        pages.push(...page.environments.map(({ name }) => name));
        cursor = page.nextCursor;
        if (cursor === undefined) break;
      }
      expect(pages).toEqual(names);
    });
  });

  test("are made for all within the ceiling of the operator's file, and refused beyond it with the field", async () => {
    verifies("EXEC-03");
    using folder = temporaryFolder();
    const config = join(folder.path, "exec.json");
    const file = {
      ceiling: { limits: { memoryMiB: 128 }, drivers: ["quickjs"] },
      environments: [{ name: "roomy", runtime: "javascript", limits: { memoryMiB: 512 }, description: "Named by the operator" }],
    };
    writeFileSync(config, JSON.stringify(file));
    const env = { SWARM_EXEC_CONFIG: config };
    await using strict = await Host.start({ server: SERVER, store: folder.store, agent: "ann", env });
    await using other = await Host.start({ server: SERVER, store: folder.store, agent: "bob", env: { SWARM_EXEC_SLOTS: "0" } });
    const refused: [args: Record<string, unknown>, says: string][] = [
      [{ limits: { memoryMiB: 129 } }, 'permission_denied: "limits.memoryMiB" is 129, and the ceiling is 128.'],
      [{ network: { mode: "all" } }, 'permission_denied: "network.mode" is all, and the ceiling is none.'],
      [{ runtime: "python" }, 'permission_denied: "drivers" names pyodide, and the ceiling permits quickjs.'],
      [
        { mounts: [{ from: "/etc", to: "/mnt/etc" }] },
        'permission_denied: "mounts[0].from" is refused: the ceiling permits no mounts.',
      ],
      [{ name: "javascript" }, "already_exists: There is an environment javascript already."],
    ];
    const wanted = { name: "mine", runtime: "javascript", limits: { memoryMiB: 64 } };
    for (const [args, says] of refused) {
      const answer = await strict.try("create_environment", { ...wanted, ...args, limits: args.limits ?? wanted.limits });
      expect(answer.isError).toBe(true);
      expect(answer.text.split("\n")[0]).toBe(says);
    }
    await strict.call("create_environment", wanted);
    const run = (host: Host, environment: string) => host.call<Answer>("submit_task", { ...JS, environment, code: "7" });
    expect((await run(other, "mine")).result.value).toBe(7);
    // the operator's own is found by every process, and stays where it is
    expect((await run(other, "roomy")).result.value).toBe(7);
    expect((await other.try("delete_environment", { name: "roomy" })).text).toMatch(
      /^failed_precondition: .* stands in an operator's file/,
    );
    // its builtin is beyond the ceiling of the one worker there is
    const waiting = await other.call<Answer>("submit_task", { ...JS, code: "7", waitMs: 1_500 });
    expect(waiting.task.waits).toMatch(/operator does not permit it: limits\.memoryMiB is 256, and the ceiling is 128/);
    await other.call("cancel_task", { taskId: waiting.task.id });

    const waitsForIt = await other.call<Answer>("submit_task", { environment: "mine", code: "7", ...NOWHERE });
    await other.call("delete_environment", { name: "mine" });
    expect((await other.try("submit_task", { environment: "mine", code: "7" })).text).toMatch(
      /^not_found: There is no environment mine/,
    );
    const gone = await other.call<Answer>("get_result", { taskId: waitsForIt.task.id, waitMs: 50_000 });
    expect(gone.task).toMatchObject({ status: "failed", because: "Its environment was deleted while it waited." });
  });

  test("an operator's file with a mistake is refused when the server is first used, with the place", async () => {
    verifies("EXEC-03");
    using folder = temporaryFolder();
    const config = join(folder.path, "exec.json");
    writeFileSync(config, JSON.stringify({ environments: [{ name: "a", runtime: "cobol" }] }));
    await using host = await Host.start({
      server: SERVER,
      store: folder.store,
      agent: "ann",
      env: { SWARM_EXEC_CONFIG: config },
    });
    const { isError, text } = await host.try("list_tasks");
    expect(isError).toBe(true);
    expect(text).toMatch(
      /^invalid_argument: The file that SWARM_EXEC_CONFIG names is not valid: environments\[0\]: "runtime" names nothing/,
    );
  });
});
