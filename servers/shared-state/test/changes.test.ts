/** What those see who wait for changes. */
import { seededRandom, WAIT_MS_MAX } from "@mcp-swarm/core";

import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type ChangeLog, SUBSCRIPTION_TTL_MS, SUBSCRIPTIONS_MAX, type WaitInput } from "../src/changes.ts";
import { keys, logRange } from "../src/state-layer.ts";
import { INLINE_BYTES_MAX, LOG_REVISIONS_MAX } from "../src/state-record.ts";
import { type Host, swarm } from "./support/state.ts";

const GLOBAL = { scope: "global" } as const;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "no error",
    (error: { code?: string }) => error.code ?? String(error),
  );
}

/** Turns of the event loop in which what was started comes to rest. */
async function rest(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise<void>((done) => setImmediate(done));
}

const set = ({ values, call }: Host, key: string, value: number | string) => values.set(call, { key, value });

/** Waits as a tool's caller does, who goes on where the last answer ended. */
async function follow(host: Host, watched: WaitInput, until: (key: string) => boolean): Promise<[rev: number, key: string][]> {
  const seen: [number, string][] = [];
  let from: WaitInput = { sinceRev: 0 };
  for (let calls = 0; calls < 10_000; calls++) {
    const found: Awaited<ReturnType<ChangeLog["wait"]>> = await host.changes.wait(host.call, {
      ...watched,
      ...from,
      waitMs: WAIT_MS_MAX,
    });
    seen.push(...found.changes.map(({ rev, key }): [number, string] => [rev, key]));
    if (found.changes.some(({ key }) => until(key))) return seen;
    from =
      found.next.skip === 0
        ? { sinceRev: found.next.rev }
        : { cursor: `${found.next.rev.toString(36)}.${found.next.skip.toString(36)}` };
  }
  throw new Error("The end was never seen");
}

