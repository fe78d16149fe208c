/** What one call after the other does to values. Random programs of many calls are in state-model.test.ts. */
import { type Json, VALUE_BYTES_MAX } from "@mcp-swarm/core";
import { onceCall } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { CONFLICT_MODES } from "../src/conflict.ts";
import { keys } from "../src/state-layer.ts";
import { HISTORY_MAX, INLINE_BYTES_MAX, STATE_KEY_MAX } from "../src/state-record.ts";
import { stateSweepers } from "../src/state-retention.ts";
import { type Host, KEEP_DELETED_MS, swarm } from "./support/state.ts";

const GLOBAL = { scope: "global" } as const;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "no error",
    (error: { code?: string }) => error.code ?? String(error),
  );
}

const value = async ({ values, call }: Host, key: string, atRev?: number) => (await values.get(call, { key, atRev })).value;

/** Every row whose key has one of these beginnings. */
async function rows(host: Host, namespaces: readonly string[]): Promise<string[]> {
  const found = await Promise.all(namespaces.map((namespace) => host.call.store.scan(prefixRange(`${namespace}/`, 1_000))));
  return found.flat().map(({ key }) => key);
}

describe("a value", () => {
  test("is read by others as it was set, with its revision, version and author", async () => {
    verifies("STATE-01");
    const { host, clock } = swarm();
    const [a, b] = [host("a"), host("b")];
    const { entry } = await a.values.set(a.call, { key: "build/status", value: { ok: [1, null, "x"] } });
    expect(entry).toEqual({
      key: "build/status",
      scope: "global",
      rev: 1,
      createdRev: 1,
      version: 1,
      size: 19,
      by: "a",
      verified: false,
      at: clock.now(),
    });
    await a.values.set(a.call, { key: "other", value: 1 });
    await b.values.set(b.call, { key: "build/status", value: false });
    const read = await a.values.get(a.call, { key: "build/status" });
    expect(read).toMatchObject({ value: false, entry: { rev: 3, createdRev: 1, version: 2, by: "b" } });
    expect(await codeOf(a.values.get(a.call, { key: "none" }))).toBe("not_found");
  });

  test("may be any JSON of up to 1 MiB, and short and long ones keep their histories alike", async () => {
    verifies("STATE-01", "STATE-07", "STATE-15");
    const host = swarm().host("a");
    const { values, call } = host;
    const given: Json[] = [
      null,
      0,
      "",
      [],
      {},
      "x".repeat(INLINE_BYTES_MAX - 2),
      "x".repeat(INLINE_BYTES_MAX - 1),
      ["y".repeat(100_000)],
    ];
    given.push("z".repeat(VALUE_BYTES_MAX - 2), { refs: ["no/key", "state/g/k"], value: 1, op: "delete" }, [":a", ":"]);
    for (const one of given) await values.set(call, { key: "k", value: one });
    expect(await value(host, "k")).toEqual(given.at(-1));
    for (const [index, one] of given.entries()) expect(await value(host, "k", index + 1)).toEqual(one);
    expect(await codeOf(values.set(call, { key: "k", value: "z".repeat(VALUE_BYTES_MAX - 1) }))).toBe("limit_exceeded");
    expect(await rows(host, ["state-long"])).toHaveLength(3);
  });

  test("is found by the key it was set under, however long or odd", async () => {
    verifies("STATE-01");
    const host = swarm().host("a");
    const odd = ["a", "a/b", "a/0000000000000001", "A", "__proto__", "constructor", "a@b:c/d.e-f_g", "k".repeat(STATE_KEY_MAX)];
    const longest = `workflow/${"w".repeat(54)}`.replace("/", "-");
    for (const scopeId of [undefined, longest]) {
      const space = scopeId === undefined ? GLOBAL : ({ scope: "workflow", scopeId } as const);
      for (const [index, key] of odd.entries()) {
        await host.values.set(host.call, { key, ...space, value: "x".repeat(5_000) });
        await host.values.set(host.call, { key, ...space, value: index });
      }
      const { entries } = await host.values.list(host.call, space);
      expect(entries.map(({ entry }) => entry.key)).toEqual(odd.toSorted());
      for (const key of odd) expect((await host.values.history(host.call, { key, ...space })).revisions).toHaveLength(2);
    }
    for (const key of ["", "/a", "a/", "a b", "ä", "a!b", "a\0", "k".repeat(STATE_KEY_MAX + 1), "a\n"]) {
      expect(await codeOf(host.values.set(host.call, { key, value: 1 })), key).toBe("invalid_argument");
    }
  });

  test("ends by itself, at once for readers, and as a change of its own for those who wait", async () => {
    verifies("STATE-01", "STATE-05");
    const { host, clock } = swarm();
    const a = host("a");
    const { values, changes, call } = a;
    const { entry } = await values.set(call, { key: "k", value: 1, ttlMs: 1_000 });
    expect(entry.expiresAt).toBe(clock.now() + 1_000);
    await values.patch(call, { key: "k", increment: 1 }); // goes on with the time it had
    await clock.advance(999);
    expect(await value(a, "k")).toBe(2);
    await clock.advance(1);
    expect(await codeOf(values.get(call, { key: "k" }))).toBe("not_found");
    expect((await values.list(call, {})).entries).toEqual([]);
    expect(await value(a, "k", 2)).toBe(2);
    await a.maintain();
    await a.maintain();
    const seen = await changes.wait(call, { sinceRev: 2 });
    expect(seen).toMatchObject({ revision: 3, changes: [{ key: "k", op: "expire", rev: 3, by: "a", before: { value: 2 } }] });
    // set anew without a time of its own, it stays
    await values.set(call, { key: "k", value: 3, ttlMs: 1_000 });
    await values.set(call, { key: "k", value: 4 });
    await clock.advance(10_000);
    await a.maintain();
    expect(await value(a, "k")).toBe(4);
  });

  test("that is over but still stands there ends first, at a revision of its own, when it is written again", async () => {
    verifies("STATE-01", "STATE-05");
    const { host, clock } = swarm();
    const [a, b] = [host("a"), host("b")];
    await a.values.set(a.call, { key: "k", value: 1, ttlMs: 1_000 });
    await clock.advance(2_000);
    const { entry } = await b.values.set(b.call, { key: "k", value: 2, ifRev: 0 });
    expect(entry).toMatchObject({ rev: 3, createdRev: 3, version: 1 });
    const { changes } = await a.changes.wait(a.call, { sinceRev: 0 });
    expect(changes.map(({ rev, op, by }) => [rev, op, by])).toEqual([
      [1, "set", "a"],
      [2, "expire", "a"],
      [3, "set", "b"],
    ]);
    await clock.advance(1);
    await a.maintain();
    expect(await value(a, "k")).toBe(2);
  });
});

