import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IDEMPOTENCY_TTL_MS, type Json, type ManualClock, manualClock, SwarmError } from "@mcp-swarm/core";
import { openStore, type Store, type Transaction } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type Caller, fingerprintOf, IDEMPOTENCY_KEY_MAX, onceCall } from "../src/index.ts";

let clock: ManualClock;
let store: Store;
beforeEach(() => {
  clock = manualClock();
  store = new MemoryStore({ clock });
});

const caller = (agentId: string): Caller => ({ agentId, verified: false, processId: "process-1" });
const once = (key: string, input: Json = { a: 1 }) => ({ key, fingerprint: fingerprintOf("add", input) });

/** Adds one and answers the sum: every execution shows. */
const add = (tx: Transaction) => {
  const sum = ((tx.get("sum/x")?.value as number | undefined) ?? 0) + 1;
  tx.put("sum/x", sum);
  return { sum };
};
const sum = async () => (await store.get("sum/x"))?.value;

describe("a call with an idempotency key", () => {
  test("repeated, answers the first outcome and changes nothing more", async () => {
    verifies("CORE-12");
    const ann = { store, caller: caller("ann") };
    expect(await onceCall(ann, once("k")).transact(add)).toEqual({ sum: 1 });
    await onceCall(ann, undefined).transact(add);
    for (let n = 0; n < 3; n++) expect(await onceCall(ann, once("k")).transact(add)).toEqual({ sum: 1 });
    expect(await sum()).toBe(2);
  });

  test("is remembered for a day and then new", async () => {
    const ann = { store, caller: caller("ann") };
    await onceCall(ann, once("k")).transact(add);
    await clock.advance(IDEMPOTENCY_TTL_MS - 1);
    expect(await onceCall(ann, once("k")).transact(add)).toEqual({ sum: 1 });
    await clock.advance(1);
    expect(await onceCall(ann, once("k")).transact(add)).toEqual({ sum: 2 });
  });

  test("belongs to its agent and its key alone", async () => {
    for (const agent of ["ann", "ann/sub", "ben"]) {
      for (const key of ["k", "K", "k/1", "é", "x".repeat(IDEMPOTENCY_KEY_MAX), `${"x".repeat(IDEMPOTENCY_KEY_MAX - 1)}y`]) {
        await onceCall({ store, caller: caller(agent) }, once(key)).transact(add);
      }
    }
    expect(await sum()).toBe(18);
  });

  test("used for another call is refused, and nothing changes", async () => {
    const ann = { store, caller: caller("ann") };
    await onceCall(ann, once("k")).transact(add);
    await expect(onceCall(ann, once("k", { a: 2 })).transact(add)).rejects.toMatchObject({ code: "invalid_argument" });
    expect(await sum()).toBe(1);
  });

  test("whose answer was lost after the commit gets that answer when it is repeated", async () => {
    const crashing = new Proxy(store, {
      get(target, name) {
        if (name !== "transact") return Reflect.get(target, name, target);
        return async <T>(plan: (tx: Transaction) => T) => {
          await target.transact(plan);
          throw new SwarmError("unavailable", "The connection was lost.");
        };
      },
    });
    await expect(onceCall({ store: crashing, caller: caller("ann") }, once("k")).transact(add)).rejects.toMatchObject({
      code: "unavailable",
    });
    expect(await onceCall({ store, caller: caller("ann") }, once("k")).transact(add)).toEqual({ sum: 1 });
    expect(await sum()).toBe(1);
  });

  test("made twice at once executes once", async () => {
    const ann = { store, caller: caller("ann") };
    const answers = await Promise.all(Array.from({ length: 8 }, () => onceCall(ann, once("k")).transact(add)));
    expect(new Set(answers.map((answer) => answer.sum))).toEqual(new Set([1]));
    expect(await sum()).toBe(1);
  });

  test("made at once through two connections to one SQLite file executes once", async () => {
    const folder = await mkdtemp(join(tmpdir(), "idempotency-"));
    try {
      const url = `sqlite:${join(folder, "swarm.db")}`;
      const stores = [await openStore(url), await openStore(url)];
      const call = (n: number) => onceCall({ store: stores[n % 2] as Store, caller: caller("ann") }, once(`k${n % 5}`));
      const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => call(n).transact(add)));
      for (const [n, answer] of answers.entries()) expect(answer).toEqual(answers[n % 5]);
      expect((await stores[0]?.get("sum/x"))?.value).toBe(5);
      for (const one of stores) await one.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("an engine that runs the plan again still records what the last run did", async () => {
    const twice = new Proxy(store, {
      get(target, name) {
        if (name !== "transact") return Reflect.get(target, name, target);
        return async <T>(plan: (tx: Transaction) => T) => {
          await target
            .transact((tx) => {
              plan(tx);
              throw new Error("conflict: again");
            })
            .catch(() => undefined);
          return target.transact(plan);
        };
      },
    });
    const call = () => onceCall({ store: twice, caller: caller("ann") }, once("k"));
    expect(await call().transact(add)).toEqual({ sum: 1 });
    expect(await call().transact(add)).toEqual({ sum: 1 });
    expect(await sum()).toBe(1);
  });

  test("that wrote nothing or failed is not remembered and may be tried again, even by the same call", async () => {
    const call = onceCall({ store, caller: caller("ann") }, once("k"));
    expect(await call.transact((tx) => tx.get("sum/x")?.value ?? null)).toBeNull();
    const failing = call.transact((tx) => {
      tx.put("sum/x", 100);
      throw new SwarmError("conflict", "Lost a race.");
    });
    await expect(failing).rejects.toMatchObject({ code: "conflict" });
    expect(await call.transact(add)).toEqual({ sum: 1 });
  });

  test("an operation that decides twice is a mistake of ours and is told so", async () => {
    const call = onceCall({ store, caller: caller("ann") }, once("k"));
    await call.transact(add);
    await expect(call.transact(add)).rejects.toMatchObject({ code: "internal" });
    expect(await sum()).toBe(1);
  });

  test.each(["", "x".repeat(IDEMPOTENCY_KEY_MAX + 1)])("a key of a wrong length is refused", (key) => {
    expect(() => onceCall({ store, caller: caller("ann") }, once(key))).toThrow(
      expect.objectContaining({ code: "invalid_argument" }),
    );
  });
});

describe("a fingerprint", () => {
  const shuffled = (value: unknown): Json => {
    if (Array.isArray(value)) return value.map(shuffled);
    if (value === null || typeof value !== "object") return value as Json;
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([name, member]) => [name, shuffled(member)]),
    );
  };

  test("does not depend on the order of members, nor on members that are not there", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        const input = value as Json;
        expect(fingerprintOf("t", shuffled(input))).toBe(fingerprintOf("t", input));
      }),
    );
    expect(fingerprintOf("t", { a: 1, b: undefined })).toBe(fingerprintOf("t", { a: 1 }));
  });

  test("tells tools and inputs apart", () => {
    const inputs: Json[] = [{}, [], "", "{}", null, 0, false, { a: [] }, { a: {} }, { a: "1" }, { a: 1 }, ["a", 1], [["a"], 1]];
    const all = inputs.flatMap((input) => [fingerprintOf("t", input), fingerprintOf("u", input)]);
    expect(new Set(all).size).toBe(all.length);
  });

  test("of an input nested too deeply is refused", () => {
    let deep: Json = 1;
    for (let n = 0; n < 10_000; n++) deep = [deep];
    expect(() => fingerprintOf("t", deep)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });
});
