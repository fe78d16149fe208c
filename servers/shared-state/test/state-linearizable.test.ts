/** Calls of several processes at once on one key, over a store whose every answer is late by chance: as if one at a time were made. */
import { manualClock, type Random, SwarmError, seededRandom } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkLinearizable, type Operation } from "../../../test/support/linearizability.ts";
import { type RegisterInput, type RegisterOutput, register } from "../../../test/support/state-register.ts";
import { type Host, hostOn } from "./support/state.ts";

const HOSTS = 3;
const KEYS = ["a", "b"] as const;

/** Each call takes a few turns to arrive and a few to come back. */
function late(store: Store, random: Random): Store {
  const after = async <T>(work: () => Promise<T>): Promise<T> => {
    for (let turns = random.integer(3); turns > 0; turns--) await new Promise<void>((done) => setImmediate(done));
    const result = await work();
    for (let turns = random.integer(3); turns > 0; turns--) await new Promise<void>((done) => setImmediate(done));
    return result;
  };
  return {
    engine: store.engine,
    location: store.location,
    transact: (plan) => after(() => store.transact(plan)),
    get: (key) => after(() => store.get(key)),
    getMany: (keys) => after(() => store.getMany(keys)),
    scan: (range) => after(() => store.scan(range)),
    search: (query) => store.search(query),
    watch: (prefix, wake) => store.watch(prefix, wake),
    now: () => store.now(),
    keyv: (namespace) => store.keyv(namespace),
    snapshot: (read) => store.snapshot(read),
    sweep: (limit) => store.sweep(limit),
    close: () => store.close(),
  };
}

async function make({ values, call }: Host, key: string, input: RegisterInput): Promise<RegisterOutput> {
  try {
    switch (input.call) {
      case "get": {
        const { entry, value } = await values.get(call, { key });
        return { ok: true, rev: entry.rev, value };
      }
      case "set":
        return { ok: true, rev: (await values.set(call, { key, value: input.value, ifRev: input.ifRev })).entry.rev };
      case "increment": {
        const { entry, value } = await values.patch(call, { key, increment: input.by });
        return { ok: true, rev: entry.rev, ...(value === undefined ? {} : { value }) };
      }
      case "delete":
        return { ok: true, rev: (await values.delete(call, { key })).deleted.rev };
    }
  } catch (error) {
    if (error instanceof SwarmError) return { ok: false, code: error.code };
    throw error;
  }
}

const LONG = "x".repeat(5_000);

test("reads, writes, compare-and-set and counting of several processes are linearizable", async () => {
  verifies("STATE-01");
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.integer(), async (seed) => {
      const random = seededRandom(seed);
      const clock = manualClock();
      const memory = new MemoryStore({ clock });
      const history = new Map<string, Operation<RegisterInput, RegisterOutput>[]>(KEYS.map((key) => [key, []]));
      let time = 0;
      const work = async (name: string) => {
        const host = hostOn(late(memory, random), clock, name);
        const known = new Map<string, number>();
        for (let calls = 0; calls < 25; calls++) {
          const key = KEYS[random.integer(KEYS.length)] ?? "a";
          const roll = random.integer(10);
          const value = random.integer(4) === 0 ? LONG : random.integer(1_000);
          const input: RegisterInput =
            roll < 3
              ? { call: "get" }
              : roll < 5
                ? { call: "set", value }
                : roll < 8
                  ? { call: "set", value, ifRev: known.get(key) ?? 0 }
                  : roll < 9
                    ? { call: "increment", by: 1 }
                    : { call: "delete" };
          const invoked = ++time;
          const output = await make(host, key, input);
          if (output.ok) known.set(key, input.call === "delete" ? 0 : output.rev);
          history.get(key)?.push({ by: name, invoked, returned: ++time, input, output });
          const outcome = `${input.call} ${output.ok ? "ok" : output.code}`;
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        }
      };
      await Promise.all(Array.from({ length: HOSTS }, (_, at) => work(`agent-${at}`)));
      for (const [key, calls] of history) {
        const verdict = checkLinearizable(calls, register);
        expect(verdict, `key ${key}: ${JSON.stringify(verdict).slice(0, 2_000)}`).toEqual({ linearizable: true });
      }
    }),
    { numRuns: 60 },
  );
  for (const outcome of ["get ok", "get not_found", "set ok", "set conflict", "increment ok", "delete ok", "delete not_found"]) {
    expect(seen.get(outcome) ?? 0, outcome).toBeGreaterThan(10);
  }
});

