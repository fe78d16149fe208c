import { onceCall } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkFence } from "../src/fence.ts";
import { lockKey } from "../src/lock-layer.ts";
import {
  extend,
  freshLock,
  grant,
  HOLDERS_MAX,
  LOCK_MODES,
  type LockRequest,
  standInLine,
  WAITERS_MAX,
} from "../src/lock-record.ts";
import { LEASE_MS, machine } from "./support/processes.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

const asks = (agentId: string, more: Partial<LockRequest> = {}): LockRequest => ({
  agentId,
  processId: agentId,
  mode: "exclusive",
  ttlMs: 60_000,
  leaseMs: 10_000,
  ...more,
});

describe("the record of a lock", () => {
  test("a lease that ran out is its holder's still unless somebody waits", () => {
    verifies("STATE-08");
    const held = grant(freshLock("x"), asks("a"), 0);
    if (!held) throw new Error("A fresh lock is free");
    const later = { now: 20_000, leaseExpiresAt: 30_000 };
    expect(extend(held.lock, held.holding.token, later)?.holding).toMatchObject({ leaseExpiresAt: 30_000, endsAt: 60_000 });
    const awaited = standInLine(held.lock, asks("b"), { now: 9_000, until: 25_000 }).lock;
    expect(extend(awaited, held.holding.token, later)).toBeUndefined();
    expect(extend(held.lock, held.holding.token, { now: 60_000, leaseExpiresAt: 70_000 })).toBeUndefined();
  });

  test("so many share it, and so many wait, and no more", () => {
    verifies("STATE-08");
    let lock = freshLock("x");
    for (let number = 0; number < HOLDERS_MAX; number++) {
      lock = grant(lock, asks(`a${number}`, { mode: "shared" }), 0)?.lock ?? lock;
    }
    expect(lock.holders).toHaveLength(HOLDERS_MAX);
    expect(grant(lock, asks("one-more", { mode: "shared" }), 0)).toBeUndefined();
    for (let number = 0; number < WAITERS_MAX; number++) lock = standInLine(lock, asks(`w${number}`), { now: 0, until: 9 }).lock;
    expect(() => standInLine(lock, asks("one-more"), { now: 0, until: 9 })).toThrow(code("limit_exceeded"));
    expect(Buffer.byteLength(JSON.stringify(lock))).toBeLessThan(100_000);
    expect(standInLine(lock, asks("later"), { now: 9, until: 20 }).lock.waiters).toHaveLength(1);
  });
});

