import { type Entry, ordered, prefixRange, type Store, searchable, type TextQuery } from "@mcp-swarm/store";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { verifies } from "../requirements.ts";

const AT = 1_750_000_000_000;
const PAGES_MAX = 1_000;

/** A text under the key of its time. */
function write(store: Store, texts: Record<string, string>, options: { scopes?: string[]; at?: number; ttlMs?: number } = {}) {
  const { scopes = ["all"], at = AT, ttlMs } = options;
  return store.transact((tx) => {
    for (const [name, text] of Object.entries(texts)) {
      tx.put(`text/${ordered(at)}-${name}`, { ...searchable(text, scopes), name }, ttlMs === undefined ? {} : { ttlMs });
    }
  });
}

function names(entries: readonly Entry[]): string[] {
  return entries.map(({ value }) => (value as { name: string }).name);
}

/** The keys of all pages. */
export async function searchAll(store: Store, query: Pick<TextQuery, "text" | "scopes">, limit = 50): Promise<string[]> {
  const found: string[] = [];
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const before = found.at(-1);
    const page = await store.search({ ...query, limit, ...(before === undefined ? {} : { before }) });
    found.push(...page.map(({ key }) => key));
    if (page.length < limit) return found;
  }
  throw new Error("the pages have no end");
}

export async function keysUnder(store: Store, prefix: string, keep: (key: string) => boolean = () => true): Promise<string[]> {
  const found: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange(prefix, 1_000, after === undefined ? {} : { after }));
    found.push(...page.map(({ key }) => key).filter(keep));
    if (page.length < 1_000) return found;
    after = page.at(-1)?.key;
  }
}

