import type { Json } from "@mcp-swarm/core";
import { type Entry, KEY_BYTES_MAX, type KeyRange, prefixRange, type Store } from "@mcp-swarm/store";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { compareBytes } from "../../shared/store/src/row.ts";
import { verifies } from "../requirements.ts";
import { keyvSuite } from "./keyv-suite.ts";
import { keysUnder, searchAll, searchSuite } from "./search-suite.ts";
import { runWorkers, startWorkers } from "./workers.ts";

/** A place for one store, empty at first. */
export interface Place {
  /** What other processes open; undefined for an engine that lives in one process. */
  url?: string;
  open(): Promise<Store>;
  /** Closes what was opened and removes the data. */
  dispose(): Promise<void>;
}

/** What every engine must do. `makePlace` gives a fresh place for each test. */
export function contractSuite(engine: string, makePlace: () => Promise<Place>, options: { processes: boolean }): void {
  describe(`the store contract on ${engine}`, () => {
    let place: Place;
    let store: Store;

    beforeEach(async () => {
      place = await makePlace();
      store = await place.open();
    });
    afterEach(async () => {
      await place.dispose();
    });

    values(() => store);
    keys(() => store);
    ranges(() => store);
    transactions(() => store);
    time(() => store);
    waking(
      () => store,
      () => place,
    );
    keyvSuite(() => store);
    searchSuite(() => store);
    if (options.processes) processes(() => place, makePlace);

    it("refuses every call after it was closed", async () => {
      await store.close();
      for (const call of [
        () => store.get("a/b"),
        () => store.getMany(["a/b"]),
        () => store.scan(prefixRange("a/", 1)),
        () => store.search({ text: "a", scopes: ["b"], limit: 1 }),
        () => store.transact(() => 1),
        () => store.now(),
        () => store.sweep(1),
        () => store.snapshot(async () => 1),
        async () => store.watch("a/", () => {}),
        async () => store.keyv("a"),
      ]) {
        await expect(call()).rejects.toMatchObject({ code: "unavailable" });
      }
    });
  });
}

function values(store: () => Store): void {
  it("gives back any JSON value exactly, by get, getMany, scan and inside a transaction", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.jsonValue({ stringUnit: "binary", maxDepth: 3 }), { minLength: 1, maxLength: 8 }),
        async (list) => {
          const written = list.map((value) => JSON.parse(JSON.stringify(value)) as Json);
          const keys = written.map((_, i) => `value/${i}`);
          const inside = await store().transact((tx) => {
            for (const [i, key] of keys.entries()) tx.put(key, written[i] ?? null);
            return keys.map((key) => tx.get(key)?.value);
          });
          expect(inside).toEqual(written);
          expect((await store().getMany(keys)).map((entry) => entry?.value)).toEqual(written);
          expect((await store().get("value/0"))?.value).toEqual(written[0]);
          const scanned = await store().scan(prefixRange("value/", 100));
          expect(scanned.slice(0, written.length).map(({ value }) => value)).toEqual(written);
        },
      ),
      { numRuns: 30 },
    );
  });

  it("keeps strings that other layers give a meaning: NUL, lone surrogates, Keyv's tags", async () => {
    const odd = ["a\0b", "\ud800", "\udc00x", ":tag", ":base64:eA==", "::", '":"', "\u2028", "😀"];
    await store().transact((tx) => tx.put("value/odd", { odd, ":key": odd }));
    expect((await store().get("value/odd"))?.value).toEqual({ odd, ":key": odd });
  });

  it("takes a value of 1 MiB with what a layer keeps beside it, and refuses a larger one", async () => {
    const put = (length: number, start = "x") =>
      store().transact((tx) => tx.put("value/long", { about: "y".repeat(1_024), value: start.padEnd(length, "x") }));
    await put(1_048_574); // and two quotes
    await expect(put(1_052_672)).rejects.toMatchObject({ code: "limit_exceeded" });
    expect((await store().get("value/long"))?.value).toMatchObject({ value: "x".repeat(1_048_574) });
    const marked = Array.from({ length: 262_143 }, () => ":"); // a mark of Keyv's own for each item
    await store().transact((tx) => tx.put("value/long", marked));
    expect((await store().get("value/long"))?.value).toEqual(marked);
  });
}