test("an earlier value is read whole while others write the key as fast as they can", async () => {
  verifies("STATE-07");
  const random = seededRandom(3);
  const clock = manualClock();
  const memory = new MemoryStore({ clock });
  const [reader, writer] = [hostOn(late(memory, random), clock, "r"), hostOn(memory, clock, "w")];
  const valueAt = (rev: number) => `${rev} ${LONG}`;
  let rev = 0;
  let over = false;
  const writing = (async () => {
    while (rev < 600) {
      rev += 1;
      await writer.values.set(writer.call, { key: "k", value: valueAt(rev) });
      await new Promise<void>((done) => setImmediate(done));
    }
    over = true;
  })();
  let read = 0;
  let dropped = 0;
  await new Promise<void>((done) => setImmediate(done));
  while (!over) {
    const atRev = Math.max(1, rev - random.integer(25));
    const outcome = await make(reader, "k", { call: "get" });
    expect(outcome.ok && outcome.value).toBe(outcome.ok ? valueAt(outcome.rev) : "unavailable");
    try {
      expect((await reader.values.get(reader.call, { key: "k", atRev })).value).toBe(valueAt(atRev));
      read += 1;
    } catch (error) {
      expect(error).toMatchObject({ code: "failed_precondition" });
      dropped += 1;
    }
  }
  await writing;
  expect(read).toBeGreaterThan(5);
  expect(dropped).toBeGreaterThan(0);
});

test("a copy made from a list, and from the changes since the revision it answered, is whole", async () => {
  verifies("STATE-05", "STATE-06");
  await fc.assert(
    fc.asyncProperty(fc.integer(), async (seed) => {
      const random = seededRandom(seed);
      const clock = manualClock();
      const memory = new MemoryStore({ clock });
      const [reader, writer] = [hostOn(late(memory, random), clock, "r"), hostOn(memory, clock, "w")];
      let over = false;
      const writing = (async () => {
        for (let writes = 0; writes < 60; writes++) {
          const key = `k${random.integer(12)}`;
          const input: RegisterInput = random.integer(4) === 0 ? { call: "delete" } : { call: "set", value: writes };
          await make(writer, key, input);
          await new Promise<void>((done) => setImmediate(done));
        }
        over = true;
      })();
      const copy = new Map<string, unknown>();
      let cursor: string | undefined;
      let sinceRev: number | undefined;
      do {
        const page = await reader.values.list(reader.call, { limit: 3, cursor });
        for (const { entry, value } of page.entries) copy.set(entry.key, value);
        sinceRev ??= page.revision;
        cursor = page.nextCursor;
      } while (cursor !== undefined);
      for (let last = false; ; ) {
        const found = await reader.changes.wait(reader.call, { sinceRev, limit: 4 });
        for (const { key, op, now } of found.changes) {
          if (op === "set" && now && "value" in now) copy.set(key, now.value);
          else copy.delete(key);
        }
        sinceRev = found.next.rev;
        if (last && found.changes.length === 0) break;
        last = over;
      }
      await writing;
      const { entries } = await writer.values.list(writer.call, { limit: 200 });
      expect([...copy].sort()).toEqual(entries.map(({ entry, value }) => [entry.key, value]).sort());
    }),
    { numRuns: 60 },
  );
});