describe("a conflict", () => {
  test("is refused with the current revision when the writer names another", async () => {
    verifies("STATE-02");
    const host = swarm().host("a");
    const { values, call } = host;
    await values.set(call, { key: "k", value: 1, ifRev: 0 });
    await values.set(call, { key: "k", value: 2, ifRev: 1 });
    await expect(values.set(call, { key: "k", value: 3, ifRev: 1 })).rejects.toMatchObject({
      code: "conflict",
      message: "Key k of global is at revision 2; ifRev was 1.",
      retryable: false,
    });
    expect(await codeOf(values.set(call, { key: "k", value: 3, ifRev: 0 }))).toBe("conflict");
    expect(await codeOf(values.set(call, { key: "new", value: 3, ifRev: 7 }))).toBe("conflict");
    expect(await codeOf(values.set(call, { key: "k", value: 3, onConflict: "reject" }))).toBe("failed_precondition");
    expect(await codeOf(values.delete(call, { key: "k", ifRev: 1 }))).toBe("conflict");
    expect(await codeOf(values.patch(call, { key: "k", increment: 1, ifRev: 1 }))).toBe("conflict");
    expect(await codeOf(values.restore(call, { key: "k", rev: 1, ifRev: 1 }))).toBe("conflict");
    expect(await value(host, "k")).toBe(2);
  });

  test("ends as the writer chooses: overwritten, or merged into what is there", async () => {
    verifies("STATE-02");
    const host = swarm().host("a");
    const { values, call } = host;
    await values.set(call, { key: "k", value: { a: 1, b: { c: 1 } } });
    await values.set(call, { key: "k", value: { a: 2, b: { c: 1 } } });
    const merge = (value: Json, ifRev?: number) => values.set(call, { key: "k", value, ifRev, onConflict: "merge" });
    expect((await merge({ b: { d: 1 }, a: null }, 1)).outcome).toBe("merged");
    expect(await value(host, "k")).toEqual({ b: { c: 1, d: 1 } });
    expect((await merge({ e: 1 }, 3)).outcome).toBe("written"); // nobody was in between
    expect(await value(host, "k")).toEqual({ e: 1 });
    expect((await merge({ f: 1 })).outcome).toBe("merged");
    expect(await value(host, "k")).toEqual({ e: 1, f: 1 });
    const overwrite = await values.set(call, { key: "k", value: 0, ifRev: 1, onConflict: "overwrite" });
    expect(overwrite.outcome).toBe("overwrote");
    expect((await values.set(call, { key: "k", value: 1 })).outcome).toBe("written");
  });

  test("ends as the policy of the key says, the longest prefix first, when the writer says nothing", async () => {
    verifies("STATE-02");
    const host = swarm().host("a");
    const { values, call } = host;
    await values.setPolicy(call, { prefix: "", onConflict: "merge" });
    await values.setPolicy(call, { prefix: "plan/", onConflict: "reject" });
    const { policies } = await values.setPolicy(call, { key: "plan/notes", onConflict: "overwrite" });
    expect(policies).toHaveLength(3);
    await values.set(call, { key: "any", value: { a: 1 } });
    await values.set(call, { key: "any", value: { b: 1 } });
    expect(await value(host, "any")).toEqual({ a: 1, b: 1 });
    for (const onConflict of [undefined, ...CONFLICT_MODES]) {
      expect(await codeOf(values.set(call, { key: "plan/a", value: 1, onConflict })), onConflict).toBe("failed_precondition");
    }
    await values.set(call, { key: "plan/a", value: [1], ifRev: 0 });
    expect(await codeOf(values.patch(call, { key: "plan/a", append: 2 }))).toBe("failed_precondition");
    expect(await codeOf(values.delete(call, { key: "plan/a" }))).toBe("failed_precondition");
    expect(await codeOf(values.transact(call, { writes: [{ key: "plan/a", value: 1 }] }))).toBe("failed_precondition");
    const { entry } = await values.patch(call, { key: "plan/a", append: 2, ifRev: 3 });
    await values.transact(call, { checks: [{ key: "plan/a", ifRev: entry.rev }], writes: [{ key: "plan/a", append: 3 }] });
    expect(await value(host, "plan/a")).toEqual([1, 2, 3]);
    await values.set(call, { key: "plan/notes", value: { a: 1 } });
    await values.set(call, { key: "plan/notes", value: { b: 1 } });
    expect(await value(host, "plan/notes")).toEqual({ b: 1 });
    await values.setPolicy(call, { prefix: "plan/" });
    await values.set(call, { key: "plan/a", value: { c: 1 }, ifRev: undefined });
    expect((await values.list(call, {})).policies.map(({ pattern }) => pattern)).toEqual(["", "plan/notes"]);
  });
});

