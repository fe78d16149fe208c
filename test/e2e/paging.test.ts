/** Long lists of long and awkward texts: everything can be read, and no answer is long. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, temporaryFolder } from "../support/host.ts";

/** The bound in tokens; no tokenizer makes more tokens than bytes. */
const ANSWER_BYTES_MAX = 20_000;
const TASKS = 500;
const PER_CALL = 20;
const PAGES_MAX = 600;
/** The longest a description may be, in UTF-16 units. */
const LONGEST = 20_000;

const fill = (unit: string) => unit.repeat(Math.ceil(LONGEST / unit.length)).slice(0, LONGEST - (LONGEST % unit.length));
const TEXTS = [
  fill("任務を実行して結果を報告する。"),
  fill("👩‍👩‍👧‍👦"),
  fill(Buffer.from(Array.from({ length: 3_000 }, (_, index) => (index * 48_271) % 251)).toString("base64")),
  fill('"\\\n\t'),
  fill("\u0001\u001b[31m"),
  fill("ᓀᓂᓄᓇ𒀀𒁀"),
  fill("plain English words, one after another, "),
  "short",
];
const TITLES = ["任務".repeat(100), "👩‍💻".repeat(40), '"\\'.repeat(100), "Short"];
const idOf = (index: number) => `${"long-id-".repeat(6)}${String(index).padStart(4, "0")}`;
const textOf = (index: number) => TEXTS[index % TEXTS.length] ?? "";

interface Page {
  tasks: { id: string }[];
  nextCursor?: string;
}

