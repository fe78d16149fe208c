/** A context of what real servers keep fits its budget, and every part that was cut is read back whole over the protocol. */
import { countTokens } from "gpt-tokenizer/encoding/o200k_base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ENGINES, type Meeting } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { ERAS, Host } from "../support/host.ts";

type Item = { kind: string; id: string; status?: string; content?: Record<string, unknown>; readOn?: string[] };
type Context = {
  items: Item[];
  omitted?: { kind: string; ids: string[]; more?: number; readOn: string }[];
  originalTokens: number;
  tokens: number;
  ratio: number;
  reductions: { what: string; why: string; savedTokens: number; readOn: string }[];
  limitedBy?: string;
  untrusted?: string[];
};
type Part = { part: { text: string; nextOffset?: number } };

/** Most calls that reading one field whole may take. */
const CALLS_MAX = 200;
const TASKS = 40;
const SERVER_OF: Record<string, string> = {
  get_task: "task-coordination",
  get_workflow_status: "task-coordination",
  get_state: "shared-state",
  get_message: "agent-comm",
};

const NOTICE =
  "This report was written by the nightly build.\nAll times are UTC and all sizes are in bytes.\nAsk the release team before you change a pinned version.\n";
const SETTINGS = {
  region: "north",
  retries: 3,
  mirrors: ["https://one.example/packages", "https://two.example/packages"],
  note: NOTICE,
};

/** Some 5 KB: a notice that all repeat, a long list, a log. */
function outputOf(at: number): unknown {
  const log = Array.from(
    { length: 40 },
    (_, line) => `${at}:${line} compiled module ${(at * 7919 + line * 104_729) % 9973} in ${line} ms.`,
  );
  if (at % 3 === 0) return `${NOTICE}${log.join("\n")}\nWarnings in module ${at}: "unused import", and 日本語 text.`;
  const checks = Array.from({ length: 90 }, (_, check) => ({
    name: `check-${at}-${check}`,
    status: (at + check) % 5 === 0 ? "failed" : "passed",
    tookMs: (at * 31 + check * 17) % 997,
  }));
  return { summary: `${NOTICE}Module ${at} was checked.`, settings: SETTINGS, checks, log: log.slice(0, 40).join("\n") };
}

const asText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
const outputs = new Map<string, unknown>();
const hosts = new Map<string, Host>();
let meeting: Meeting;

/** Makes the call that `readOn` names, to the end of what it reads. */
async function follow(readOn: string): Promise<string> {
  const space = readOn.indexOf(" ");
  const tool = readOn.slice(0, space);
  const args = JSON.parse(readOn.slice(space + 1)) as Record<string, unknown>;
  const host = hosts.get(SERVER_OF[tool] ?? "");
  if (!host) throw new Error(`Who has ${tool}?`);
  let text = "";
  for (let calls = 0, offset = args.offset; calls < CALLS_MAX; calls++) {
    const { part } = await host.call<Part>(tool, { ...args, offset });
    text += part.text;
    if (part.nextOffset === undefined) return text;
    offset = part.nextOffset;
  }
  throw new Error(`${readOn} has no end`);
}

/** A part of an item with what is missing read on. */
async function wholeOf(item: Item, part: string, named: string): Promise<string> {
  const shown = item.content?.[part];
  const readOn = item.readOn?.find((call) => call.includes(named));
  if (readOn === undefined) return asText(shown);
  const offset = Number(/"offset":(\d+)/.exec(readOn)?.[1]);
  return (offset === 0 ? "" : asText(shown).slice(0, offset)) + (await follow(readOn));
}

async function context(args: Record<string, unknown>): Promise<{ context: Context; text: string }> {
  const answer = await hosts.get("shared-state")?.try("get_context", args);
  if (!answer || answer.isError) throw new Error(answer?.text);
  return { context: answer.structured as unknown as Context, text: answer.text };
}