/** What search must be on every engine. */
export function searchSuite(store: () => Store): void {
  const search = async (text: string, scopes = ["all"], limit = 100) =>
    names(await store().search({ text, scopes, limit })).toSorted();

  describe("search", () => {
    it("finds texts that hold all the words, in any order, the last one by its beginning", async () => {
      await write(store(), { one: "the quick brown fox", two: "a brown dog, quick", three: "quickly brownish" });
      expect(await search("brown quick")).toEqual(["one", "two"]);
      expect(await search("quick brow")).toEqual(["one", "two"]);
      expect(await search("quick")).toEqual(["one", "three", "two"]);
      expect(await search('"quick"')).toEqual(["one", "two"]);
      expect(await search("ick")).toEqual([]);
      expect(await search("a")).toEqual(["two"]); // one letter stands for itself alone
      expect(await search("fox dog")).toEqual([]);
    });

    it("takes no account of case, accents and forms of letters", async () => {
      await write(store(), { name: "Crème BRÛLÉE, STRASSE, ΟΔΟΣ, İstanbul, ﬁne, ｆｕｌｌ, re\u0301sume\u0301, Ёлка" });
      for (const text of ["creme brulee", "Straße", "οδός", "ISTANBUL", "fine", "FULL", "résumé", "елка"]) {
        expect({ text, found: await search(text) }).toEqual({ text, found: ["name"] });
      }
    });

    it("takes each character for a word where a script puts no space, and keeps the marks of scripts that need them", async () => {
      await write(store(), { ja: "全文検索のテスト", th: "สวัสดีครับ", hi: "कि", ko: "한국어 검색" });
      expect(await search("検索")).toEqual(["ja"]);
      expect(await search("索検")).toEqual(["ja"]); // the order of words is not search's to judge
      expect(await search("がテスト")).toEqual([]);
      expect(await search("สวัสดี")).toEqual(["th"]);
      expect(await search("का")).toEqual([]);
      expect(await search("कि")).toEqual(["hi"]);
      expect(await search("한국")).toEqual(["ko"]);
    });

    it("parts names in code into their words", async () => {
      await write(store(), { code: "edit src/foo_bar.ts:42 (well-known) x.y@z.io" });
      for (const text of ["foo_bar.ts", "foo bar", "src/foo_bar.ts:42", "known-well", "z.io", "42"]) {
        expect({ text, found: await search(text) }).toEqual({ text, found: ["code"] });
      }
      expect(await search("foobar")).toEqual([]);
    });

    it("takes what the engines' own languages of search give a meaning for words, or for nothing", async () => {
      await write(store(), { words: "and or not near", other: "100% a_b 'quoted' \\ back" });
      for (const text of ["AND OR NOT", "near(and or)", "NOT and", "and* or^ -not +near", 'and:or "near" not', "{and} or"]) {
        expect({ text, found: await search(text) }).toEqual({ text, found: ["words"] });
      }
      for (const text of ["100%", "a%b", "'quoted'", "b_a", "back\\", "back:*", "quoted & 'a'"]) {
        expect({ text, found: await search(text) }).toEqual({ text, found: ["other"] });
      }
      expect(await search("quoted' | 'x & back")).toEqual([]);
      expect(await search("'; DROP TABLE keyv; --")).toEqual([]);
      expect(await search("words : and")).toEqual([]);
      expect(await search("=all")).toEqual([]); // a scope is no word
      expect(await store().scan(prefixRange("text/", 10))).toHaveLength(2);
    });

    it("finds a very long word by its beginning, and no more of a text than is indexed", async () => {
      const long = "x".repeat(5_000);
      const { text } = searchable("ab ".repeat(20_000), []);
      expect(text.length).toBeLessThanOrEqual(16_384);
      await write(store(), { long: `before ${long} after`, emoji: "ok 👍🏽 done", cut: `${"word ".repeat(5_000)}never` });
      expect(await search(`${long}`)).toEqual(["long"]);
      expect(await search("after")).toEqual(["long"]);
      expect(await search("👍 done")).toEqual(["emoji"]);
      expect(await search("never")).toEqual([]);
      expect(await search(`${"😀".repeat(70)}word`)).toEqual(["cut"]);
    });

    it.each([
      ["no word", { text: "?! 👍 ^*\"'", scopes: ["all"], limit: 1 }],
      ["an empty text", { text: "", scopes: ["all"], limit: 1 }],
      ["too many words", { text: "a ".repeat(33), scopes: ["all"], limit: 1 }],
      ["limit 0", { text: "a", scopes: ["all"], limit: 0 }],
      ["a limit over the greatest", { text: "a", scopes: ["all"], limit: 1_001 }],
      ["a place that is no key of a text", { text: "a", scopes: ["all"], limit: 1, before: "text/x" }],
      ["a place in another namespace", { text: "a", scopes: ["all"], limit: 1, before: `task/${ordered(1)}` }],
    ])("refuses %s", async (_, query) => {
      await expect(store().search(query)).rejects.toMatchObject({ code: "invalid_argument" });
    });

    it("finds only what has one of the scopes, whatever they are named", async () => {
      await write(store(), { a: "word" }, { scopes: ["from:build-7/Reviewer", "x"] });
      await write(store(), { b: "word" }, { scopes: ["from:build-7", `long ${"ü".repeat(100)}`] });
      await write(store(), { c: "word from build 7" }, { scopes: [] });
      expect(await search("word", ["from:build-7"])).toEqual(["b"]);
      expect(await search("word", ["from:build-7/Reviewer"])).toEqual(["a"]);
      expect(await search("word", ["from:build-7/reviewer"])).toEqual([]);
      expect(await search("word", ["x", `long ${"ü".repeat(100)}`])).toEqual(["a", "b"]);
      expect(await search("word", [`long ${"ü".repeat(99)}`])).toEqual([]);
      expect(await search("word", ["from", '"', "' | 'x", "nobody"])).toEqual([]);
      expect(await search("word", [])).toEqual([]);
    });

    it("follows every change of a row: written anew, deleted, taken back, ended, swept, and through Keyv", async () => {
      await write(store(), { a: "first", b: "first", c: "first", d: "first" });
      await write(store(), { a: "second" });
      await store().transact((tx) => tx.delete(`text/${ordered(AT)}-b`));
      await write(store(), { c: "first" }, { ttlMs: 0 });
      const wrong = new Error("the plan's own");
      const outcomes = await Promise.allSettled([
        write(store(), { e: "first" }),
        store().transact((tx) => {
          tx.put(`text/${ordered(AT)}-f`, { ...searchable("first", ["all"]), name: "f" });
          tx.delete(`text/${ordered(AT)}-d`);
          throw wrong;
        }),
        write(store(), { g: "first" }),
      ]);
      expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
      expect(await search("first")).toEqual(["d", "e", "g"]);
      expect(await search("second")).toEqual(["a"]);
      await store().sweep(100);
      expect(await search("first")).toEqual(["d", "e", "g"]);
      const view = store().keyv("text");
      await view.set(`${ordered(AT)}-h`, { ...searchable("first", ["all"]), name: "h" });
      await view.set(`${ordered(AT)}-e`, { ...searchable("third", ["all"]), name: "e" });
      await view.delete(`${ordered(AT)}-g`);
      expect(await search("first")).toEqual(["d", "h"]);
      expect(await search("third")).toEqual(["e"]);
      await view.clear();
      expect(await search("first")).toEqual([]);
      await write(store(), { i: "first" });
      expect(await search("first")).toEqual(["i"]);
    });

    it("takes rows of the namespace that are no texts, and does not find them", async () => {
      const odd = ["words", 5, null, ["text"], { text: "word" }, { text: 5, scopes: ["all"] }, { text: "word", scopes: "all" }];
      await store().transact((tx) => {
        for (const [i, value] of odd.entries()) tx.put(`text/${ordered(AT)}-${i}`, value);
        tx.put("text/no-time", { ...searchable("word", ["all"]), name: "no time" });
        tx.put(`text/${ordered(2 ** 42)}`, { ...searchable("word", ["all"]), name: "too late" });
        tx.put("text/", 1);
      });
      await write(store(), { text: "word" });
      expect(await search("word")).toEqual(["text"]);
      expect(await store().scan(prefixRange("text/", 100))).toHaveLength(odd.length + 4);
      await store().transact((tx) => {
        for (const i of odd.keys()) tx.delete(`text/${ordered(AT)}-${i}`);
      });
      expect(await search("word")).toEqual(["text"]);
    });

    it("is the same as looking at every row, newest first, page by page, whatever was written, ended and deleted", async () => {
      verifies("CORE-14");
      const said = ["Ünïted", "united", "Unit", "status", "STATUS_UPDATE", "update", "foo.ts", "foo", "索引", "索", "é", "x"];
      const words: Record<string, string[]> = {
        status_update: ["status", "update"],
        "foo.ts": ["foo", "ts"],
        索引: ["索", "引"],
      };
      const heldBy = (word: string): string[] =>
        words[word.toLowerCase()] ?? [{ Ünïted: "united", é: "e" }[word] ?? word.toLowerCase()];
      const text = fc.array(fc.constantFrom(...said), { minLength: 1, maxLength: 6 });
      const scopes = fc.uniqueArray(fc.constantFrom("a", "A", "b:c", "d/e"), { minLength: 1, maxLength: 3 });
      const place = fc.record({ at: fc.integer({ min: 0, max: 3 }), id: fc.integer({ min: 0, max: 9 }) });
      const change = fc.oneof(
        { weight: 5, arbitrary: fc.record({ place, text, scopes, ttlMs: fc.constantFrom(undefined, undefined, 0) }) },
        { weight: 1, arbitrary: fc.record({ place }) },
      );
      const query = fc.record({ text, scopes, limit: fc.integer({ min: 1, max: 5 }) });
      let round = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.array(change, { maxLength: 40 }),
          fc.array(query, { minLength: 1, maxLength: 4 }),
          async (changes, queries) => {
            round += 1; // each in a time of its own: nothing need be removed
            const rows = new Map<string, { words: Set<string>; scopes: string[] }>();
            for (let start = 0; start < changes.length; start += 7) {
              await store().transact((tx) => {
                for (const one of changes.slice(start, start + 7)) {
                  const key = `text/${ordered(AT + round * 10 + one.place.at)}-${one.place.id}`;
                  rows.delete(key);
                  if (!("text" in one)) {
                    tx.delete(key);
                    continue;
                  }
                  const tagged = one.scopes.map((scope) => `${round} ${scope}`);
                  tx.put(key, searchable(one.text.join(" "), tagged), one.ttlMs === undefined ? {} : { ttlMs: one.ttlMs });
                  if (one.ttlMs === undefined) rows.set(key, { words: new Set(one.text.flatMap(heldBy)), scopes: tagged });
                }
              });
            }
            for (const one of queries) {
              const tagged = one.scopes.map((scope) => `${round} ${scope}`);
              const wanted = one.text.flatMap(heldBy);
              const last = wanted.at(-1) ?? "";
              const expected = [...rows]
                .filter(
                  ([, row]) =>
                    row.scopes.some((scope) => tagged.includes(scope)) &&
                    wanted.slice(0, -1).every((word) => row.words.has(word)) &&
                    (row.words.has(last) || (last.length > 1 && [...row.words].some((word) => word.startsWith(last)))),
                )
                .map(([key]) => key)
                .toSorted()
                .toReversed();
              expect(await searchAll(store(), { text: one.text.join(" "), scopes: tagged }, one.limit)).toEqual(expected);
            }
          },
        ),
        { numRuns: 60 },
      );
    });
  });
}
