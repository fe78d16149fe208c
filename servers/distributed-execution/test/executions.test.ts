import { plainCall } from "@mcp-swarm/identity";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Artifacts } from "../src/artifacts.ts";
import type { NewExecution } from "../src/execution-adding.ts";
import {
  CODE_BYTES_MAX,
  INPUT_BYTES_MAX,
  INPUT_FILES_MAX,
  OUTPUT_KEPT_CHARS,
  VALUE_KEPT_BYTES,
} from "../src/execution-record.ts";
import { everyKey, executionCensus } from "./support/execution-census.ts";
import { LEASE_MS, maintain, queueSwarm } from "./support/queue-swarm.ts";

describe("handing over a task", () => {
  test("answers a queued task with its defaults, found by its id, among its agent's and among all", async () => {
    verifies("EXEC-01");
    const { clock, store, host } = queueSwarm();
    const ada = host("ada");
    const task = await ada.submit();
    expect(task).toMatchObject({
      status: "queued",
      agentId: "ada",
      environment: "javascript",
      environmentVersion: 1,
      priority: 5,
    });
    expect(task).toMatchObject({ runMs: 30_000, maxAttempts: 3, attempt: 0, createdAt: clock.now(), codeBytes: 1 });
    expect(await ada.executions.get(ada.call, { taskId: task.id })).toEqual(task);
    for (const filter of [{}, { agentId: "ada" }, { status: "queued" as const }]) {
      expect((await ada.executions.list(ada.call, filter)).tasks).toEqual([task]);
    }
    expect((await ada.executions.list(ada.call, { agentId: "bob" })).tasks).toEqual([]);
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  const big = "x".repeat(CODE_BYTES_MAX + 1);
  const refused: readonly { what: string; input: Partial<NewExecution>; code: string }[] = [
    { what: "no code", input: { code: " \n" }, code: "invalid_argument" },
    { what: "code over its bound", input: { code: big }, code: "limit_exceeded" },
    { what: "code with NUL", input: { code: "a\0b" }, code: "invalid_argument" },
    { what: "code with half a character", input: { code: "a\ud800b" }, code: "invalid_argument" },
    { what: "an unknown environment", input: { environment: "cobol" }, code: "not_found" },
    { what: "a run time above the environment's", input: { timeout: 3_600_000 }, code: "invalid_argument" },
    { what: "a run time below the least", input: { timeout: 1 }, code: "invalid_argument" },
    { what: "half a millisecond", input: { queueTimeout: 1000.5 }, code: "invalid_argument" },
    { what: "a priority out of bounds", input: { priority: 10 }, code: "invalid_argument" },
    { what: "no attempts", input: { maxAttempts: 0 }, code: "invalid_argument" },
    { what: "too many arguments", input: { args: Array.from({ length: 65 }, () => "x") }, code: "invalid_argument" },
    {
      what: "arguments that are too long together",
      input: { args: Array.from({ length: 64 }, () => "x".repeat(8_000)) },
      code: "invalid_argument",
    },
    { what: "a stdin that is too long", input: { stdin: "x".repeat(256 * 1024 + 1) }, code: "invalid_argument" },
    { what: "a path that leads out", input: { files: [{ path: "a/../../b", text: "x" }] }, code: "invalid_argument" },
    { what: "an absolute path", input: { files: [{ path: "/etc/passwd", text: "x" }] }, code: "invalid_argument" },
    { what: "a path with a backslash", input: { files: [{ path: "a\\b", text: "x" }] }, code: "invalid_argument" },
    {
      what: "a path twice",
      input: {
        files: [
          { path: "a", text: "x" },
          { path: "A", text: "y" },
        ],
      },
      code: "invalid_argument",
    },
    {
      what: "a file that is a folder too",
      input: {
        files: [
          { path: "a", text: "x" },
          { path: "a/b", text: "y" },
        ],
      },
      code: "invalid_argument",
    },
    { what: "a file without a source", input: { files: [{ path: "a" }] }, code: "invalid_argument" },
    { what: "a file with two sources", input: { files: [{ path: "a", text: "x", base64: "eA==" }] }, code: "invalid_argument" },
    { what: "base64 that is none", input: { files: [{ path: "a", base64: "!!!!" }] }, code: "invalid_argument" },
    {
      what: "files that are too large together",
      input: {
        files: [
          { path: "a", text: "x".repeat(INPUT_BYTES_MAX) },
          { path: "b", text: "x" },
        ],
      },
      code: "invalid_argument",
    },
    {
      what: "too many files",
      input: { files: Array.from({ length: INPUT_FILES_MAX + 1 }, (_, at) => ({ path: `f${at}`, text: "" })) },
      code: "invalid_argument",
    },
    { what: "an artifact that is not there", input: { files: [{ path: "a", artifactId: "art-none" }] }, code: "not_found" },
    { what: "a session that is not there", input: { sessionId: "session-none" }, code: "not_found" },
    { what: "a label that is none", input: { requires: { labels: ["a b"] } }, code: "invalid_argument" },
    { what: "a dedupe key that is too long", input: { dedupe: "x".repeat(200) }, code: "invalid_argument" },
  ];
  test.each(refused)("refuses $what, with what to do, and queues nothing", async ({ input, code }) => {
    verifies("EXEC-01");
    const { store, host } = queueSwarm();
    const ada = host("ada");
    await expect(ada.submit(input)).rejects.toMatchObject({ code, hint: expect.stringMatching(/\w/) });
    const { records } = await executionCensus(store);
    expect(records.size).toBe(0);
    for (const namespace of ["exec-input", "exec-text", "artifact", "exec-ready", "exec-queue"]) {
      expect(await everyKey(store, namespace)).toEqual([]);
    }
  });

  test("takes another agent's session, and one that is over, from nobody", async () => {
    verifies("EXEC-01", "EXEC-13");
    const { host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: sessionId } = await ada.sessions.start(ada.call, { environment: "javascript" });
    await expect(bob.submit({ sessionId })).rejects.toMatchObject({ code: "permission_denied" });
    await expect(ada.submit({ sessionId, environment: "python" })).rejects.toMatchObject({ code: "failed_precondition" });
    await ada.submit({ sessionId });
    await ada.sessions.end(ada.call, { sessionId });
    await expect(ada.submit({ sessionId })).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("keeps code, input and files of any size whole until a worker has them", async () => {
    verifies("EXEC-01", "EXEC-12");
    const { store, host } = queueSwarm();
    const ada = host("ada");
    const code = "é\u0001😀".repeat(120_000);
    const stdin = "\u0007".repeat(200_000);
    const bytes = Buffer.from(Array.from({ length: 600_000 }, (_, at) => at % 251));
    const files = [
      { path: "data/in.bin", base64: bytes.toString("base64") },
      { path: "notes.md", text: "# Ünï" },
      { path: "empty", text: "" },
    ];
    await ada.submit({ code, stdin, args: ["a", "b c"], files });
    const run = await ada.take();
    expect(run?.input).toMatchObject({ code, stdin, args: ["a", "b c"] });
    expect(run?.input.files.map(({ path }) => path)).toEqual(["data/in.bin", "notes.md", "empty"]);
    expect(run?.contents.map((content) => Buffer.from(content).equals(bytes))).toEqual([true, false, false]);
    expect(run?.contents.slice(1).map((content) => Buffer.from(content).toString())).toEqual(["# Ünï", ""]);
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("with a dedupe key answers the same task while it is open or succeeded, and another agent's key is another", async () => {
    verifies("EXEC-01");
    const { host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const input = { code: "1", environment: "javascript", dedupe: "build-1" };
    const first = await ada.executions.submit(ada.call, input);
    expect(first.deduped).toBe(false);
    expect(await ada.executions.submit(ada.call, input)).toEqual({ task: first.task, deduped: true });
    await expect(ada.executions.submit(ada.call, { ...input, code: "2" })).rejects.toMatchObject({
      code: "conflict",
      retryable: false,
    });
    expect((await bob.executions.submit(bob.call, input)).task.id).not.toBe(first.task.id);
    const run = await ada.take();
    expect(run?.record.id).toBe(first.task.id);
    if (run) await ada.finish(run);
    expect((await ada.executions.submit(ada.call, input)).task).toMatchObject({ id: first.task.id, status: "succeeded" });
  });

  test("a dedupe key whose task did not succeed is free again", async () => {
    verifies("EXEC-01");
    const { host } = queueSwarm();
    const ada = host("ada");
    const input = { code: "1", environment: "javascript", dedupe: "k" };
    const first = await ada.executions.submit(ada.call, input);
    await ada.executions.cancel(ada.call, { taskId: first.task.id });
    const second = await ada.executions.submit(ada.call, { ...input, code: "2" });
    expect(second).toMatchObject({ deduped: false, task: { status: "queued" } });
    expect(second.task.id).not.toBe(first.task.id);
  });

  test("in a secured swarm another agent's file is no input; where names are taken on trust it is", async () => {
    verifies("EXEC-12");
    const { store, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    await ada.submit();
    const run = await ada.take();
    if (!run) throw new Error("Nothing was claimed");
    await ada.finish(run, { files: [{ path: "a.txt", bytes: Buffer.from("hers") }] });
    const { result } = await ada.executions.get(ada.call, { taskId: run.record.id });
    const artifactId = result?.files[0]?.artifactId ?? "";
    const input = { code: "1", environment: "javascript", files: [{ path: "x", artifactId }] };
    const as = (agentId: string, verified: boolean) => plainCall(store, { agentId, verified, processId: undefined });
    await expect(bob.executions.submit(as("bob", true), input)).rejects.toMatchObject({ code: "permission_denied" });
    await bob.executions.submit(as("ada/helper", true), input);
    await bob.executions.submit(as("bob", false), input);
    expect((await executionCensus(store)).problems).toEqual([]);
  });
});

describe("following a task", () => {
  test("get waits for the end, and for no longer than it was told", async () => {
    verifies("EXEC-02");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    const brief = ada.executions.get(ada.call, { taskId }, { waitMs: 1_000 });
    await clock.advance(1_001);
    expect((await brief).status).toBe("queued");
    const waiting = ada.executions.get(ada.call, { taskId }, { waitMs: 30_000 });
    const run = await ada.take();
    await clock.advance(200);
    if (run) await ada.finish(run, { value: { answer: 42 }, stdout: Buffer.from("out"), stderr: Buffer.from("err") });
    await clock.advance(200);
    expect(await waiting).toMatchObject({
      status: "succeeded",
      attempt: 1,
      result: {
        ending: { kind: "exit", code: 0 },
        value: { answer: 42 },
        stdout: { head: "out", chars: 3 },
        stderr: { head: "err", chars: 3 },
        usage: { wallMs: 3, cpuMs: 2, peakMemoryMiB: 20 },
      },
    });
    await expect(ada.executions.get(ada.call, { taskId: "exec-none" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("a value of any size comes back whole with the task; lists do without", async () => {
    verifies("EXEC-02");
    const { store, host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    const run = await ada.take();
    const value = { text: "é".repeat(VALUE_KEPT_BYTES) };
    if (run) await ada.finish(run, { value });
    expect((await ada.executions.get(ada.call, { taskId })).result?.value).toEqual(value);
    expect((await ada.executions.list(ada.call, {})).tasks[0]?.result?.value).toBeUndefined();
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("output is read while it comes, in order, each piece once, and to its end", async () => {
    verifies("EXEC-02");
    const { clock, host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    const run = await ada.take();
    if (!run) throw new Error("Nothing was claimed");
    const bytes = (text: string) => Buffer.from(text);
    const [half, rest] = [bytes("😀").subarray(0, 2), bytes("😀").subarray(2)];
    await ada.work.output(run, [{ stream: "stdout", bytes: Buffer.concat([bytes("one "), half]) }]);
    const first = await ada.executions.output(ada.call, { taskId });
    expect(first).toMatchObject({ parts: [{ stream: "stdout", text: "one " }], ended: false, more: false });
    const waiting = ada.executions.output(ada.call, { taskId, after: first.next }, { waitMs: 10_000 });
    await clock.advance(100);
    await ada.work.output(run, [
      { stream: "stdout", bytes: rest },
      { stream: "stderr", bytes: bytes("oops") },
    ]);
    await clock.advance(100);
    const second = await waiting;
    expect(second.parts).toEqual([
      { stream: "stdout", text: "😀" },
      { stream: "stderr", text: "oops" },
    ]);
    await ada.finish(run, { stdout: bytes("one 😀 two"), stderr: bytes("oops") });
    const third = await ada.executions.output(ada.call, { taskId, after: second.next });
    expect(third).toMatchObject({ parts: [{ stream: "stdout", text: " two" }], ended: true });
    expect(await ada.executions.output(ada.call, { taskId, after: third.next })).toMatchObject({ parts: [], ended: true });
    expect((await ada.executions.get(ada.call, { taskId })).result?.stdout).toEqual({ head: "one 😀 two", chars: 10 });
  });

  test("long output stands in the record by its beginning and end, and is read whole in parts", async () => {
    verifies("EXEC-02");
    const { store, host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    const run = await ada.take();
    if (!run) throw new Error("Nothing was claimed");
    const stdout = Array.from({ length: 60_000 }, (_, at) => `line ${at} é😀\n`).join("");
    await ada.work.output(run, [{ stream: "stdout", bytes: Buffer.from(stdout.slice(0, 300_000)) }]);
    await ada.finish(run, { stdout: Buffer.from(stdout), cut: { stdoutBytes: 7 } });
    const { result } = await ada.executions.get(ada.call, { taskId });
    expect(result?.stdout.chars).toBe(stdout.length);
    expect(stdout.startsWith(result?.stdout.head ?? "-")).toBe(true);
    expect(stdout.endsWith(result?.stdout.tail ?? "-")).toBe(true);
    expect(result?.stdout.head.length).toBeGreaterThan(OUTPUT_KEPT_CHARS - 2);
    expect(result?.cut).toEqual({ stdoutBytes: 7 });
    let read = "";
    let after: string | undefined;
    for (let round = 0; round < 1_000; round++) {
      const page = await ada.executions.output(ada.call, { taskId, ...(after === undefined ? {} : { after }) });
      for (const part of page.parts) {
        expect(part.text.isWellFormed()).toBe(true);
        read += part.text;
      }
      after = page.next;
      if (page.ended) break;
    }
    expect(read === stdout).toBe(true);
    expect((await executionCensus(store)).problems).toEqual([]);
  });

  test("output of an attempt that was lost is not mixed with the next one's", async () => {
    verifies("EXEC-02", "EXEC-09");
    const { clock, host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const { id: taskId } = await ada.submit();
    const run = await ada.take();
    if (run) await ada.work.output(run, [{ stream: "stdout", bytes: Buffer.from("first try") }]);
    const before = await bob.executions.output(bob.call, { taskId });
    ada.die();
    await lose(clock, bob);
    const again = await bob.take();
    expect(again?.record.attempt).toBe(2);
    if (again) await bob.work.output(again, [{ stream: "stdout", bytes: Buffer.from("second try") }]);
    const after = await bob.executions.output(bob.call, { taskId, after: before.next });
    expect(after.parts).toEqual([{ stream: "stdout", text: "second try" }]);
  });

  test("a place that was made up is refused", async () => {
    verifies("EXEC-02");
    const { host } = queueSwarm();
    const ada = host("ada");
    const { id: taskId } = await ada.submit();
    for (const after of ["x", "1", "1.-1", "1.2.3"]) {
      await expect(ada.executions.output(ada.call, { taskId, after })).rejects.toMatchObject({ code: "invalid_argument" });
    }
    expect(await ada.executions.output(ada.call, { taskId, after: "7.99" })).toMatchObject({ parts: [], ended: false });
  });

  test("lists are paged without loss, by agent, by status and by environment", async () => {
    verifies("EXEC-01", "EXEC-02");
    const { host } = queueSwarm();
    const [ada, bob] = [host("ada"), host("bob")];
    const mine: string[] = [];
    for (let at = 0; at < 25; at++) {
      mine.push((await ada.submit({ environment: at % 2 === 0 ? "javascript" : "python" })).id);
      await bob.submit();
    }
    const read = async (filter: Parameters<typeof ada.executions.list>[1]) => {
      const ids: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await ada.executions.list(ada.call, { ...filter, limit: 4, ...(cursor === undefined ? {} : { cursor }) });
        ids.push(...page.tasks.map(({ id }) => id));
        cursor = page.nextCursor;
      } while (cursor !== undefined);
      return ids;
    };
    expect(await read({ agentId: "ada" })).toEqual([...mine].reverse());
    expect(await read({ agentId: "ada", environment: "python" })).toEqual(mine.filter((_, at) => at % 2 === 1).reverse());
    expect(new Set(await read({ status: "queued" })).size).toBe(50);
    expect(await read({ status: "running" })).toEqual([]);
    await expect(ada.executions.list(ada.call, { cursor: "bm9uZQ" })).rejects.toMatchObject({ code: "invalid_argument" });
  });
});

describe("files that come out", () => {
  test("are artifacts with their type, size and sum, read whole or in ranges", async () => {
    verifies("EXEC-12");
    const { store, host } = queueSwarm();
    const ada = host("ada");
    await ada.submit();
    const run = await ada.take();
    if (!run) throw new Error("Nothing was claimed");
    const png = Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=",
      "base64",
    );
    const large = Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 7 + (at >> 10)) % 256));
    const files = [
      { path: "plot", bytes: png },
      { path: "table.csv", bytes: Buffer.from("a,b\n1,2\n") },
      { path: "big.bin", bytes: large },
      { path: "empty.txt", bytes: new Uint8Array() },
    ];
    await ada.finish(run, { files });
    const { result } = await ada.executions.get(ada.call, { taskId: run.record.id });
    expect(result?.files.map(({ path, mimeType, bytes }) => [path, mimeType, bytes])).toEqual([
      ["plot", "image/png", png.length],
      ["table.csv", "text/csv", 8],
      ["big.bin", "application/octet-stream", large.length],
      ["empty.txt", "text/plain", 0],
    ]);
    const artifacts = new Artifacts(store);
    const id = result?.files[2]?.artifactId ?? "";
    expect((await artifacts.whole(id, 4_000_000)).bytes.length).toBe(large.length);
    for (const [offset, limit] of [
      [0, 10],
      [524_287, 2],
      [1_048_570, 600_000],
      [2_999_990, 100],
      [3_000_000, 5],
    ] as const) {
      const { bytes } = await artifacts.read(id, { offset, limit });
      expect(Buffer.from(bytes).equals(large.subarray(offset, offset + limit))).toBe(true);
    }
    expect((await artifacts.whole(result?.files[3]?.artifactId ?? "", 10)).bytes.length).toBe(0);
    await expect(artifacts.whole(id, 1_000)).rejects.toMatchObject({ code: "limit_exceeded" });
    await expect(artifacts.read(id, { offset: -1 })).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(artifacts.get("art-none")).rejects.toMatchObject({ code: "not_found" });
    expect((await executionCensus(store)).problems).toEqual([]);
    expect(await everyKey(store, "artifact-pending")).toEqual([]);
  });
});

/** A lease of a dead worker ends, and so does the pause before the next attempt. */
async function lose(
  clock: { advance(ms: number): Promise<void> },
  living: { jobs: Parameters<typeof maintain>[0] },
): Promise<void> {
  await clock.advance(LEASE_MS + 1);
  await maintain(living.jobs);
  await clock.advance(15_000);
  await maintain(living.jobs);
}