describe("500 tasks of long text", () => {
  const folder = temporaryFolder();
  let host: Host;
  beforeAll(async () => {
    host = await Host.start({ store: folder.store, agent: "a", env: { SWARM_DURABILITY: "normal" } });
    for (let from = 0; from < TASKS; from += PER_CALL) {
      const tasks = Array.from({ length: PER_CALL }, (_, offset) => {
        const index = from + offset;
        return { id: idOf(index), description: textOf(index), title: TITLES[index % TITLES.length] };
      });
      await host.call("add_tasks", { tasks });
    }
  });
  afterAll(async () => {
    await host.close();
    folder[Symbol.dispose]();
  });

  async function readAll(tool: string, args: Record<string, unknown>): Promise<string[]> {
    const ids: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX; page++) {
      const answer = await host.try(tool, { ...args, ...(cursor === undefined ? {} : { cursor }) });
      expect(answer.isError, answer.text).toBe(false);
      expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
      const { tasks, nextCursor } = answer.structured as unknown as Page;
      expect(tasks.length).toBeLessThanOrEqual(Number(args.limit ?? 50));
      ids.push(...tasks.map(({ id }) => id));
      if (nextCursor === undefined) return ids;
      expect(tasks.length).toBeGreaterThan(0);
      cursor = nextCursor;
    }
    throw new Error("The list does not end");
  }

  test.each([
    ["get_all_tasks", {}],
    ["get_all_tasks", { limit: 200 }],
    ["get_all_tasks", { limit: 7 }],
    ["get_all_tasks", { status: "available", type: "general", limit: 200 }],
    ["get_available_tasks", {}],
    ["get_available_tasks", { limit: 200, type: "general" }],
  ] as const)("%s %j gives each task exactly once, in order, no answer over the bound", async (tool, args) => {
    verifies("CORE-11");
    const ids = await readAll(tool, args);
    expect(ids.length).toBe(TASKS);
    expect(new Set(ids).size).toBe(TASKS);
    expect(ids).toEqual(Array.from({ length: TASKS }, (_, index) => idOf(index)));
  });

  test("what is added and taken away while a list is read neither repeats nor hides the rest", async () => {
    verifies("CORE-11");
    const first = await host.call<Page & Record<string, unknown>>("get_all_tasks", { limit: 100 });
    await host.call("add_task", { id: "late", description: "Added meanwhile" });
    const seen = first.tasks.map(({ id }) => id);
    let cursor = first.nextCursor;
    for (let page = 0; page < PAGES_MAX && cursor !== undefined; page++) {
      const next: Page = await host.call<Page & Record<string, unknown>>("get_all_tasks", { limit: 100, cursor });
      seen.push(...next.tasks.map(({ id }) => id));
      cursor = next.nextCursor;
    }
    await host.call("cancel_task", { taskId: "late" });
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.filter((id) => id !== "late").length).toBe(TASKS);
  });

  test("a long field is cut, and the call that is shown reads the exact rest", async () => {
    verifies("CORE-11");
    for (let index = 0; index < TEXTS.length; index++) {
      const answer = await host.try("get_task", { taskId: idOf(index) });
      expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
      const { task } = answer.structured as {
        task: { description: string; cuts?: { field: string; missingChars: number; readOn: string }[] };
      };
      const cut = task.cuts?.find(({ field }) => field === "description");
      if (cut === undefined) {
        expect(task.description).toBe(textOf(index));
        continue;
      }
      expect(task.description.length + cut.missingChars).toBe(textOf(index).length);
      expect(task.description + (await readOn(cut.readOn))).toBe(textOf(index));
    }
    const long = await host.call<{ task: { cuts?: unknown[] } }>("get_task", { taskId: idOf(1) });
    expect(long.task.cuts?.length).toBeGreaterThan(0);
  });

  /** Follows `get_task {…}` to the end of the field. */
  async function readOn(shown: string): Promise<string> {
    const [, tool = "", json = "{}"] = /^(\w+) (\{.*\})$/.exec(shown) ?? [];
    const args = JSON.parse(json) as { offset: number };
    let rest = "";
    let offset: number | undefined = args.offset;
    for (let part = 0; part < PAGES_MAX && offset !== undefined; part++) {
      const answer = await host.try(tool, { ...args, offset });
      expect(answer.isError, answer.text).toBe(false);
      expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
      const read = (answer.structured as { part: { text: string; nextOffset?: number } }).part;
      expect(read.text.isWellFormed()).toBe(true);
      rest += read.text;
      offset = read.nextOffset;
    }
    return rest;
  }

  test("results, parameters, notes and errors that are long are cut too, wherever they are shown", async () => {
    verifies("CORE-11", "TASK-14");
    const parameters = { text: "👩‍💻".repeat(3_000), more: { nested: textOf(0).slice(0, 2_000) } };
    const output = { report: textOf(3), list: Array.from({ length: 400 }, (_, index) => ({ index, note: "結果" })) };
    const note = textOf(0).slice(0, 4_000);
    await host.call("add_task", {
      id: "first",
      description: textOf(5),
      parameters,
      output: note,
      priority: 9,
      backoff: { initialMs: 0 },
    });
    await host.call("claim_task", { taskId: "first" });
    await host.call("update_task", { taskId: "first", status: "available", checkpoint: note });
    await host.call("claim_task", { taskId: "first" });
    const afterError = await host.call<Record<string, unknown>>("update_task", {
      taskId: "first",
      status: "failed",
      error: note,
    });
    expect(JSON.stringify(afterError).length).toBeLessThan(ANSWER_BYTES_MAX);
    const again = await host.try("claim_task", { taskId: "first" });
    expect(again.isError, again.text).toBe(false);
    await host.call("update_task", { taskId: "first", status: "done", output });
    await host.call("add_task", { id: "second", description: textOf(2), dependencies: ["first"], priority: 9 });
    const claim = await host.try("claim_task", { taskId: "second" });
    expect(Buffer.byteLength(claim.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
    const { context } = claim.structured as { context: { taskId: string; output: string; cut: string }[] };
    expect(context[0]?.output + (await readOn(context[0]?.cut ?? ""))).toBe(JSON.stringify(output));

    const answer = await host.try("get_task", { taskId: "first" });
    expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
    const { task } = answer.structured as { task: Record<string, string> & { cuts: { field: string; readOn: string }[] } };
    const whole: Record<string, string> = {
      description: textOf(5),
      parameters: JSON.stringify(parameters),
      output: JSON.stringify(output),
      checkpoint: note,
      expectedOutput: note,
    };
    for (const [field, text] of Object.entries(whole)) {
      const cut = task.cuts.find((one) => one.field === field);
      if (cut === undefined) expect(task[field], field).toBe(text);
      else expect(task[field] + (await readOn(cut.readOn)), field).toBe(text);
    }
    expect(task.cuts.map(({ field }) => field)).toEqual(expect.arrayContaining(["description", "parameters", "output"]));
  });

  test("a cursor that is forged, cut, or of another list is refused", async () => {
    verifies("CORE-11", "CORE-05");
    const { nextCursor = "" } = await host.call<Page & Record<string, unknown>>("get_all_tasks", { limit: 5 });
    const foreign = await host.call<Page & Record<string, unknown>>("get_available_tasks", { limit: 5 });
    const filtered = await host.call<Page & Record<string, unknown>>("get_all_tasks", { limit: 5, status: "available" });
    const decoded = Buffer.from(nextCursor, "base64url").toString("utf8");
    const forged = {
      "of another list": foreign.nextCursor,
      "of another filter": filtered.nextCursor,
      "cut short": nextCursor.slice(0, -3),
      "made longer": `${nextCursor}AAAA`,
      "with another key": Buffer.from(`${decoded.slice(0, 8)}meta/format`).toString("base64url"),
      "with its end changed": Buffer.from(`${decoded.slice(0, -1)}~`).toString("base64url"),
      empty: "",
      "no base64": "../../etc/passwd",
      "far too long": "A".repeat(513),
      "random bytes": Buffer.from(Array.from({ length: 60 }, (_, index) => (index * 89) % 256)).toString("base64url"),
    };
    for (const [what, cursor] of Object.entries(forged)) {
      const answer = await host.try("get_all_tasks", { cursor, limit: 5 });
      expect(answer.isError, what).toBe(true);
      expect(answer.text, what).toMatch(/^invalid_argument: .*cursor/);
    }
    expect((await host.try("get_all_tasks", { cursor: nextCursor, limit: 5 })).isError).toBe(false);
  });
});