describe("locks", () => {
  test("a lock granted to a cancelled call stays when a later call of its agent was answered with it", async () => {
    verifies("STATE-08", "CORE-10");
    const { process, pass } = machine();
    const ann = process("ann");
    const abort = new AbortController();
    const cancelled = ann.locks
      .acquire(ann.call, { name: "deploy" }, { waitMs: 1_000, signal: abort.signal })
      .catch((error: unknown) => error);
    const again = ann.locks.acquire(ann.call, { name: "deploy" });
    abort.abort(new Error("nobody waits for this"));
    expect(await cancelled).toMatchObject({ message: "nobody waits for this" });
    const { lock, alreadyHeld } = await again;
    expect(alreadyHeld).toBe(true);
    await pass(LEASE_MS * 2);
    expect((await ann.locks.release(ann.call, { name: "deploy", fencingToken: lock.fencingToken })).lock).toMatchObject({
      fencingToken: 1,
    });
  });

  test("a lock that is granted just as its call is cancelled is given back at once", async () => {
    verifies("STATE-08", "CORE-10");
    const { process, store } = machine();
    const [one, other] = [process("one"), process("other")];
    const abort = new AbortController();
    const { call } = one;
    const cancelledMeanwhile = {
      ...call,
      transact: async (...given: Parameters<typeof call.transact>) => {
        const outcome = await call.transact(...given);
        abort.abort(new Error("nobody waits for this"));
        return outcome;
      },
    } as typeof call;
    const acquiring = one.locks.acquire(cancelledMeanwhile, { name: "deploy" }, { waitMs: 1_000, signal: abort.signal });
    await expect(acquiring).rejects.toThrow("nobody waits for this");
    expect(one.locks.held()).toEqual([]);
    expect((await other.locks.acquire(other.call, { name: "deploy" })).lock).toMatchObject({ fencingToken: 2 });
    await expect(store.transact((tx) => checkFence(tx, { lock: "deploy", fencingToken: 1 }, "one"))).rejects.toEqual(
      code("failed_precondition"),
    );
  });

  test("the same agent in another process is another holder: what it holds there it gives back by its token", async () => {
    verifies("STATE-08");
    const { process } = machine();
    const [first, second, stranger] = [process("ann"), process("ann"), process("ben")];
    await first.locks.acquire(first.call, { name: "deploy" });
    await expect(second.locks.acquire(second.call, { name: "deploy" })).rejects.toEqual(
      code("conflict", /you, through another process/),
    );
    await expect(second.locks.release(second.call, { name: "deploy" })).rejects.toEqual(
      expect.objectContaining({ code: "failed_precondition", hint: expect.stringContaining("fencingToken") }),
    );
    await expect(stranger.locks.release(stranger.call, { name: "deploy", fencingToken: 1 })).rejects.toEqual(
      code("failed_precondition", /ann holds it/),
    );
    await second.locks.release(second.call, { name: "deploy", fencingToken: 1 });
    expect((await stranger.locks.acquire(stranger.call, { name: "deploy" })).lock.fencingToken).toBe(2);
  });

  test("an agent locks for its subagents and no one else, and writes with their tokens", async () => {
    verifies("STATE-08", "STATE-09");
    const { process, store } = machine();
    const ann = process("ann");
    const { lock } = await ann.locks.acquire(ann.call, { name: "deploy", agentId: "left" });
    expect(lock.agentId).toBe("ann/left");
    await expect(ann.locks.acquire(ann.call, { name: "deploy", agentId: "right" })).rejects.toEqual(
      code("conflict", /ann\/left/),
    );
    await expect(ann.locks.acquire(ann.call, { name: "deploy", agentId: "ben/left" })).rejects.toEqual(code("permission_denied"));
    const fence = { lock: "deploy", fencingToken: lock.fencingToken };
    await store.transact((tx) => checkFence(tx, fence, "ann"));
    await store.transact((tx) => checkFence(tx, fence, "ann/left"));
    for (const other of ["ann/right", "an", "ben"]) {
      await expect(store.transact((tx) => checkFence(tx, fence, other))).rejects.toEqual(
        code("failed_precondition", /another agent/),
      );
    }
    await ann.locks.release(ann.call, { name: "deploy", agentId: "left" });
  });

  test("a name that is none is refused wherever it is given, and so are those of leaders", async () => {
    verifies("STATE-08", "CORE-05");
    const { process, store } = machine();
    const ann = process("ann");
    for (const name of ["", "-x", "a b", "ä", "x".repeat(65), "leader:builds"]) {
      await expect(ann.locks.acquire(ann.call, { name })).rejects.toEqual(code("invalid_argument", /name/));
      await expect(ann.locks.release(ann.call, { name })).rejects.toEqual(code("invalid_argument", /name/));
    }
    for (const lock of ["a b", "leader:", "leader:a b"]) {
      await expect(store.transact((tx) => checkFence(tx, { lock, fencingToken: 1 }, "ann"))).rejects.toEqual(
        code("invalid_argument"),
      );
    }
    for (const mode of LOCK_MODES) await ann.locks.acquire(ann.call, { name: `a/b:c.d-e_${mode}`, mode });
  });

  test("the list shows what is held or waited for, by prefix and holder, page by page", async () => {
    verifies("STATE-08", "CORE-11");
    const { process, pass } = machine();
    const [ann, ben] = [process("ann"), process("ben")];
    for (let number = 0; number < 7; number++) await ann.locks.acquire(ann.call, { name: `build/${number}` });
    await ben.locks.acquire(ben.call, { name: "build-all" });
    await ben.locks.acquire(ben.call, { name: "zoo", mode: "shared" });
    await ann.locks.release(ann.call, { name: "build/3" });
    const waiting = ben.locks.acquire(ben.call, { name: "build/5" }, { waitMs: 1_000 }).catch((error: unknown) => error);
    await pass(0);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await ann.locks.list(ann.call, { prefix: "build/", limit: 2, cursor });
      expect(page.locks.length).toBeLessThanOrEqual(2);
      seen.push(...page.locks.map(({ name, waiting, next }) => `${name} ${waiting}${next}`));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    expect(seen).toEqual(["build/0 0", "build/1 0", "build/2 0", "build/4 0", "build/5 1ben", "build/6 0"]);
    expect((await ann.locks.list(ann.call, { holder: "ben" })).locks.map(({ name, mode }) => [name, mode])).toEqual([
      ["build-all", "exclusive"],
      ["zoo", "shared"],
    ]);
    await expect(ann.locks.list(ann.call, { cursor: "bm9uZQ" })).rejects.toEqual(code("invalid_argument"));
    await pass(1_000);
    expect(await waiting).toEqual(code("conflict", /ann holds it exclusive/));
  });

  test("what dead processes held leaves the list at once, and its rows go soon; the token stays", async () => {
    verifies("STATE-08");
    const { process, store, pass } = machine();
    const [dead, live] = [process("dead"), process("live")];
    await dead.locks.acquire(dead.call, { name: "deploy" });
    dead.kill();
    await pass(LEASE_MS);
    expect(await live.locks.list(live.call)).toEqual({ locks: [] });
    expect(await store.scan(prefixRange("lock/busy/", 10))).toHaveLength(1);
    await pass(130_000);
    expect(await store.scan(prefixRange("lock/busy/", 10))).toEqual([]);
    expect((await store.get(lockKey("deploy")))?.value).toMatchObject({ token: 1, holders: [], waiters: [] });
    expect((await live.locks.acquire(live.call, { name: "deploy" })).lock.fencingToken).toBe(2);
  });

  test("a call that is repeated with its idempotency key gets the first holding, even one that is over, and renews nothing of it", async () => {
    verifies("STATE-08", "CORE-12");
    const { process, pass } = machine();
    const ann = process("ann");
    const once = () => onceCall(ann.call, { key: "once", fingerprint: "acquire deploy" });
    await ann.locks.acquire(once(), { name: "deploy" });
    await ann.locks.release(ann.call, { name: "deploy" });
    expect((await ann.locks.acquire(once(), { name: "deploy" })).lock.fencingToken).toBe(1);
    await pass(LEASE_MS);
    expect(ann.locks.held()).toEqual([]);
    const ben = process("ben");
    expect((await ben.locks.acquire(ben.call, { name: "deploy" })).lock.fencingToken).toBe(2);
  });
});