describe("scopes", () => {
  test("keep the same key apart, and default to the caller's own", async () => {
    verifies("STATE-01");
    const { host } = swarm();
    const a = host("a", { session: "claude-1" });
    const beside = host("b", { session: "claude-1" });
    const remote = host("r", { session: "claude-1", remote: true });
    for (const input of [{}, { scope: "session" }, { scope: "agent" }, { scope: "workflow", scopeId: "w" }] as const) {
      await a.values.set(a.call, { key: "k", ...input, value: input });
    }
    const read = async (by: Host, input: object) => await codeOf(by.values.get(by.call, { key: "k", ...input }));
    expect((await beside.values.get(beside.call, { key: "k", scope: "session" })).entry.scopeId).toBe("claude-1");
    expect(await read(remote, { scope: "session" })).toBe("not_found"); // it shares the process with others, not the session
    expect(await read(remote, { scope: "session", scopeId: "claude-1" })).toBe("no error");
    expect(await read(beside, { scope: "agent" })).toBe("not_found");
    expect((await beside.values.get(beside.call, { key: "k", scope: "agent", scopeId: "a" })).value).toEqual({ scope: "agent" });
    expect(await read(beside, { scope: "workflow" })).toBe("invalid_argument");
    expect(await read(beside, { scope: "global", scopeId: "a" })).toBe("invalid_argument");
    for (const input of [{}, { scope: "session" }, { scope: "agent" }, { scope: "workflow", scopeId: "w" }] as const) {
      expect((await a.values.list(a.call, input)).revision).toBe(1);
    }
  });

  test("let an agent write its own values and its subagents' only", async () => {
    verifies("STATE-01");
    const { host } = swarm();
    const [a, child] = [host("a"), host("a/child")];
    await a.values.set(a.call, { key: "k", scope: "agent", scopeId: "a/child", value: 1 });
    expect((await child.values.get(child.call, { key: "k", scope: "agent" })).value).toBe(1);
    for (const scopeId of ["a", "b", "a/other", "ab"]) {
      const place = { key: "k", scope: "agent", scopeId } as const;
      for (const write of [
        child.values.set(child.call, { ...place, value: 2 }),
        child.values.patch(child.call, { ...place, increment: 2 }),
        child.values.delete(child.call, place),
        child.values.transact(child.call, { writes: [{ ...place, value: 2 }] }),
        child.values.setPolicy(child.call, { scope: "agent", scopeId, onConflict: "merge", prefix: "" }),
      ]) {
        expect(await codeOf(write)).toBe("permission_denied");
      }
    }
  });
});

