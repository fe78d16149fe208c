import { keepTask, type StoredTask, taskKey, taskPrefixes, workflowKey } from "@mcp-swarm/coordination/tasks";
import type { Call } from "@mcp-swarm/identity";
import { plainCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Contexts, type Summarize } from "../src/context.ts";
import { TASKS_MAX } from "../src/context-tasks.ts";
import { type CountTokens, loadTokenizer, tokensToUse } from "../src/context-tokens.ts";

const ENVELOPE = { caller: { agentId: "ann", verified: false } };
const FRAME = { envelope: ENVELOPE, bytesMax: 20_000 };
const CREATED_AT = 1_750_000_000_000;

let count: CountTokens;
let store: MemoryStore;
let call: Call;
const contexts = new Contexts({ values: async () => ({ sources: [], unread: [] }) });

beforeAll(async () => {
  count = await loadTokenizer();
});
beforeEach(() => {
  store = new MemoryStore();
  call = plainCall(store, { agentId: "ann", verified: false, processId: "p" });
});

async function put(...tasks: (Partial<StoredTask> & { id: string })[]): Promise<void> {
  const usual = { open: [], requiredCapabilities: [], maxAttempts: 3, attempt: 1, fencingToken: 1, historyDropped: 0 };
  await store.transact((tx) => {
    for (const [at, given] of tasks.entries()) {
      const task: StoredTask = {
        ...{
          description: `Do ${given.id}.`,
          type: "general",
          status: "done",
          priority: 5,
          createdAt: CREATED_AT,
          createdBy: "ann",
        },
        ...{
          ...usual,
          dependencies: [],
          backoff: { initialMs: 1_000, factor: 2, maxMs: 300_000 },
          seq: String(at).padStart(6, "0"),
        },
        history: [{ at: CREATED_AT, by: "ann", event: "added", to: "available", attempt: 0 }],
        ...given,
      };
      tx.put(taskKey(task.id), keepTask(task));
      if (task.workflowId) tx.put(`${taskPrefixes.workflow(task.workflowId)}${task.seq}/${task.id}`, { id: task.id });
    }
  });
}

describe("what is gathered", () => {
  verifies("STATE-13");

  test("of a task is all that it depends on, each once, the nearest first and the newest of those first", async () => {
    await put(
      { id: "root", status: "working", dependencies: ["near-1", "near-2"] },
      { id: "near-1", dependencies: ["far", "near-2"], output: "one", endedAt: CREATED_AT + 1_000 },
      { id: "near-2", dependencies: ["far"], output: "two", endedAt: CREATED_AT + 2_000 },
      { id: "far", dependencies: ["farther"], output: "three" },
      { id: "farther", dependencies: ["root"], output: "a circle ends" },
    );
    const { items, reductions } = await contexts.get(call, { taskId: "root" }, FRAME);
    expect(items.map(({ id, distance }) => [id, distance])).toEqual([
      ["root", undefined],
      ["near-2", 1],
      ["near-1", 1],
      ["far", 2],
      ["farther", 3],
    ]);
    expect(items[1]?.content).toEqual({ output: "two" });
    expect(reductions).toEqual([]);
  });

  test("of a task that a workflow holds too is there once", async () => {
    await put(
      { id: "wf.a", workflowId: "wf", output: "A" },
      { id: "wf.b", workflowId: "wf", dependencies: ["wf.a"], output: "B" },
    );
    await store.transact((tx) => tx.put(workflowKey("wf"), { id: "wf", name: "W", state: "running" }));
    const { items } = await contexts.get(call, { taskId: "wf.b", workflowId: "wf" }, FRAME);
    expect(items.map(({ kind, id }) => `${kind} ${id}`)).toEqual(["task wf.b", "workflow wf", "task wf.a"]);
  });

  test("of a very large workflow is bounded, and says what was not looked at", async () => {
    await put(...Array.from({ length: TASKS_MAX + 20 }, (_, at) => ({ id: `wf.${at}`, workflowId: "wf", output: at })));
    await store.transact((tx) => tx.put(workflowKey("wf"), { id: "wf", name: "W", state: "running" }));
    const { reductions, items } = await contexts.get(call, { workflowId: "wf" }, FRAME);
    expect(reductions.at(-1)).toMatchObject({
      what: "1 or more older tasks of the workflow",
      readOn: 'get_all_tasks {"workflowId":"wf"}',
    });
    expect(items[1]?.id).toBe(`wf.${TASKS_MAX + 19}`);
  });

  test("shows why a task failed", async () => {
    const error = { code: "failed", message: "No such file.", at: CREATED_AT, by: "ben", attempt: 3 } as const;
    await put({ id: "a", status: "failed", error });
    const { items } = await contexts.get(call, { taskId: "a" }, FRAME);
    expect(items[0]).toMatchObject({ status: "failed", errorCode: "failed", content: { error: "No such file." } });
  });
});

describe("a summary", () => {
  verifies("STATE-13");
  const long = Array.from({ length: 400 }, (_, at) => `Line ${at} says ${at * at}.`).join("\n");
  const asked: Parameters<Summarize>[0][] = [];
  const says =
    (text: string | undefined): Summarize =>
    async (request) => {
      asked.push(request);
      return text;
    };
  beforeEach(() => void asked.splice(0));

  test("is made by the host's model when it is asked for and something did not fit, and the whole still fits", async () => {
    await put({ id: "a", output: long });
    const said = "Lines and their squares. ".repeat(2_000);
    for (const text of ["All 400 lines are well.", said]) {
      const context = await contexts.get(
        call,
        { taskId: "a", maxTokens: 1_000, summarize: true },
        { ...FRAME, summarize: says(text) },
      );
      expect(context.summarized).toBe(true);
      expect(text.startsWith((context.summary ?? "").slice(0, 20))).toBe(true);
      expect(count(JSON.stringify({ ...context, ...ENVELOPE }))).toBeLessThanOrEqual(tokensToUse(1_000));
      expect(context.items).toHaveLength(1);
    }
    expect(asked[0]?.prompt).toContain("Line 0 says 0.");
    expect(asked[0]?.maxTokens).toBe(200);
  });

  test("is not asked for when all fits, and its absence is said when the host gives none", async () => {
    await put({ id: "a", output: long }, { id: "short", output: "Well." });
    const fits = await contexts.get(call, { taskId: "short", summarize: true }, { ...FRAME, summarize: says("Never asked") });
    expect(fits.summarized).toBeUndefined();
    expect(asked).toEqual([]);
    for (const frame of [FRAME, { ...FRAME, summarize: says(undefined) }, { ...FRAME, summarize: says(" ") }]) {
      const context = await contexts.get(call, { taskId: "a", maxTokens: 1_000, summarize: true }, frame);
      expect(context.summarized).toBe(false);
      expect(context.summary).toBeUndefined();
    }
  });
});
