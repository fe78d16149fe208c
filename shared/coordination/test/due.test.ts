import { type ManualClock, manualClock, seededRandom } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { DueIndex, dueJob, MAINTENANCE_INTERVAL_MS, Maintenance, type MaintenanceJob } from "../src/index.ts";

let clock: ManualClock;
let store: Store;
let errors: string[];
const index = new DueIndex("delay/");
beforeEach(() => {
  clock = manualClock();
  store = new MemoryStore({ clock });
  errors = [];
});

const maintenance = (seed = 1) =>
  new Maintenance({
    clock,
    random: seededRandom(seed),
    onError: (error, job) => errors.push(`${job}: ${error instanceof Error ? error.message : error}`),
  });

/** A job that counts its runs and always answers the same. */
function counting(name: string, answer: number): MaintenanceJob & { runs: number } {
  return {
    name,
    runs: 0,
    async run() {
      this.runs++;
      return answer;
    },
  };
}

describe("a due index", () => {
  test("gives what is due, in order of time, each once, and nothing early", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.record({ id: fc.stringMatching(/^[A-Za-z0-9._/-]{1,20}$/), inMs: fc.nat(100) }), {
          selector: ({ id }) => id,
        }),
        fc.nat(100),
        fc.integer({ min: 1, max: 5 }),
        async (entries, waitMs, limit) => {
          clock = manualClock();
          store = new MemoryStore({ clock });
          const start = clock.now();
          await store.transact((tx) => {
            for (const { id, inMs } of entries) index.put(tx, start + inMs, id);
          });
          await clock.advance(waitMs);
          const taken: { id: string; dueAt: number }[] = [];
          for (let round = 0; round <= entries.length; round++) {
            taken.push(...(await store.transact((tx) => index.takeDue(tx, tx.now, limit))));
          }
          const due = entries.filter(({ inMs }) => inMs <= waitMs);
          expect(taken.map(({ id }) => id).sort()).toEqual(due.map(({ id }) => id).sort());
          expect(taken.map(({ dueAt }) => dueAt)).toEqual(due.map(({ inMs }) => start + inMs).sort((a, b) => a - b));
          expect(await index.first(store, 100)).toHaveLength(entries.length - due.length);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("an entry that moves is due at its new time only, one that is removed never", async () => {
    const now = clock.now();
    await store.transact((tx) => {
      index.put(tx, now + 1, "a");
      index.put(tx, now + 1, "b");
    });
    await store.transact((tx) => {
      index.move(tx, now + 1, now + 50, "a");
      index.move(tx, now + 50, now + 50, "a");
      index.remove(tx, now + 1, "b");
    });
    expect(await store.transact((tx) => index.due(tx, now + 49, 10))).toEqual([]);
    expect(await store.transact((tx) => index.due(tx, now + 50, 10))).toMatchObject([{ id: "a", dueAt: now + 50 }]);
  });
});

describe("maintenance", () => {
  test("does what falls due within a second of its time, whichever process is there", async () => {
    const done: { id: string; lateMs: number }[] = [];
    const start = clock.now();
    await store.transact((tx) => {
      for (let n = 0; n < 40; n++) index.put(tx, start + n * 137, `job-${n}`);
    });
    const loops = [1, 2, 3, 4].map((seed) => {
      const loop = maintenance(seed);
      const handle: Parameters<typeof dueJob>[0]["handle"] = (tx, { id, dueAt }) => {
        tx.put(`done/${id}`, { lateMs: tx.now - dueAt });
      };
      loop.add(dueJob({ name: "wake", store, index, limit: 3, handle }));
      loop.start();
      return loop;
    });
    await clock.advance(40 * 137 + MAINTENANCE_INTERVAL_MS);
    for (const loop of loops) await loop.stop();
    for (const { key, value } of await store.scan({ from: "done/", before: "done0", limit: 100 })) {
      done.push({ id: key.slice(5), lateMs: (value as { lateMs: number }).lateMs });
    }
    expect(done).toHaveLength(40);
    expect(Math.max(...done.map(({ lateMs }) => lateMs))).toBeLessThanOrEqual(MAINTENANCE_INTERVAL_MS);
    expect(Math.min(...done.map(({ lateMs }) => lateMs))).toBeGreaterThanOrEqual(0);
    expect(errors).toEqual([]);
  });

  test.each([4, 40])("bad records do not hold up the rest, %j at a time, and are tried again later", async (limit) => {
    const start = clock.now();
    let mended = false;
    await store.transact((tx) => {
      for (let n = 0; n < 12; n++) index.put(tx, start + n, n < 6 ? `bad-${n}` : `good-${n}`);
      index.put(tx, start + 90 * MAINTENANCE_INTERVAL_MS, "good-later");
    });
    const loop = maintenance();
    loop.add(
      dueJob({
        name: "wake",
        store,
        index,
        limit,
        handle(tx, { id }) {
          if (id.startsWith("bad") && !mended) throw new Error("its record fails the checksum");
          tx.put(`done/${id}`, true);
        },
      }),
    );
    loop.start();
    await clock.advance(5 * MAINTENANCE_INTERVAL_MS);
    const done = async () => (await store.scan({ from: "done/", before: "done0", limit: 100 })).length;
    expect(await done()).toBe(6);
    expect(await index.first(store, 10)).toHaveLength(7);
    expect(errors[0]).toBe("wake: its record fails the checksum");
    expect(errors.length).toBeLessThan(10);
    mended = true;
    await clock.advance(120 * MAINTENANCE_INTERVAL_MS);
    expect(await done()).toBe(13);
    expect(await index.first(store, 10)).toEqual([]);
    await loop.stop();
  });

  test("sees what others put for a time before its next round", async () => {
    const loop = maintenance();
    const handled: string[] = [];
    loop.add({
      name: "wake",
      async run() {
        const taken = await store.transact((tx) => index.takeDue(tx, tx.now, 10));
        handled.push(...taken.map(({ id }) => id));
        return Number.POSITIVE_INFINITY;
      },
    });
    loop.start();
    await clock.advance(10);
    await store.transact((tx) => index.put(tx, tx.now, "new"));
    await clock.advance(MAINTENANCE_INTERVAL_MS);
    expect(handled).toEqual(["new"]);
    await loop.stop();
  });

  test("idle, it comes about once a second, and processes come at different times", async () => {
    const rounds: number[][] = [1, 2, 3].map((seed) => {
      const at: number[] = [];
      const loop = maintenance(seed);
      loop.add({
        name: "idle",
        async run() {
          at.push(clock.now());
          return Number.POSITIVE_INFINITY;
        },
      });
      loop.start();
      return at;
    });
    await clock.advance(100_000);
    for (const at of rounds) {
      expect(at.length).toBeGreaterThanOrEqual(100);
      expect(at.length).toBeLessThan(140);
    }
    const [one = [], two = []] = rounds;
    expect(one.filter((at) => two.includes(at)).length).toBeLessThan(20);
  });

  test("a failing job is reported with its name, the others run, and it is tried again", async () => {
    const loop = maintenance();
    const good = counting("good", Number.POSITIVE_INFINITY);
    loop.add({ name: "bad", run: () => Promise.reject(new Error("broken")) });
    loop.add(good);
    loop.start();
    await clock.advance(3 * MAINTENANCE_INTERVAL_MS);
    expect(good.runs).toBeGreaterThanOrEqual(3);
    expect(errors).toEqual(Array.from({ length: good.runs }, () => "bad: broken"));
    await loop.stop();
  });

  test("a job with ever more to do runs at once again, but lets others have the store", async () => {
    const loop = maintenance();
    const endless = counting("endless", 0);
    loop.add(endless);
    loop.start();
    await clock.advance(MAINTENANCE_INTERVAL_MS);
    expect(endless.runs).toBeGreaterThan(32);
    expect(endless.runs).toBeLessThan(33 * MAINTENANCE_INTERVAL_MS);
    await loop.stop();
  });

  test("a job that is taken out runs no more, and a stopped loop does nothing more, not even after the round under way", async () => {
    const loop = maintenance();
    const out = counting("out", 0);
    let inside = 0;
    let letGo = () => {};
    const handle = loop.add(out);
    handle[Symbol.dispose]();
    loop.add({
      name: "slow",
      async run() {
        inside++;
        await new Promise<void>((resolve) => (letGo = resolve));
        return 0;
      },
    });
    loop.start();
    await clock.advance(MAINTENANCE_INTERVAL_MS);
    expect(inside).toBe(1);
    let stopped = false;
    const stopping = loop.stop().then(() => (stopped = true));
    await clock.advance(1);
    expect(stopped).toBe(false);
    letGo();
    await stopping;
    await clock.advance(10 * MAINTENANCE_INTERVAL_MS);
    expect([out.runs, inside]).toEqual([0, 1]);
  });
});