describe("a wait", () => {
  test("answers what changed since a revision at once, with the value before and now", async () => {
    verifies("STATE-05", "STATE-06");
    const { host } = swarm();
    const a = host("a");
    await set(a, "k", 1);
    await set(a, "k", 2);
    await a.values.set(a.call, { key: "k", value: "x".repeat(INLINE_BYTES_MAX) });
    await a.values.delete(a.call, { key: "k" });
    const { changes, revision, next } = await a.changes.wait(a.call, { key: "k", sinceRev: 0, waitMs: WAIT_MS_MAX });
    expect(changes.map(({ op, now, before }) => ({ op, now, before }))).toEqual([
      { op: "set", now: { value: 1 }, before: undefined },
      { op: "set", now: { value: 2 }, before: { value: 1 } },
      { op: "set", now: { size: INLINE_BYTES_MAX + 2 }, before: { value: 2 } },
      { op: "delete", now: undefined, before: { size: INLINE_BYTES_MAX + 2 } },
    ]);
    expect({ revision, next }).toEqual({ revision: 4, next: { rev: 4, skip: 0 } });
  });

  test("says that a value is no longer kept rather than show another", async () => {
    verifies("STATE-06");
    const a = swarm().host("a");
    for (let at = 0; at < 30; at++) await set(a, "k", at);
    const { changes } = await a.changes.wait(a.call, { sinceRev: 0, limit: 100 });
    expect(changes).toHaveLength(30);
    expect(changes[0]).toMatchObject({ now: { dropped: true } });
    expect(changes[9]).toMatchObject({ now: { value: 9 }, before: { dropped: true } });
    expect(changes[29]).toMatchObject({ now: { value: 29 }, before: { value: 28 } });
  });

  test("wakes for its key or prefix and sleeps on over others", async () => {
    verifies("STATE-05", "CORE-10");
    const { host, clock } = swarm();
    const [a, b] = [host("a"), host("b")];
    await set(b, "before", 1);
    let answered = 0;
    const waits = [{ key: "x/1" }, { prefix: "x/" }, {}].map(async (watched) => {
      const { changes, next } = await a.changes.wait(a.call, { ...watched, waitMs: WAIT_MS_MAX });
      answered += 1;
      return { seen: changes.map(({ key }) => key), next: next.rev };
    });
    await rest();
    expect(answered).toBe(0);
    await set(b, "y", 1);
    await clock.advance(100);
    await rest();
    expect(answered).toBe(1);
    await set(b, "x/2", 1);
    await clock.advance(100);
    await set(b, "x/1", 1);
    await clock.advance(100);
    expect(await Promise.all(waits)).toEqual([
      { seen: ["x/1"], next: 4 },
      { seen: ["x/2"], next: 3 },
      { seen: ["y"], next: 2 },
    ]);
  });

  test("is over when its time is, with where to go on, and ends when it is cancelled", async () => {
    verifies("STATE-05", "CORE-10");
    const { host, clock } = swarm();
    const a = host("a");
    await set(a, "other", 1);
    const waiting = a.changes.wait(a.call, { key: "k", waitMs: 5_000 });
    const stop = new AbortController();
    const cancelled = codeOf(a.changes.wait(a.call, { key: "k", waitMs: 5_000 }, { signal: stop.signal }));
    await rest();
    await set(a, "other", 2);
    stop.abort(new Error("gone"));
    expect(await cancelled).toBe("Error: gone");
    await clock.advance(5_000);
    expect(await waiting).toMatchObject({ changes: [], revision: 2, next: { rev: 2, skip: 0 } });
  });

  test("misses nothing between two calls and sees nothing twice, whoever writes meanwhile", async () => {
    verifies("STATE-05");
    const { host, clock } = swarm();
    const hosts = ["a", "b", "c"].map((name) => host(name));
    const random = seededRandom(5);
    const readers = [{ limit: 1 }, { limit: 3 }, { prefix: "k/1" }, { prefix: "k/", limit: 2 }, { key: "k/7" }];
    const isLast = (key: string) => key.startsWith("k/1end") || key === "k/7";
    let over = false;
    const following = readers.map((watched) => follow(hosts[0] as Host, watched, watched.key ? () => over : isLast));
    const written: [number, string][] = [];
    const writers = hosts.map(async (one, at) => {
      for (let index = 0; index < 60; index++) {
        const writes = Array.from({ length: 1 + random.integer(3) }, (_, n) => ({
          key: `k/${n}${random.integer(3) === 0 ? at : index % 9}`,
          value: index,
        }));
        const unique = [...new Map(writes.map((write) => [write.key, write])).values()];
        const { entries } = await one.values.transact(one.call, { writes: unique });
        for (const { rev, key } of entries) written.push([rev, key]);
        for (let turn = random.integer(4); turn > 0; turn--) await new Promise<void>((done) => setImmediate(done));
      }
    });
    let writing = true;
    const time = (async () => {
      while (writing || !over) await clock.advance(20);
      await clock.advance(1_000);
    })();
    await Promise.all(writers);
    writing = false;
    over = true;
    const last = hosts[1] as Host;
    for (const key of ["k/7", "k/1end"]) written.push([(await set(last, key, 0)).entry.rev, key]);
    await time;
    for (let more = 0; more < 500; more++) await clock.advance(20);
    const seen = await Promise.all(following);
    written.sort(([a], [b]) => a - b);
    const all = written.map(([rev, key]) => `${rev} ${key}`);
    for (const [at, { key, prefix = "" }] of readers.entries()) {
      const fits = written.filter(([, one]) => (key === undefined ? one.startsWith(prefix) : one === key));
      const upTo = seen[at]?.at(-1)?.[0] ?? 0;
      expect(seen[at]?.map(([rev, one]) => `${rev} ${one}`)).toEqual(
        fits.filter(([rev]) => rev <= upTo).map(([rev, one]) => `${rev} ${one}`),
      );
    }
    expect(seen[0]).toHaveLength(all.length - (seen[0]?.at(-1)?.[1] === "k/7" ? 1 : 0));
  });

  test("goes on within a revision that changed more keys than one answer holds", async () => {
    verifies("STATE-05");
    const a = swarm().host("a");
    const writes = Array.from({ length: 100 }, (_, at) => ({ key: `k/${String(at).padStart(3, "0")}`, value: at }));
    await a.values.transact(a.call, { writes });
    await set(a, "z", 1);
    const first = await a.changes.wait(a.call, { sinceRev: 0, limit: 30 });
    expect(first.next).toEqual({ rev: 0, skip: 30 });
    // an answer that holds fewer than were found goes on behind those
    expect(first.nextAfter(7)).toEqual({ rev: 0, skip: 7 });
    const found = await follow(a, { limit: 30 }, (key) => key === "z");
    expect(found.map(([, key]) => key)).toEqual([...writes.map(({ key }) => key), "z"]);
    const filtered = await a.changes.wait(a.call, { key: "k/050", sinceRev: 0 });
    expect(filtered.changes).toHaveLength(1);
    expect(filtered.next).toEqual({ rev: 2, skip: 0 });
  });

  test("takes a position only from an answer, and only one", async () => {
    const a = swarm().host("a");
    await set(a, "k", 1);
    for (const input of [
      { sinceRev: 2 },
      { cursor: "x" },
      { cursor: "zz.0" },
      { cursor: "0.0", sinceRev: 0 },
      { key: "k", prefix: "k" },
      { key: "a b" },
    ]) {
      expect(await codeOf(a.changes.wait(a.call, input)), JSON.stringify(input)).toBe("invalid_argument");
    }
  });
});