describe("a transaction", () => {
  test("writes all or nothing, at one revision, and names the check that failed", async () => {
    verifies("STATE-04");
    const host = swarm().host("a");
    const { values, call } = host;
    await values.set(call, { key: "stock", value: 2 });
    await values.set(call, { key: "gone", value: 2 });
    const take = {
      checks: [
        { key: "stock", equals: 2 },
        { key: "order/1", exists: false },
        { key: "gone", ifRev: 2 },
      ],
      writes: [
        { key: "stock", increment: -1 },
        { key: "order/1", value: { of: "stock" }, ttlMs: 5_000 },
        { key: "gone", delete: true as const },
        { key: "log", scope: "agent" as const, append: "order/1" },
      ],
    };
    const { entries } = await values.transact(call, take);
    expect(entries.map(({ key, rev }) => [key, rev])).toEqual([
      ["stock", 3],
      ["order/1", 3],
      ["gone", 3],
      ["log", 1],
    ]);
    expect(await value(host, "stock")).toBe(1);
    await expect(values.transact(call, take)).rejects.toMatchObject({
      code: "conflict",
      message: "checks[0] failed, so nothing was written: Key stock of global has another value, of revision 3.",
    });
    await expect(values.transact(call, { ...take, checks: take.checks.slice(1) })).rejects.toMatchObject({
      message: "checks[0] failed, so nothing was written: Key order/1 of global has a value, of revision 3.",
    });
    const broken = {
      writes: [
        { key: "new", value: 1 },
        { key: "order/1", increment: 1 },
      ],
    };
    expect(await codeOf(values.transact(call, broken))).toBe("failed_precondition");
    expect(await codeOf(values.get(call, { key: "new" }))).toBe("not_found");
    expect((await values.list(call, {})).revision).toBe(3);
  });

  test("is refused when it is not plain what it says", async () => {
    verifies("STATE-04");
    const { values, call } = swarm().host("a");
    const write = { key: "k", value: 1 };
    for (const input of [
      { writes: [write, write] },
      { writes: [{ key: "k" }] },
      { writes: [{ key: "k", value: 1, delete: true as const }] },
      { writes: [{ key: "k", value: 1, increment: 1 }] },
      { writes: [{ key: "k", increment: 1, ttlMs: 5 }] },
      { writes: [{ key: "a b", value: 1 }] },
      { writes: [write], checks: [{ key: "k" }] },
      { writes: [write], checks: [{ key: "k", exists: true, ifRev: 1 }] },
      {
        writes: Array.from({ length: 60 }, (_, at) => ({ key: `w${at}`, value: 1 })),
        checks: Array.from({ length: 41 }, (_, at) => ({ key: `c${at}`, ifRev: 0 })),
      },
    ]) {
      expect(await codeOf(values.transact(call, input)), JSON.stringify(input).slice(0, 80)).toBe("invalid_argument");
    }
    const hundred = Array.from({ length: 100 }, (_, at) => ({ key: `w${at}`, value: 1 }));
    await values.transact(call, { writes: hundred, checks: hundred.map(({ key }) => ({ key, exists: false })) });
    expect((await values.list(call, { limit: 200 })).entries).toHaveLength(100);
  });
});