function keys(store: () => Store): void {
  const put = (key: string) => store().transact((tx) => tx.put(key, 1));

  it("takes keys of 255 bytes in any script and orders them by their bytes", async () => {
    const list = [
      "k/",
      "k/a",
      "k/a b",
      "k/a/b",
      "k/~",
      "k/é",
      "k/ﬀ",
      "k/\uffff",
      "k/😀",
      `k/${"é".repeat((KEY_BYTES_MAX - 2) / 2)}`,
    ];
    for (const key of list) await put(key);
    const scanned = await store().scan({ from: "k/", before: "k0", limit: 100 });
    expect(scanned.map(({ key }) => key)).toEqual(list.toSorted(compareBytes));
    expect(scanned.map(({ key }) => key)).toEqual(list.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  });

  it.each([
    ["no namespace", "plain"],
    ["an empty namespace", "/a"],
    ["a namespace in capitals", "A/b"],
    ["more than 255 bytes", `k/${"x".repeat(KEY_BYTES_MAX)}`],
    ["more than 255 bytes though fewer characters", `k/${"é".repeat(150)}`],
    ["a NUL", "k/a\0"],
    ["a lone surrogate", "k/\ud800"],
  ])("refuses a key with %s", async (_, key) => {
    for (const call of [
      () => put(key),
      () => store().get(key),
      () => store().getMany([key]),
      () => store().transact((tx) => tx.get(key)),
      () => store().transact((tx) => tx.delete(key)),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: "invalid_argument" });
    }
  });

  it.each([
    ["limit 0", { from: "k/", before: "k0", limit: 0 }],
    ["limit over the greatest", { from: "k/", before: "k0", limit: 1_001 }],
    ["a limit that is no whole number", { from: "k/", before: "k0", limit: 1.5 }],
    ["bounds in two namespaces", { from: "k/", before: "l/a", limit: 1 }],
  ])("refuses a range with %s", async (_, range) => {
    await expect(store().scan(range)).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(store().transact((tx) => tx.scan(range))).rejects.toMatchObject({ code: "invalid_argument" });
  });
}