describe("the log of changes", () => {
  /** A space that has seen many revisions, without the time to make them. */
  async function aged(): Promise<Host> {
    const a = swarm().host("a");
    await set(a, "old", 1);
    const kept = LOG_REVISIONS_MAX + 500;
    const row = { by: "a", verified: false, at: 1, changes: [{ key: "filler", op: "set" }] };
    for (let from = 2; from <= kept; from += 500) {
      await a.call.store.transact((tx) => {
        for (let rev = from; rev < from + 500 && rev <= kept; rev++) {
          tx.put(keys.log(GLOBAL, rev), row);
          if (rev > LOG_REVISIONS_MAX) tx.delete(keys.log(GLOBAL, rev - LOG_REVISIONS_MAX));
        }
        tx.put(keys.revision(GLOBAL), Math.min(kept, from + 499));
      });
    }
    return a;
  }

  test("keeps a window, and says how to begin anew to whoever fell out of it", async () => {
    verifies("STATE-05");
    const a = await aged();
    await set(a, "new", 1);
    const rows = await a.call.store.scan(logRange(GLOBAL, 0, 1_000));
    expect(rows[0]?.key).toBe(keys.log(GLOBAL, 502));
    const revision = LOG_REVISIONS_MAX + 501;
    await expect(a.changes.wait(a.call, { prefix: "", sinceRev: 500 })).rejects.toMatchObject({
      code: "failed_precondition",
      message: `The changes of global since revision 500 are no longer kept: the last ${LOG_REVISIONS_MAX} revisions are, and it is at ${revision}.`,
      hint: expect.stringContaining("list_state"),
    });
    expect((await a.changes.wait(a.call, { prefix: "n", sinceRev: 501 })).changes).toHaveLength(1);
    const list = await a.values.list(a.call, {});
    expect((await a.changes.wait(a.call, { sinceRev: list.revision })).changes).toEqual([]);
  });

  test("needs not reach back to a key's last write for who waits on that key from there", async () => {
    verifies("STATE-05");
    const a = await aged();
    const { entry } = await a.values.get(a.call, { key: "old" });
    expect(entry.rev).toBe(1);
    const found = await a.changes.wait(a.call, { key: "old", sinceRev: entry.rev });
    expect(found).toMatchObject({ changes: [], next: { rev: LOG_REVISIONS_MAX + 500, skip: 0 } });
    expect(await codeOf(a.changes.wait(a.call, { key: "old", sinceRev: 0 }))).toBe("failed_precondition");
  });

  test("is read to its end by a reader at its beginning, a page at a time", async () => {
    verifies("STATE-05");
    const a = await aged();
    const { changes, next } = await a.changes.wait(a.call, { prefix: "none", sinceRev: 500 });
    expect({ changes, next }).toEqual({ changes: [], next: { rev: LOG_REVISIONS_MAX + 500, skip: 0 } });
  });
});