describe("history", () => {
  test("keeps the last revisions with who and when, and one can be restored as a new revision", async () => {
    verifies("STATE-07");
    const { host } = swarm();
    const [a, b] = [host("a"), host("b")];
    for (let at = 1; at <= HISTORY_MAX + 5; at++) {
      const { values, call } = at % 2 ? a : b;
      await values.set(call, { key: "k", value: "x".repeat(at % 3 ? at : 5_000 + at) });
    }
    const { revisions, olderDropped } = await a.values.history(a.call, { key: "k" });
    expect(revisions.map(({ rev }) => rev)).toEqual(Array.from({ length: HISTORY_MAX + 1 }, (_, at) => HISTORY_MAX + 5 - at));
    expect(revisions.map(({ by }) => by).slice(0, 2)).toEqual(["a", "b"]);
    expect(olderDropped).toBe(true);
    expect(await codeOf(a.values.get(a.call, { key: "k", atRev: 4 }))).toBe("failed_precondition");
    expect(await value(a, "k", 6)).toHaveLength(5_006);
    expect(await codeOf(a.values.get(a.call, { key: "k", atRev: 26 }))).toBe("invalid_argument");
    // no row of what fell out is left
    const kept = await rows(a, ["state-hist", "state-long"]);
    expect(kept.filter((key) => key.startsWith("state-hist"))).toHaveLength(HISTORY_MAX);
    expect(kept.filter((key) => key.startsWith("state-long"))).toHaveLength(revisions.filter(({ rev }) => rev % 3 === 0).length);
    const restored = await b.values.restore(b.call, { key: "k", rev: 6, ifRev: 25 });
    expect(restored).toMatchObject({ restoredRev: 6, entry: { rev: 26, by: "b", version: 26 } });
    expect(await value(a, "k")).toBe(await value(a, "k", 26));
    expect(await value(a, "k")).toHaveLength(5_006);
  });

  test("outlives a deletion for a while, and revisions never begin again", async () => {
    verifies("STATE-07");
    const { host, clock } = swarm();
    const a = host("a");
    const { values, call } = a;
    await values.set(call, { key: "k", value: "first" });
    await values.set(call, { key: "k", value: "y".repeat(10_000) });
    expect(await values.delete(call, { key: "k" })).toEqual({ deleted: { key: "k", scope: "global", rev: 3, deletedRev: 2 } });
    expect(await codeOf(values.get(call, { key: "k" }))).toBe("not_found");
    expect(await codeOf(values.delete(call, { key: "k" }))).toBe("not_found");
    expect(await codeOf(values.get(call, { key: "k", atRev: 3 }))).toBe("not_found");
    expect(await value(a, "k", 1)).toBe("first");
    expect(await codeOf(values.restore(call, { key: "k", rev: 3 }))).toBe("not_found");
    await values.restore(call, { key: "k", rev: 1 });
    expect((await values.get(call, { key: "k" })).entry).toMatchObject({ rev: 4, createdRev: 4, version: 1 });
    const { revisions } = await values.history(call, { key: "k" });
    expect(revisions.map(({ op }) => op)).toEqual(["set", "delete", "set", "set"]);
    await clock.advance(KEEP_DELETED_MS); // of a key that is there again, nothing is forgotten
    await a.maintain();
    expect(await value(a, "k", 1)).toBe("first");
    await values.delete(call, { key: "k" });
    await clock.advance(KEEP_DELETED_MS - 1);
    await a.maintain();
    expect(await value(a, "k", 2)).toHaveLength(10_000);
    await clock.advance(1);
    await a.maintain();
    expect(await codeOf(values.history(call, { key: "k" }))).toBe("not_found");
    expect(await rows(a, ["state", "state-gone", "state-hist", "state-long", "state-purge", "state-expiry"])).toEqual([]);
    expect((await values.set(call, { key: "k", value: 1, ifRev: 0 })).entry.rev).toBe(6);
  });

  test("tells a value that is no longer kept from one that never was", async () => {
    verifies("STATE-01", "STATE-07");
    const { values, call } = swarm().host("a");
    await values.set(call, { key: "other", value: 1 });
    for (let at = 0; at < 30; at++) await values.set(call, { key: "k", value: at });
    await values.set(call, { key: "young", value: 1 });
    expect(await codeOf(values.get(call, { key: "k", atRev: 5 }))).toBe("failed_precondition");
    expect(await codeOf(values.get(call, { key: "young", atRev: 5 }))).toBe("not_found");
    expect(await codeOf(values.get(call, { key: "never", atRev: 5 }))).toBe("not_found");
  });
});

