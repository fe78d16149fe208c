import { type ManualClock, manualClock, WAIT_MS_MAX } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { beforeEach, describe, expect, test } from "vitest";
import { type Attempt, type WaitOptions, waitFor } from "../src/index.ts";

let clock: ManualClock;
let store: Store;
let attempts: number;
beforeEach(() => {
  clock = manualClock();
  store = new MemoryStore({ clock });
  attempts = 0;
});

const look = async (): Promise<Attempt<string>> => {
  attempts++;
  const entry = await store.get("box/a");
  return entry ? { value: entry.value as string } : {};
};

type Outcome = { value: string | undefined } | { error: unknown } | "waiting";

/** Starts a wait whose outcome can be looked at without awaiting it. */
function waiting(more: Partial<WaitOptions<string>> = {}): { outcome: () => Outcome } {
  let outcome: Outcome = "waiting";
  waitFor({ store, clock, prefixes: ["box/"], attempt: look, waitMs: 10_000, ...more }).then(
    (value) => (outcome = { value }),
    (error) => (outcome = { error }),
  );
  return { outcome: () => outcome };
}

const put = (key: string, value = "here") => store.transact((tx) => tx.put(key, value));

describe("waiting", () => {
  test("a commit under the prefix ends it, others do not", async () => {
    const wait = waiting();
    await clock.advance(5_000);
    await put("other/a");
    await clock.advance(20);
    expect(wait.outcome()).toBe("waiting");
    expect(attempts).toBe(1);
    await put("box/a");
    await clock.advance(20);
    expect(wait.outcome()).toEqual({ value: "here" });
  });

  test("what is committed between the first look and the wait is not missed", async () => {
    const wait = waiting({
      attempt: async () => {
        const found = await look();
        if (attempts === 1) await put("box/a");
        return found;
      },
    });
    await clock.advance(20);
    expect(wait.outcome()).toEqual({ value: "here" });
  });

  test("one wake leads to one more look", async () => {
    const wait = waiting();
    await clock.advance(100);
    await put("box/noise");
    await clock.advance(5_000);
    expect(attempts).toBe(2);
    await put("box/noise");
    await clock.advance(4_000);
    expect(attempts).toBe(3);
    expect(wait.outcome()).toBe("waiting");
  });

  test("the first commit after a quiet while is looked at without a pause, and so is the next after another", async () => {
    const wait = waiting();
    await clock.advance(0);
    for (let n = 1; n <= 3; n++) {
      await clock.advance(1_000);
      await put("box/noise");
      await clock.advance(0);
      expect(attempts).toBe(1 + n);
    }
    await put("box/noise");
    await clock.advance(0);
    expect(attempts).toBe(5);
    await put("box/a");
    await clock.advance(0);
    expect(wait.outcome()).toBe("waiting"); // after two that close together it waits a moment
    await clock.advance(1);
    expect(wait.outcome()).toEqual({ value: "here" });
  });

  test("one that is behind others looks as long after a wake as it said, and once for all wakes meanwhile", async () => {
    const wait = waiting({ attempt: async () => ({ ...(await look()), behindMs: 6 }) as Attempt<string> });
    await clock.advance(1_000);
    await put("box/noise");
    await clock.advance(3);
    await put("box/a");
    await clock.advance(2);
    expect(attempts).toBe(1);
    await clock.advance(1);
    expect(attempts).toBe(2);
    expect(wait.outcome()).toEqual({ value: "here" });
  });

  test("ends without a value when its time is over", async () => {
    const wait = waiting({ waitMs: 3_000 });
    await clock.advance(2_999);
    expect(wait.outcome()).toBe("waiting");
    await clock.advance(1);
    expect(wait.outcome()).toEqual({ value: undefined });
  });

  test("a wait of nothing looks once", async () => {
    expect(await waitFor({ store, clock, prefixes: ["box/"], attempt: look, waitMs: 0 })).toBeUndefined();
    await put("box/a");
    expect(await waitFor({ store, clock, prefixes: ["box/"], attempt: look, waitMs: 0 })).toBe("here");
    expect(attempts).toBe(2);
  });

  test("looks again when something falls due, though nobody commits", async () => {
    const start = clock.now();
    const wait = waiting({
      attempt: async (): Promise<Attempt<string>> =>
        clock.now() >= start + 700 ? { value: "due" } : { againInMs: start + 700 - clock.now() },
    });
    await clock.advance(699);
    expect(wait.outcome()).toBe("waiting");
    await clock.advance(1);
    expect(wait.outcome()).toEqual({ value: "due" });
  });

  test("a flood of commits leads to few looks, one at a time, and the last commit is seen", async () => {
    let under = 0;
    let most = 0;
    const wait = waiting({
      attempt: async () => {
        most = Math.max(most, ++under);
        await new Promise<void>((resolve) => setImmediate(resolve));
        const found = await look();
        under--;
        return found;
      },
    });
    for (let n = 0; n < 100; n++) {
      for (let m = 0; m < 50; m++) await put(`box/noise-${m}`);
      await clock.advance(1);
    }
    expect(most).toBe(1);
    expect(attempts).toBeGreaterThan(5);
    expect(attempts).toBeLessThanOrEqual(15); // the first few close together, then one every 10 ms
    await put("box/a");
    await clock.advance(20);
    expect(wait.outcome()).toEqual({ value: "here" });
  });

  test("a commit in its last moments is not lost to the pause between looks", async () => {
    const wait = waiting({ waitMs: 1_000 });
    await clock.advance(995);
    await put("box/noise");
    await clock.advance(1);
    await put("box/a");
    await clock.advance(4);
    expect(wait.outcome()).toEqual({ value: "here" });
  });

  test("tells of its progress every few seconds", async () => {
    const told: number[] = [];
    waiting({ waitMs: 18_000, onProgress: (waitedMs) => told.push(waitedMs) });
    await clock.advance(60_000);
    expect(told).toEqual([5_000, 10_000, 15_000]);
  });

  test("cancelled, it rejects with the reason and looks no more", async () => {
    const cancel = new AbortController();
    const wait = waiting({ signal: cancel.signal });
    await clock.advance(100);
    cancel.abort(new Error("the host changed its mind"));
    await clock.advance(0);
    expect(wait.outcome()).toMatchObject({ error: { message: "the host changed its mind" } });
    const before = attempts;
    await put("box/a");
    await clock.advance(20_000);
    expect(attempts).toBe(before);
  });

  test("cancelled before it began, it never looks", async () => {
    const wait = waiting({ signal: AbortSignal.abort(new Error("too late")) });
    await clock.advance(0);
    expect(wait.outcome()).toMatchObject({ error: { message: "too late" } });
    expect(attempts).toBe(0);
  });

  test("cancelled while it looks, it awaits that look and gives what it brought", async () => {
    for (const brings of [true, false]) {
      const cancel = new AbortController();
      let letGo = () => {};
      const wait = waiting({
        signal: cancel.signal,
        attempt: async (): Promise<Attempt<string>> => {
          await new Promise<void>((resolve) => (letGo = resolve));
          return brings ? { value: "written" } : {};
        },
      });
      await clock.advance(0);
      cancel.abort(new Error("cancelled"));
      await clock.advance(0);
      expect(wait.outcome()).toBe("waiting");
      letGo();
      await clock.advance(0);
      expect(wait.outcome()).toMatchObject(brings ? { value: "written" } : { error: { message: "cancelled" } });
    }
  });

  test("of several waiting, each commit of one thing serves one", async () => {
    const take = async (): Promise<Attempt<string>> =>
      store.transact((tx) => {
        const [entry] = tx.scan({ from: "box/", before: "box0", limit: 1 });
        if (!entry) return {};
        tx.delete(entry.key);
        return { value: entry.key };
      });
    const waits = Array.from({ length: 5 }, () => waiting({ attempt: take }));
    await clock.advance(100);
    for (let n = 0; n < 3; n++) await put(`box/${n}`);
    await clock.advance(200);
    const values = waits.map(({ outcome }) => outcome()).filter((outcome) => outcome !== "waiting");
    expect(values).toHaveLength(3);
    expect(new Set(values.map((outcome) => JSON.stringify(outcome))).size).toBe(3);
    await clock.advance(10_000);
  });

  test("an attempt's error ends the wait", async () => {
    const wait = waiting({ attempt: () => Promise.reject(new Error("store down")) });
    await clock.advance(0);
    expect(wait.outcome()).toMatchObject({ error: { message: "store down" } });
  });

  test.each([-1, 1.5, Number.NaN, WAIT_MS_MAX + 1])("waitMs %j is refused", async (waitMs) => {
    const wait = waitFor({ store, clock, prefixes: [], attempt: look, waitMs });
    await expect(wait).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("leaves no watch and no timer behind", async () => {
    const open = new Set<object>();
    const kept = (what: Disposable): Disposable => {
      open.add(what);
      return {
        [Symbol.dispose]() {
          open.delete(what);
          what[Symbol.dispose]();
        },
      };
    };
    const timer = (ms: number, fire: () => void) => {
      const made = clock.timer(ms, () => {
        open.delete(made);
        fire();
      });
      return kept(made);
    };
    const wait = waiting({
      store: { watch: (prefix, wake) => kept(store.watch(prefix, wake)) },
      clock: { now: clock.now, timer },
      onProgress: () => {},
      attempt: async () => {
        const found = await look();
        return "value" in found ? found : { againInMs: 50 };
      },
    });
    await clock.advance(6_000);
    expect(open.size).toBeGreaterThanOrEqual(3); // the watch, the end, the progress
    await put("box/a");
    await clock.advance(100);
    expect(wait.outcome()).toEqual({ value: "here" });
    expect(open.size).toBe(0);
  });
});
