import type { Json } from "@mcp-swarm/core";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type ContextItem, type ContextView, fitContext } from "../src/context-fitting.ts";
import type { Source } from "../src/context-source.ts";
import { type CountTokens, loadTokenizer, measure, pieces, tokensToUse } from "../src/context-tokens.ts";

const BYTES_MAX = 20_000;
const ENVELOPE = {
  caller: { agentId: "a-rather-long-name-of-an-agent/and-its-child", verified: false },
  untrusted: ["items[].content"],
};

let count: CountTokens;
beforeAll(async () => {
  count = await loadTokenizer();
});

/** `readOn` names the part and the place, so that a test can follow it. */
const call = (id: string, name: string) => (offset: number) => JSON.stringify([id, name, offset]);

function sourceOf(id: string, weight: number, values: { [name: string]: Json }): Source {
  const parts = Object.entries(values).map(([name, value]) => ({ name, value, readOn: call(id, name) }));
  return { kind: "task", id, reading: 'get_task {"taskId":"<id>"}', facts: { status: "done" }, weight, parts };
}

function fit(sources: readonly Source[], maxTokens: number, envelope = ENVELOPE): ContextView {
  return fitContext({ sources, unread: [], count, tokensMax: tokensToUse(maxTokens), bytesMax: BYTES_MAX, envelope });
}

/** What a caller has of a part: the shown text up to where `readOn` goes on, and what is read from there. */
function reassembled(part: Source["parts"][number], item: ContextItem): { whole: string; text: string } {
  const text = typeof part.value === "string" ? part.value : JSON.stringify(part.value);
  const calls = (item.readOn ?? []).map((one) => JSON.parse(one) as [string, string, number]);
  const mine = calls.filter(([id, name]) => id === item.id && name === part.name);
  const shown = item.content?.[part.name];
  if (mine.length === 0) return { whole: typeof shown === "string" ? shown : JSON.stringify(shown), text };
  const [[, , offset] = ["", "", 0]] = mine;
  const head = offset === 0 ? "" : String(shown).slice(0, offset);
  return { whole: head + text.slice(offset), text };
}

function checkAll(sources: readonly Source[], view: ContextView): void {
  const shown = view.items.map(({ id }) => id);
  const listed = (view.omitted ?? []).flatMap(({ ids }) => ids);
  const more = (view.omitted ?? []).reduce((sum, one) => sum + (one.more ?? 0), 0);
  expect([...shown, ...listed]).toEqual(sources.slice(0, shown.length + listed.length).map(({ id }) => id));
  expect(shown.length + listed.length + more).toBe(sources.length);
  for (const [at, item] of view.items.entries()) {
    for (const part of sources[at]?.parts ?? []) {
      const { whole, text } = reassembled(part, item);
      expect(whole).toBe(text);
    }
  }
}

const words = fc.array(
  fc.constantFrom("build", "failed.\n", "the", "server", "0x3f", "\n", "Retry. ", '"quoted"', "\\", "日本", "🎉"),
  {
    maxLength: 400,
  },
);
const text = fc.oneof(
  words.map((list) => list.join(" ")),
  fc.string({ unit: "grapheme", maxLength: 300 }),
  fc
    .tuple(fc.constantFrom("a", "=", "\n", " ", "🎉", "日"), fc.integer({ min: 1, max: 5_000 }))
    .map(([one, times]) => one.repeat(times)),
);
const { value } = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    text,
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 30 }),
    fc.dictionary(fc.oneof(fc.string({ maxLength: 12 }), text), tie("value"), { maxKeys: 12 }),
  ),
}));