describe("a list", () => {
  test("pages through the keys of a prefix in order, and answers the revision before its first page", async () => {
    verifies("STATE-01", "STATE-05");
    const { host } = swarm();
    const { values, call } = host("a");
    const all = Array.from({ length: 25 }, (_, at) => `p/${String(at).padStart(2, "0")}`);
    for (const key of [...all.toReversed(), "o", "p", "p0", "q/1"])
      await values.set(call, { key, value: "v".repeat(key === "p/03" ? 5_000 : 3) });
    const seen: string[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const page = await values.list(call, { prefix: "p/", limit: 10, cursor });
      expect(page.revision).toBe(29);
      for (const { entry, value } of page.entries) expect(value === undefined, entry.key).toBe(entry.key === "p/03");
      seen.push(...page.entries.map(({ entry }) => entry.key));
      await values.set(call, { key: "p/00", value: pages++ }); // written meanwhile: whoever waits from the answered revision learns it
      cursor = page.nextCursor;
    } while (cursor !== undefined && pages < 10);
    expect(seen).toEqual(all);
    expect(pages).toBe(3);
    const first = await values.list(call, { prefix: "p/", limit: 10 });
    expect(await codeOf(values.list(call, { prefix: "q/", cursor: first.nextCursor }))).toBe("invalid_argument");
    expect(await codeOf(values.list(call, { prefix: "p/", cursor: "made-up" }))).toBe("invalid_argument");
    expect(first.cursorBehind("p/09")).toBe(first.nextCursor);
  });
});

test("a write that is repeated with its idempotency key happens once, however large its value", async () => {
  verifies("CORE-12");
  const { host, store } = swarm();
  const a = host("a");
  const once = () => onceCall({ store, caller: a.call.caller }, { key: "one", fingerprint: "set" });
  const input = { key: "k", value: "x".repeat(1_000_000) };
  const first = await a.values.set(once(), input);
  await a.values.set(a.call, { key: "k", value: 2 });
  expect(await a.values.set(once(), input)).toEqual(first);
  expect(await value(a, "k")).toBe(2);
});

test("a fenced write lands only while its writer holds the lock", async () => {
  verifies("STATE-09");
  const { host, store } = swarm();
  const { values, call } = host("a");
  const at = { key: "k", lock: "deploy", fencingToken: 3 };
  const writes = [
    () => values.set(call, { ...at, value: 1 }),
    () => values.patch(call, { ...at, increment: 1 }),
    () => values.delete(call, at),
    () => values.transact(call, { lock: "deploy", fencingToken: 3, writes: [{ key: "k", value: 1 }] }),
  ];
  await values.set(call, { key: "k", value: 0 });
  for (const write of writes) expect(await codeOf(write())).toBe("failed_precondition");
  expect(await codeOf(values.restore(call, { ...at, rev: 1 }))).toBe("failed_precondition");
  expect(await codeOf(values.set(call, { key: "k", value: 1, lock: "deploy" }))).toBe("invalid_argument");
  expect(await codeOf(values.set(call, { key: "k", value: 1, fencingToken: 1 }))).toBe("invalid_argument");
  expect((await store.get(keys.revision(GLOBAL)))?.value).toBe(1);
});

test("the sweep forgets every deleted key whose time has come, and none before", async () => {
  verifies("STATE-07", "CORE-16");
  const { host, store, clock } = swarm();
  const a = host("a");
  const deleted = Array.from({ length: 55 }, (_, at) => `k${at}`);
  for (const key of [...deleted, "kept"]) await a.values.set(a.call, { key, value: "x".repeat(5_000) });
  for (const key of deleted) await a.values.delete(a.call, { key });
  const sweep = async (retentionDays = 1) => {
    let removed = 0;
    for (const sweeper of stateSweepers({ retentionDays })) removed += await sweeper.sweep(store);
    return removed;
  };
  expect(await sweep()).toBe(0);
  await clock.advance(KEEP_DELETED_MS);
  expect(await sweep()).toBe(deleted.length);
  expect(await sweep()).toBe(0);
  expect(await rows(a, ["state", "state-gone", "state-hist", "state-long", "state-purge"])).toHaveLength(2);
  // a shorter retention holds for what was deleted under a longer one
  await a.values.delete(a.call, { key: "kept" });
  await clock.advance(1);
  expect(await sweep()).toBe(0);
  expect(await sweep(0)).toBe(1);
  expect(await rows(a, ["state", "state-gone", "state-hist", "state-long", "state-purge"])).toHaveLength(0);
});