function ranges(store: () => Store): void {
  const segments = ["", "a", "a/", "a/b", "a0", "b", "é", "\uffff", "😀", "z"];
  const operation = fc.record({
    put: fc.boolean(),
    key: fc.constantFrom(...segments).map((segment) => `r/${segment}`),
  });
  const range: fc.Arbitrary<KeyRange> = fc
    .record({
      from: fc.constantFrom(...segments).map((segment) => `r/${segment}`),
      before: fc.oneof(
        fc.constant("r0"),
        fc.constantFrom(...segments).map((segment) => `r/${segment}`),
        fc.constantFrom(...segments).map((segment) => `r/${segment}\0`),
      ),
      limit: fc.integer({ min: 1, max: 12 }),
      reverse: fc.boolean(),
    })
    .map(({ reverse, ...rest }) => ({ ...rest, ...(reverse ? { reverse } : {}) }));

  it("scans as a sorted list would, forwards and backwards, before and after commit, its own writes included", async () => {
    const expected = (model: Map<string, number>, { from, before, limit, reverse }: KeyRange) => {
      const inside = [...model].filter(([key]) => compareBytes(key, from) >= 0 && compareBytes(key, before) < 0);
      inside.sort(([a], [b]) => (reverse ? compareBytes(b, a) : compareBytes(a, b)));
      return inside.slice(0, limit);
    };
    const pairs = (entries: Entry[]) => entries.map(({ key, value }) => [key, value]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { maxLength: 12 }),
        fc.array(operation, { maxLength: 6 }),
        fc.array(range, { minLength: 1, maxLength: 6 }),
        async (first, second, wanted) => {
          const model = new Map<string, number>();
          const apply = (
            list: typeof first,
            tx: { put(key: string, value: number): void; delete(key: string): void },
            base: number,
          ) => {
            for (const [i, { put, key }] of list.entries()) {
              if (put) tx.put(key, base + i);
              else tx.delete(key);
            }
          };
          const onModel = {
            put: (key: string, value: number) => void model.set(key, value),
            delete: (key: string) => void model.delete(key),
          };
          await store().transact((tx) => {
            for (const segment of segments) tx.delete(`r/${segment}`);
            apply(first, tx, 0);
          });
          apply(first, onModel, 0);
          const inside = await store().transact((tx) => {
            apply(second, tx, 100);
            return wanted.map((one) => ({ scan: pairs(tx.scan(one)), pick: tx.pick(one, 1)?.key }));
          });
          apply(second, onModel, 100);
          for (const [i, one] of wanted.entries()) {
            const right = expected(model, one);
            expect(inside[i]?.scan).toEqual(right);
            expect(pairs(await store().scan(one))).toEqual(right);
            const picked = inside[i]?.pick;
            const pickable = expected(model, { ...one, limit: 1_000 }).map(([key]) => key);
            if (picked === undefined) expect(pickable).toEqual([]);
            else expect(pickable).toContain(picked);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it("pages through a range with a cursor without gap or repeat", async () => {
    const all = Array.from({ length: 57 }, (_, i) => `page/${String(i).padStart(3, "0")}`);
    await store().transact((tx) => {
      for (const key of all) tx.put(key, 1);
    });
    for (const reverse of [false, true]) {
      const seen: string[] = [];
      for (;;) {
        const after = seen.at(-1);
        const page = await store().scan(prefixRange("page/", 10, { reverse, ...(after === undefined ? {} : { after }) }));
        if (page.length === 0) break;
        seen.push(...page.map(({ key }) => key));
      }
      expect(seen).toEqual(reverse ? all.toReversed() : all);
    }
  });
}

function transactions(store: () => Store): void {
  it("commits nothing of a plan that throws, hands its error over, and commits the others that wait beside it", async () => {
    const wrong = new Error("the plan's own");
    const outcomes = await Promise.allSettled(
      Array.from({ length: 30 }, (_, i) =>
        store().transact((tx) => {
          tx.put(`batch/${i}`, i);
          tx.delete("batch/none");
          if (i % 3 === 0) throw wrong;
          return i;
        }),
      ),
    );
    for (const [i, outcome] of outcomes.entries()) {
      expect(outcome).toEqual(i % 3 === 0 ? { status: "rejected", reason: wrong } : { status: "fulfilled", value: i });
    }
    const kept = await store().scan(prefixRange("batch/", 100));
    expect(kept.map(({ value }) => value).toSorted((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 30 }, (_, i) => i).filter((i) => i % 3 !== 0),
    );
  });

  it("takes back deletes and overwrites of a plan that throws", async () => {
    await store().transact((tx) => {
      tx.put("undo/a", "old");
      tx.put("undo/b", "old");
    });
    const before = await store().scan(prefixRange("undo/", 10));
    await expect(
      store().transact((tx) => {
        tx.put("undo/a", "new");
        tx.delete("undo/b");
        throw new Error("no");
      }),
    ).rejects.toThrow("no");
    expect(await store().scan(prefixRange("undo/", 10))).toEqual(before);
  });

  it("sees its own writes and deletes", async () => {
    await store().transact((tx) => tx.put("own/a", 1));
    const seen = await store().transact((tx) => {
      tx.put("own/b", 2);
      tx.delete("own/a");
      tx.put("own/c", 3);
      tx.delete("own/c");
      return { a: tx.get("own/a"), b: tx.get("own/b")?.value, all: tx.scan(prefixRange("own/", 10)).map(({ key }) => key) };
    });
    expect(seen).toEqual({ a: undefined, b: 2, all: ["own/b"] });
  });

  it("loses none of 200 increments that one process has in flight at once", async () => {
    const add = () =>
      store().transact((tx) => {
        const next = Number(tx.get("flight/n")?.value ?? 0) + 1;
        tx.put("flight/n", next);
        return next;
      });
    const got = await Promise.all(Array.from({ length: 200 }, add));
    expect(new Set(got).size).toBe(200);
    expect((await store().get("flight/n"))?.value).toBe(200);
  });

  it("gives an entry a new revision with every write, and never one it had", async () => {
    const revs = new Set<string>();
    for (let i = 0; i < 20; i++) {
      await store().transact((tx) => (i % 4 === 3 ? tx.delete("rev/a") : tx.put("rev/a", "same")));
      const entry = await store().get("rev/a");
      if (!entry) continue;
      expect(revs.has(entry.rev)).toBe(false);
      revs.add(entry.rev);
      expect((await store().get("rev/a"))?.rev).toBe(entry.rev);
      expect(await store().transact((tx) => tx.get("rev/a")?.rev)).toBe(entry.rev);
    }
    expect(revs.size).toBe(15);
  });

  it("reads one unchanging snapshot while others commit", async () => {
    await store().transact((tx) => {
      tx.put("snap/a", "old");
      tx.put("snap/b", "old");
    });
    const seen = await store().snapshot(async (view) => {
      const first = await view.scan(prefixRange("snap/", 1));
      await store().transact((tx) => {
        tx.put("snap/b", "new");
        tx.put("snap/c", "new");
        tx.put("other/d", "new");
      });
      const rest = await view.scan(prefixRange("snap/", 10));
      return { first, rest, namespaces: await view.namespaces() };
    });
    expect(seen.first.map(({ key }) => key)).toEqual(["snap/a"]);
    expect(seen.rest.map(({ key, value }) => [key, value])).toEqual([
      ["snap/a", "old"],
      ["snap/b", "old"],
    ]);
    expect(seen.namespaces.filter((name) => name !== "meta")).toEqual(["snap"]);
    expect(await store().scan(prefixRange("snap/", 10))).toHaveLength(3);
  });
}

function time(store: () => Store): void {
  it("ends an entry at its time to live by the engine's clock, for every way of reading, and lets it be written anew", async () => {
    const now = await store().transact((tx) => {
      tx.put("ttl/short", 1, { ttlMs: 40 });
      tx.put("ttl/long", 2, { ttlMs: 600_000 });
      tx.put("ttl/none", 3);
      tx.put("ttl/past", 4, { ttlMs: 0 });
      return tx.now;
    });
    expect((await store().get("ttl/long"))?.expiresAt).toBe(now + 600_000);
    expect(await store().get("ttl/none")).not.toHaveProperty("expiresAt");
    await vi.waitFor(async () => expect(await store().now()).toBeGreaterThanOrEqual(now + 40), { timeout: 10_000 });
    expect(await store().get("ttl/short")).toBeUndefined();
    expect((await store().getMany(["ttl/short", "ttl/past", "ttl/none"])).map((entry) => entry?.value)).toEqual([
      undefined,
      undefined,
      3,
    ]);
    const left = ["ttl/long", "ttl/none"];
    expect((await store().scan(prefixRange("ttl/", 10))).map(({ key }) => key)).toEqual(left);
    const inside = await store().transact((tx) => {
      const seen = [tx.get("ttl/short")?.value, tx.scan(prefixRange("ttl/", 10)).map(({ key }) => key)];
      tx.put("ttl/short", "anew");
      return seen;
    });
    expect(inside).toEqual([undefined, left]);
    expect(await store().get("ttl/short")).toMatchObject({ value: "anew" });
    expect(await store().get("ttl/short")).not.toHaveProperty("expiresAt");
  });

  it("refuses a time to live that is no whole number of at least 0", async () => {
    for (const ttlMs of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(store().transact((tx) => tx.put("ttl/bad", 1, { ttlMs }))).rejects.toMatchObject({ code: "invalid_argument" });
    }
  });

  it("never goes back from one transaction to the next", async () => {
    let last = 0;
    for (let i = 0; i < 50; i++) {
      const now = await store().transact((tx) => tx.now);
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
  });

  it("sweeps expired rows alone, at most as many as asked", async () => {
    const now = await store().transact((tx) => {
      for (let i = 0; i < 25; i++) tx.put(`sweep/${i}`, i, { ttlMs: 1 });
      tx.put("sweep/later", 1, { ttlMs: 600_000 });
      tx.put("sweep/never", 1);
      return tx.now;
    });
    await vi.waitFor(async () => expect(await store().now()).toBeGreaterThan(now + 1), { timeout: 10_000 });
    expect(await store().sweep(10)).toBe(10);
    expect(await store().sweep(100)).toBe(15);
    expect(await store().sweep(100)).toBe(0);
    expect((await store().scan(prefixRange("sweep/", 100))).map(({ key }) => key)).toEqual(["sweep/later", "sweep/never"]);
  });
}

function waking(store: () => Store, place: () => Place): void {
  it("wakes the watchers of a prefix after a commit under it, by this handle and by another", async () => {
    const other = await place().open();
    let woken = 0;
    using _ = store().watch("wake/a/", () => {
      woken += 1;
    });
    for (const writer of [store(), other]) {
      const before = woken;
      await writer.transact((tx) => tx.put("wake/a/b", before));
      await vi.waitFor(() => expect(woken).toBeGreaterThan(before), { timeout: 10_000, interval: 2 });
    }
    const before = woken;
    await other.keyv("wake").set("a/c", 1);
    await vi.waitFor(() => expect(woken).toBeGreaterThan(before), { timeout: 10_000, interval: 2 });
  });

  it("does not wake after the watch was disposed", async () => {
    let woken = 0;
    store()
      .watch("wake/", () => {
        woken += 1;
      })
      [Symbol.dispose]();
    let fence = 0;
    using _ = store().watch("wake/", () => {
      fence += 1;
    });
    await store().transact((tx) => tx.put("wake/a", 1));
    await vi.waitFor(() => expect(fence).toBeGreaterThan(0), { timeout: 10_000, interval: 2 });
    expect(woken).toBe(0);
  });
}

/** Eight processes on one store. */
function processes(place: () => Place, makePlace: () => Promise<Place>): void {
  const PROCESSES = 8;
  const url = (): string => {
    const { url } = place();
    if (url === undefined) throw new Error("this engine has no URL that other processes can open");
    return url;
  };

  describe("with several processes", () => {
    it("loses no increment and doubles none", async () => {
      const done = await runWorkers<number>(url(), "count", PROCESSES, 60);
      const store = await place().open();
      expect((await store.get("race/counter"))?.value).toBe(done.reduce((a, b) => a + b, 0));
    });

    it("keeps the sum of transfers, and no account below zero", async () => {
      const store = await place().open();
      await store.transact((tx) => {
        for (let i = 0; i < 5; i++) tx.put(`account/${i}`, 100);
      });
      await runWorkers(url(), "transfer", PROCESSES, 60);
      const held = (await store.scan(prefixRange("account/", 10))).map(({ value }) => Number(value));
      expect(held.reduce((a, b) => a + b, 0)).toBe(500);
      expect(Math.min(...held)).toBeGreaterThanOrEqual(0);
    });

    it("gives each number of a sequence once", async () => {
      const taken = (await runWorkers<number[]>(url(), "number", PROCESSES, 40)).flat();
      expect(taken.toSorted((a, b) => a - b)).toEqual(Array.from({ length: PROCESSES * 40 }, (_, i) => i + 1));
    });

    it("lets no phantom past a scan: three slots are never held by four", async () => {
      const most = await runWorkers<number>(url(), "slot", PROCESSES, 40);
      expect(Math.max(...most)).toBe(3);
    });

    it("lets each entry of a queue be picked by one", async () => {
      const store = await place().open();
      const queued = Array.from({ length: 400 }, (_, i) => `queue/${String(i).padStart(4, "0")}/x`);
      await store.transact((tx) => {
        for (const key of queued) tx.put(key, 1);
      });
      const taken = (await runWorkers<string[]>(url(), "take", PROCESSES)).flat();
      expect(taken.toSorted()).toEqual(queued);
    });

    it("wakes a waiter in another process for every commit: 500 rounds between two", async () => {
      const store = await place().open();
      await store.transact((tx) => tx.put("race/ball", 0));
      await runWorkers(url(), "pass", 2, 500);
      expect((await store.get("race/ball"))?.value).toBe(1_000);
    });

    it("opens for eight processes at once when it is new, and lets each write", async () => {
      verifies("CORE-08");
      const fresh = await makePlace();
      try {
        await runWorkers(fresh.url ?? "", "open", PROCESSES);
        const store = await fresh.open();
        expect(await store.scan(prefixRange("opened/", 100))).toHaveLength(PROCESSES);
      } finally {
        await fresh.dispose();
      }
    });

    it("serves 32 processes, none of which sees a lock error", async () => {
      verifies("CORE-08");
      await runWorkers(url(), "count", 32, 10);
      const store = await place().open();
      expect((await store.get("race/counter"))?.value).toBe(320);
    });

    it("finds every acknowledged text of processes that are killed, and none that was not kept", async () => {
      verifies("CORE-09");
      const workers = await startWorkers(url(), "texts", 4, 0);
      await vi.waitFor(
        () => {
          for (const { lines } of workers) expect(lines.length).toBeGreaterThan(20);
        },
        { timeout: 30_000, interval: 10 },
      );
      for (const { process } of workers) process.kill("SIGKILL");
      await Promise.allSettled(workers.map(({ answer }) => answer));
      const store = await place().open();
      for (const [index, { lines }] of workers.entries()) {
        const rows = await keysUnder(store, "text/", (key) => key.includes(`-${index}-`));
        expect(await searchAll(store, { text: "killed", scopes: [`worker ${index}`] })).toEqual(rows.toReversed());
        const numbers = new Set(rows.map((key) => Number(key.split("-").at(-1))));
        expect(
          lines
            .slice(0, -1) // the last line may have been cut by the kill
            .map(Number)
            .filter((n) => !numbers.has(n)),
        ).toEqual([]);
      }
    });

    it("keeps every acknowledged write of processes that are killed, and no half of one", async () => {
      verifies("CORE-09");
      const workers = await startWorkers(url(), "pairs", 4, 0);
      await vi.waitFor(
        () => {
          for (const { lines } of workers) expect(lines.length).toBeGreaterThan(20);
        },
        { timeout: 30_000, interval: 10 },
      );
      for (const { process } of workers) process.kill("SIGKILL");
      await Promise.allSettled(workers.map(({ answer }) => answer));
      const store = await place().open();
      for (const [index, { lines }] of workers.entries()) {
        const [left, right] = await Promise.all(["left", "right"].map((side) => sides(store, `${side}/${index}/`)));
        expect(left).toEqual(right);
        // the last line may have been cut by the kill
        const acknowledged = lines.slice(0, -1).map(Number);
        expect(acknowledged.filter((n) => !left?.has(n))).toEqual([]);
      }
      await store.transact((tx) => tx.put("left/after", 1)); // and it goes on
    });
  });
}

/** All numbers under a prefix. */
async function sides(store: Store, prefix: string): Promise<Set<number>> {
  const found = new Set<number>();
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange(prefix, 1_000, after === undefined ? {} : { after }));
    for (const { value } of page) found.add(Number(value));
    if (page.length < 1_000) return found;
    after = page.at(-1)?.key;
  }
}
