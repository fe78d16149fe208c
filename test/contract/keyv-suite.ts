import { keyvApiTests, keyvIteratorTests, keyvNamespaceTest, keyvValueTests } from "@keyv/test-suite";
import type { Store } from "@mcp-swarm/store";
import { Keyv } from "keyv";
import * as vitest from "vitest";
import { describe, expect, it, vi } from "vitest";

/**
 * Keyv's public suite for adapters. Its newest release, 2.1.2, was written for keyv 5. What it asks of keyv 5 alone is left
 * out, by name and with the reason; the tests after it ask the same of keyv 6, and what keyv 6 added.
 */
const KEYV_5_ALONE: Readonly<Record<string, string>> = {
  ".deleteMany([keys]) with nonexistent keys resolves to false": "keyv 6 answers for each key",
  "value can be BigInt using other serializer/deserializer": "the options serialize and deserialize are gone",
};

/** The Keyv view of a store passes Keyv's own suite, and reads and writes the rows that transactions do. */
export function keyvSuite(store: () => Store): void {
  describe("Keyv's public adapter suite on a namespace's adapter", () => {
    const chosen = {
      ...vitest,
      it(name: string, run: (context: vitest.TestContext) => Promise<void>) {
        if (name in KEYV_5_ALONE) return;
        it(name, async (context) => {
          await run(context);
          await settle(store());
        });
      },
    } as unknown as typeof vitest;
    const keyv = Keyv as unknown as Parameters<typeof keyvApiTests>[1];
    const adapter = () => store().keyv("suite").store;
    describe("api", () => keyvApiTests(chosen, keyv, adapter));
    describe("values", () => keyvValueTests(chosen, keyv, adapter));
    describe("namespaces", () => keyvNamespaceTest(chosen, keyv, adapter));
    describe("iterator", () => keyvIteratorTests(chosen, keyv, adapter));
  });

  describe("the Keyv view of a namespace", () => {
    it("reads what transactions wrote, and they read what it wrote", async () => {
      const view = store().keyv("view");
      await store().transact((tx) => tx.put("view/a", { list: [1, ":two"] }));
      expect(await view.get("a")).toEqual({ list: [1, ":two"] });
      await view.set("b", { three: ":3" });
      expect(await store().transact((tx) => tx.get("view/b")?.value)).toEqual({ three: ":3" });
    });

    it("moves the revision with each write, also one that writes the same again", async () => {
      const view = store().keyv("view");
      await store().transact((tx) => tx.put("view/a", 1));
      const revs = new Set([(await store().get("view/a"))?.rev]);
      for (const write of [() => view.set("a", 1), () => view.set("a", 1), () => view.setMany([{ key: "a", value: 2 }])]) {
        await write();
        revs.add((await store().get("view/a"))?.rev);
      }
      expect(revs.size).toBe(4);
    });

    it("sets, gets, finds and deletes many, each answered in its place", async () => {
      const view = store().keyv("view");
      expect(
        await view.setMany([
          { key: "a", value: 1 },
          { key: "b", value: 2 },
        ]),
      ).toEqual([true, true]);
      expect(await view.getMany(["b", "none", "a"])).toEqual([2, undefined, 1]);
      expect(await view.hasMany(["b", "none", "a"])).toEqual([true, false, true]);
      expect(await view.deleteMany(["none", "a"])).toEqual([false, true]);
      expect(await view.getMany(["a", "b"])).toEqual([undefined, 2]);
    });

    it("handles more keys at once than a statement takes parameters", async () => {
      const view = store().keyv("view");
      const keys = Array.from({ length: 1_100 }, (_, i) => `many/${i}`);
      await view.setMany(keys.map((key, value) => ({ key, value })));
      expect(await view.getMany(keys)).toEqual(keys.map((_, i) => i));
      expect(await view.deleteMany(keys)).toEqual(keys.map(() => true));
      expect(await store().scan({ from: "view/", before: "view0", limit: 10 })).toEqual([]);
    });

    it("gives an entry the time to live that it was set with", async () => {
      const view = store().keyv("view");
      const before = await store().now();
      await view.set("a", 1, 60_000);
      const entry = await store().get("view/a");
      expect(entry?.expiresAt).toBeGreaterThanOrEqual(before + 60_000 - 1_000);
      await view.set("b", 2, 30);
      await vi.waitFor(async () => expect(await view.get("b")).toBeUndefined(), { timeout: 10_000 });
      expect(await view.has("b")).toBe(false);
      expect(await store().get("view/b")).toBeUndefined();
    });

    it("keeps to its namespace in reading, clearing and iterating", async () => {
      const [one, two] = [store().keyv("one"), store().keyv("two")];
      for (const view of [one, two]) await view.setMany(Array.from({ length: 30 }, (_, i) => ({ key: `k${i}`, value: i })));
      await one.set("only-here", 1);
      expect(await two.get("only-here")).toBeUndefined();
      await one.clear();
      expect(await one.get("k1")).toBeUndefined();
      const seen: unknown[] = [];
      for await (const [, value] of two.iterator()) seen.push(value);
      expect(seen.toSorted((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 30 }, (_, i) => i));
      const none: unknown[] = [];
      for await (const entry of one.iterator()) none.push(entry);
      expect(none).toEqual([]);
    });

    it("never removes as expired what was written anew since it looked", async () => {
      const view = store().keyv("view");
      for (let i = 0; i < 40; i++) {
        await store().transact((tx) => tx.put("view/a", "old", { ttlMs: 0 }));
        const looks = [view.get("a"), view.getMany(["a"]), view.has("a")];
        await store().transact((tx) => tx.put("view/a", i));
        await Promise.all(looks);
        expect((await store().get("view/a"))?.value).toBe(i);
      }
    });

    it("throws when the engine fails: a failed read is not a missing entry", async () => {
      const view = store().keyv("view");
      await view.set("a", 1);
      await store().close();
      await expect(view.get("a")).rejects.toThrow();
      await expect(view.getMany(["a"])).rejects.toThrow();
      await expect(view.has("a")).rejects.toThrow();
    });
  });
}

/** Some tests of the suite look only whether a promise comes back: lets what they started end before the store closes. */
async function settle(store: Store): Promise<void> {
  await new Promise(setImmediate);
  await store.transact(() => {});
}