describe("a context within a budget", () => {
  verifies("STATE-13");

  test("fits whatever it is made of, and each part is whole, or can be read on to the last character", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(8, 4, 2, 0.5), value, fc.option(text)), { maxLength: 40 }),
        fc.integer({ min: 300, max: 20_000 }),
        (made, maxTokens) => {
          const sources = made.map(([weight, output, title], at) =>
            sourceOf(`t${at}`, weight, { ...(title === null ? {} : { title }), output }),
          );
          const view = fit(sources, maxTokens);
          const answer = JSON.stringify({ ...view, ...ENVELOPE });
          expect(count(answer)).toBeLessThanOrEqual(tokensToUse(maxTokens));
          expect(Buffer.byteLength(answer)).toBeLessThanOrEqual(BYTES_MAX);
          expect(answer.isWellFormed()).toBe(true);
          expect(JSON.stringify(fit(sources, maxTokens))).toBe(JSON.stringify(view));
          checkAll(sources, view);
        },
      ),
      { numRuns: 80 },
    );
  });

  test("that fits is whole, and says of itself that nothing was done", () => {
    const sources = [sourceOf("a", 8, { description: "Build it.", output: { files: 3 } })];
    const view = fit(sources, 4_000);
    expect(view.items).toEqual([
      { kind: "task", id: "a", status: "done", content: { description: "Build it.", output: { files: 3 } } },
    ]);
    expect(view).toMatchObject({ reductions: [], originalTokens: view.tokens, ratio: 1 });
    expect(view.limitedBy).toBeUndefined();
  });

  test("says once what several items repeat: equal values, and passages of otherwise different texts", () => {
    const settings = {
      region: "north",
      retries: 3,
      notes: "Ask before you change these settings, all servers read them at start.",
    };
    const notice =
      "This report was made by the nightly run.\nAll times are UTC.\nNumbers are rounded to two places after the point.\n";
    const sources = [1, 2, 3].map((at) =>
      sourceOf(`t${at}`, 1, {
        output: { at, settings },
        log: `${notice}${"-".repeat(at)} Run ${at} was fine, ${"really ".repeat(20 * at)}`,
      }),
    );
    const view = fit(sources, 4_000);
    const [first, second] = view.items;
    expect(first?.content?.output).toEqual({ at: 1, settings });
    expect(second?.content?.output).toEqual({ at: 2, settings: { sameAs: "items[0].content.output.settings" } });
    expect(second?.content?.log).toContain(`[... ${notice.length} characters as in items[0].content.log ...]`);
    expect(view.reductions.map(({ what }) => what)).toEqual(["4 repeated parts said once"]);
    checkAll(sources, view);
  });

  test("samples a list from its first to its last item, with how many there are in each state", () => {
    const list = Array.from({ length: 300 }, (_, at) => ({
      id: at,
      status: at % 3 === 0 ? "failed" : "passed",
      log: `line ${at} `.repeat(9),
    }));
    const view = fit([sourceOf("t", 1, { output: list })], 600);
    const sample = view.items[0]?.content?.output as {
      listOf: number;
      "by status": object;
      items: { [at: string]: { id: number } };
    };
    expect(sample.listOf).toBe(300);
    expect(sample["by status"]).toEqual({ failed: 100, passed: 200 });
    const places = Object.keys(sample.items).map(Number);
    expect(places[0]).toBe(0);
    expect(places.at(-1)).toBe(299);
    for (const at of places) expect(sample.items[at]?.id).toBe(at);
    expect(view.limitedBy).toBe("maxTokens");
  });

  test("keeps head and tail of a text, each up to the edge of a line", () => {
    const lines = Array.from({ length: 2_000 }, (_, at) => `Step ${at} ended well.\n`).join("");
    const view = fit([sourceOf("t", 1, { output: lines })], 700);
    const shown = String(view.items[0]?.content?.output);
    const [head = "", tail = ""] = shown.split(/\[\.\.\. \d+ characters \.\.\.\]/);
    expect(lines.startsWith(head) && head.endsWith("\n")).toBe(true);
    expect(lines.endsWith(tail) && tail.startsWith("Step ")).toBe(true);
  });

  test("gives what is more important more room, and lists by id what has none", () => {
    const sources = Array.from({ length: 400 }, (_, at) =>
      sourceOf(`task-${at}`, at === 0 ? 8 : 1, { output: `Result ${at}: ${"all of it is different ".repeat(200)}${at}` }),
    );
    const view = fit(sources, 3_000);
    checkAll(sources, view);
    const [own, other] = view.items.map(({ content }) => String(content?.output).length);
    expect(own).toBeGreaterThan(3 * (other ?? 0));
    expect(view.omitted?.[0]?.ids.length).toBeGreaterThan(0);
    expect(view.omitted?.[0]?.readOn).toBe('get_task {"taskId":"<id>"}');
  });

  test("names the size of an answer as the limit when that is less than the tokens asked for", () => {
    const view = fit([sourceOf("t", 1, { output: "several words in plain English ".repeat(10_000) })], 20_000);
    expect(view.limitedBy).toBe("answerBytes");
    expect(view.tokens).toBeGreaterThan(2_500);
  });

  test("refuses a budget in which not even its frame fits", () => {
    const envelope = { ...ENVELOPE, summary: "word ".repeat(400) };
    expect(() => fit([sourceOf("t", 1, { output: "x".repeat(9_000) })], 300, envelope as typeof ENVELOPE)).toThrow(
      /maxTokens is too small/,
    );
  });
});

describe("counting tokens", () => {
  test("never gives the tokenizer a run that it takes long for, and loses no character", () => {
    fc.assert(
      fc.property(text, (one) => {
        const parts = pieces(one);
        expect(parts.join("")).toBe(one);
        for (const part of parts) {
          expect(part.length).toBeLessThanOrEqual(256);
          expect(part.isWellFormed()).toBe(true);
        }
      }),
    );
  });

  test("takes what looks like a special token for text", () => {
    expect(count("<|endoftext|>")).toBeGreaterThan(1);
  });

  test("of very long texts counts a share of each, and says so", () => {
    const line = "The same line again and again.\n";
    const { tokens, estimated } = measure(count, [line.repeat(60_000), "short"]);
    expect(estimated).toBe(true);
    expect(tokens[1]).toBe(count("short"));
    expect((tokens[0] ?? 0) / (60_000 * count(line))).toBeCloseTo(1, 1);
  });
});