describe.each(ENGINES)("on $name", ({ meet }) => {
  beforeAll(async () => {
    meeting = await meet();
    for (const server of ["task-coordination", "shared-state", "agent-comm"]) {
      hosts.set(server, await Host.start({ server, store: meeting.store, agent: "ann" }));
    }
    const tasks = hosts.get("task-coordination") as Host;
    const specs = Array.from({ length: TASKS }, (_, at) => ({
      id: `step-${at}`,
      title: `Build module ${at}`,
      description: `Build module ${at} and check it. ${"Mind the mirrors. ".repeat(at)}`,
      parameters: { module: at, settings: SETTINGS },
      dependencies: at < 2 ? [] : [`step-${at - 1}`, ...(at % 4 === 0 ? [`step-${at - 2}`] : [])],
    }));
    await tasks.call("create_workflow", { id: "nightly", name: "The nightly build", tasks: specs });
    await tasks.call("execute_workflow", { workflowId: "nightly" });
    for (let done = 0; done < TASKS; done++) {
      const { task, fencingToken } = await tasks.call<{ task: { id: string }; fencingToken: number }>("claim_next_task", {
        workflowId: "nightly",
        waitMs: 5_000,
      });
      const output = outputOf(Number(/\d+$/.exec(task.id)?.[0]));
      outputs.set(task.id, output);
      await tasks.call("update_task", { taskId: task.id, status: "done", output, fencingToken });
    }
  });
  afterAll(async () => {
    for (const host of hosts.values()) await host.close();
    meeting[Symbol.dispose]();
  });

  describe("get_context", () => {
    verifies("STATE-13", "CORE-11");

    test("shows a workflow of 200 KB in 4,000 tokens, by another tokenizer than its own too, and all that was cut can be read", async () => {
      const bytes = [...outputs.values()].reduce<number>((sum, output) => sum + Buffer.byteLength(asText(output)), 0);
      expect(bytes).toBeGreaterThan(190_000);
      const { context: view, text } = await context({ workflowId: "nightly", maxTokens: 4_000 });
      expect(countTokens(text)).toBeLessThanOrEqual(4_000);
      expect(view.tokens).toBeLessThanOrEqual(3_200);
      expect(view.originalTokens).toBeGreaterThan(40_000);
      expect(view.ratio).toBeCloseTo(view.tokens / view.originalTokens, 3);
      expect(view.limitedBy).toBe("maxTokens");
      expect(view.untrusted).toContain("items[].content");
      const [workflow, ...tasks] = view.items;
      expect(workflow).toMatchObject({ kind: "workflow", id: "nightly", status: "completed", byStatus: { done: TASKS } });
      const omitted = view.omitted?.flatMap(({ ids }) => ids) ?? [];
      expect([...tasks.map(({ id }) => id), ...omitted].toSorted()).toEqual([...outputs.keys()].toSorted());
      expect(tasks.length).toBeGreaterThan(20);
      expect(view.reductions.reduce((sum, { savedTokens }) => sum + savedTokens, 0)).toBeGreaterThan(30_000);
      for (const { what, why, readOn } of view.reductions) expect([what, why, readOn].every((one) => one.length > 0)).toBe(true);
      for (const task of tasks) expect(await wholeOf(task, "output", '"field":"output"')).toBe(asText(outputs.get(task.id)));
      for (const id of omitted) {
        expect(await follow(`get_task {"taskId":"${id}","field":"output","offset":0}`)).toBe(asText(outputs.get(id)));
      }
    });

    test("shows a task before what it depends on, the nearest first", async () => {
      const { context: view, text } = await context({ taskId: "nightly.step-20", maxTokens: 2_500 });
      expect(countTokens(text)).toBeLessThanOrEqual(2_500);
      const [own, ...others] = view.items as (Item & { distance?: number })[];
      expect(own?.id).toBe("nightly.step-20");
      expect(own?.content).toHaveProperty("description");
      const distances = others.map(({ distance }) => distance ?? 0);
      expect(distances).toEqual(distances.toSorted((a, b) => a - b));
      expect(others.slice(0, 2).map(({ id }) => id)).toEqual(["nightly.step-19", "nightly.step-18"]);
      expect(
        new Set([...view.items, ...(view.omitted ?? []).flatMap(({ ids }) => ids.map((id) => ({ id })))].map(({ id }) => id))
          .size,
      ).toBe(20); // all before it but the first, which only later ones need
      for (const item of view.items) expect(await wholeOf(item, "output", '"field":"output"')).toBe(asText(outputs.get(item.id)));
      const description = `Build module 20 and check it. ${"Mind the mirrors. ".repeat(20)}`;
      expect(await wholeOf(own as Item, "description", '"field":"description"')).toBe(description);
    });

    test("shows values by their keys, reads on in the very revision that it showed, and says which have none", async () => {
      const state = hosts.get("shared-state") as Host;
      const plan = { steps: Array.from({ length: 800 }, (_, at) => ({ at, title: `Step ${at} of the plan`, status: "open" })) };
      await state.call("set_state", { key: "plan", value: plan });
      await state.call("set_state", {
        key: "notes",
        scope: "agent",
        value: `Long notes. ${"More of them follow here. ".repeat(900)}`,
      });
      const { context: view, text } = await context({
        keys: [{ key: "plan" }, { key: "notes", scope: "agent" }, { key: "nothing" }],
        maxTokens: 1_000,
      });
      expect(countTokens(text)).toBeLessThanOrEqual(1_000);
      expect(view.items.map(({ id }) => id)).toEqual(["plan", "notes", "nothing"]);
      expect(view.items[2]).toMatchObject({ missing: true });
      await state.call("set_state", { key: "plan", value: "Another plan." });
      expect(await wholeOf(view.items[0] as Item, "value", '"plan"')).toBe(JSON.stringify(plan));
      expect(await wholeOf(view.items[1] as Item, "value", '"notes"')).toBe(
        `Long notes. ${"More of them follow here. ".repeat(900)}`,
      );
    });

    test("shows a conversation to those who had it, the newest first, and to others nothing", async () => {
      const comm = hosts.get("agent-comm") as Host;
      const said = Array.from({ length: 12 }, (_, at) => ({
        at,
        text: `Message ${at}: ${`part ${at} of what was said; `.repeat(60)}`,
      }));
      for (const payload of said) {
        await comm.call("send_message", {
          targetAgent: "ben",
          messageType: "note",
          payload,
          correlationId: "plan-talk",
          mailbox: true,
        });
      }
      const { context: view, text } = await context({ correlationId: "plan-talk", maxTokens: 1_500 });
      expect(countTokens(text)).toBeLessThanOrEqual(1_500);
      expect(view.items.length).toBeGreaterThan(3);
      for (const [at, item] of view.items.entries()) {
        expect(item).toMatchObject({ kind: "message", from: "ann", to: "agent:ben", messageType: "note" });
        expect(await wholeOf(item, "payload", item.id)).toBe(JSON.stringify(said[said.length - 1 - at]));
      }
      await using stranger = await Host.start({ server: "shared-state", store: meeting.store, agent: "cid" });
      expect((await stranger.try("get_context", { correlationId: "plan-talk" })).text).toMatch(/^not_found/);
      await using receiver = await Host.start({ server: "shared-state", store: meeting.store, agent: "ben" });
      expect((await receiver.call<Context>("get_context", { correlationId: "plan-talk" })).items.length).toBeGreaterThan(3);
    });

    test("names what is not there, and asks what is wanted", async () => {
      const state = hosts.get("shared-state") as Host;
      expect((await state.try("get_context", { taskId: "nobody" })).text).toMatch(/^not_found/);
      expect((await state.try("get_context", { workflowId: "nobody" })).text).toMatch(/^not_found/);
      expect((await state.try("get_context", {})).text).toMatch(/^invalid_argument: Nothing was asked for/);
      expect((await state.try("get_context", { taskId: "a", maxTokens: 10 })).text).toMatch(/^invalid_argument/);
    });
  });

  describe.each(ERAS)("with client %s", (era) => {
    test("a summary is asked of the host's model alone when the caller wants one, and is marked as its words", async () => {
      verifies("STATE-13");
      const asked: string[] = [];
      const model = async ({ prompt }: { prompt: string }) => {
        asked.push(prompt);
        return "Forty modules were built; those whose number divides by three left only a log.";
      };
      const ask = { workflowId: "nightly", maxTokens: 2_000 };
      await using host = await Host.start({ server: "shared-state", store: meeting.store, agent: "eve", era, model });
      const plain = await host.call<Context>("get_context", ask);
      expect(plain).not.toHaveProperty("summarized");
      expect(asked).toEqual([]);
      const summed = await host.try("get_context", { ...ask, summarize: true });
      expect(summed.structured).toMatchObject({ summarized: true, summary: expect.stringContaining("Forty modules") });
      expect(summed.structured.untrusted).toContain("summary");
      expect(countTokens(summed.text)).toBeLessThanOrEqual(2_000);
      expect(asked).toHaveLength(1);
      expect(asked[0]).toContain("nightly");

      await using without = await Host.start({ server: "shared-state", store: meeting.store, agent: "eve", era });
      const refused = await without.call<Record<string, unknown>>("get_context", { ...ask, summarize: true });
      expect(refused).toMatchObject({ summarized: false });
      expect(refused).not.toHaveProperty("summary");
    });
  });
});