describe("a subscription", () => {
  test("shows nothing that its agent may not read, or may not any more while it waits", async () => {
    verifies("SEC-06");
    const asked: object[] = [];
    let may = true;
    const mayRead = (_: unknown, watched: object) => {
      asked.push(watched);
      return may;
    };
    const { host } = swarm();
    const writer = host("writer");
    const a = host("a", { mayRead, session: "mine" });
    const subscribed = async (input: WaitInput) => (await a.changes.subscribe(a.call, input)).subscription.id;
    const subscriptionId = await subscribed({ scope: "workflow", scopeId: "w", prefix: "k/" });
    await a.changes.wait(a.call, { subscriptionId });
    const waits = codeOf(a.changes.wait(a.call, { subscriptionId, waitMs: WAIT_MS_MAX }));
    await rest();
    may = false;
    await writer.values.set(writer.call, { scope: "workflow", scopeId: "w", key: "k/1", value: 1 });
    expect(await waits).toBe("permission_denied");
    expect(await codeOf(a.changes.wait(a.call, { subscriptionId }))).toBe("permission_denied");
    expect(new Set(asked.map((one) => JSON.stringify(one)))).toEqual(
      new Set([JSON.stringify({ scope: "workflow", scopeId: "w", prefix: "k/" })]),
    );
    may = true;
    expect((await a.changes.wait(a.call, { subscriptionId })).changes.map(({ key }) => key)).toEqual(["k/1"]);
    const own = await subscribed({ scope: "session", key: "k" });
    await a.changes.wait(a.call, { subscriptionId: own });
    expect(asked.at(-1)).toEqual({ scope: "session", key: "k" }); // as its tools name it
  });

  test("shows what was not acknowledged again, in whatever process its agent lives", async () => {
    verifies("STATE-06");
    const { host } = swarm();
    const [a, writer] = [host("a"), host("w")];
    await set(writer, "k/before", 1);
    const { subscription } = await a.changes.subscribe(a.call, { prefix: "k/" });
    expect(subscription).toMatchObject({ scope: "global", prefix: "k/", rev: 1, agentId: "a" });
    const { id: subscriptionId } = subscription;
    for (const key of ["k/1", "other", "k/2"]) await set(writer, key, 1);
    const later = host("a");
    for (let again = 0; again < 2; again++) {
      const { changes, next } = await later.changes.wait(later.call, { subscriptionId });
      expect(changes.map(({ key }) => key)).toEqual(["k/1", "k/2"]);
      expect(next.rev).toBe(4);
    }
    await later.changes.acknowledge(later.call, { subscriptionId, rev: 2 });
    expect((await a.changes.wait(a.call, { subscriptionId })).changes.map(({ key }) => key)).toEqual(["k/2"]);
    await a.changes.acknowledge(a.call, { subscriptionId, rev: 4 });
    await a.changes.acknowledge(a.call, { subscriptionId, rev: 3 }); // a late one takes nothing back
    expect((await a.changes.wait(a.call, { subscriptionId })).changes).toEqual([]);
    expect((await a.changes.wait(a.call, { subscriptionId, sinceRev: 2 })).changes).toHaveLength(1);
    expect(await codeOf(a.changes.acknowledge(a.call, { subscriptionId, rev: 5 }))).toBe("invalid_argument");
    expect(await codeOf(writer.changes.wait(writer.call, { subscriptionId }))).toBe("not_found");
    expect(await codeOf(a.changes.wait(a.call, { subscriptionId, key: "k" }))).toBe("invalid_argument");
    await a.changes.unsubscribe(a.call, { subscriptionId });
    expect(await codeOf(a.changes.unsubscribe(a.call, { subscriptionId }))).toBe("not_found");
    expect(await codeOf(a.changes.wait(a.call, { subscriptionId }))).toBe("not_found");
  });

  test("begins where it is told, ends when nobody reads it, and an agent has a bounded number", async () => {
    verifies("STATE-06");
    const { host, clock } = swarm();
    const a = host("a");
    await set(a, "k", 1);
    const { subscription } = await a.changes.subscribe(a.call, { key: "k", fromRev: 0 });
    expect((await a.changes.wait(a.call, { subscriptionId: subscription.id })).changes).toHaveLength(1);
    expect(await codeOf(a.changes.subscribe(a.call, { key: "k", fromRev: 2 }))).toBe("invalid_argument");
    for (let more = 1; more < SUBSCRIPTIONS_MAX; more++) await a.changes.subscribe(a.call, {});
    expect(await codeOf(a.changes.subscribe(a.call, {}))).toBe("limit_exceeded");
    await clock.advance(SUBSCRIPTION_TTL_MS);
    expect(await codeOf(a.changes.wait(a.call, { subscriptionId: subscription.id }))).toBe("not_found");
    await a.changes.subscribe(a.call, {});
  });
});

test("a resource's version moves with its own key or prefix and stands still for others", async () => {
  verifies("STATE-06");
  const { host } = swarm();
  const a = host("a");
  await set(a, "k/1", 1);
  const versions = [{ key: "k/1" }, { prefix: "k/" }, {}].map((watched) => a.changes.versions(a.call, watched));
  const now = async () => await Promise.all(versions.map((one) => one.version()));
  expect(await now()).toEqual(["1", "1", "1"]);
  await set(a, "other", 1);
  expect(await now()).toEqual(["1", "1", "2"]);
  await set(a, "k/2", 1);
  await set(a, "z", 1);
  expect(await now()).toEqual(["1", "3", "4"]);
  await a.values.delete(a.call, { key: "k/1" });
  expect(await now()).toEqual(["5", "5", "5"]);
});
