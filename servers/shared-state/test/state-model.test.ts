/** Random programs of several processes against a model that keeps everything. */
import { type Json, SwarmError } from "@mcp-swarm/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Position, StateChange } from "../src/changes.ts";
import { HISTORY_MAX, INLINE_BYTES_MAX } from "../src/state-record.ts";
import { type Host, swarm } from "./support/state.ts";
import { Refused, StateModel } from "./support/state-model.ts";

const AGENTS = 3;
const KEYS = ["a", "b/1", "b/2", "c"] as const;
const PREFIXES = ["", "b/", "c"] as const;
const LONG = "x".repeat(INLINE_BYTES_MAX);

const agent = fc.nat(AGENTS - 1);
const key = fc.constantFrom(...KEYS);
const value: fc.Arbitrary<Json> = fc.oneof(
  fc.integer({ min: 0, max: 3 }),
  fc.record({ m: fc.integer({ min: 0, max: 2 }), n: fc.constantFrom(null, 1) }, { requiredKeys: [] }),
  fc.constantFrom<Json>(LONG, null, [1]),
);
/** Which revision a write says it is based on: none, the current one, or another. */
const based = fc.constantFrom("none", "none", "current", "stale");
const ttlMs = fc.option(fc.constantFrom(1_000, 5_000), { nil: undefined, freq: 4 });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("set" as const),
      agent,
      key,
      value,
      based,
      ttlMs,
      mode: fc.constantFrom(undefined, undefined, "overwrite" as const, "merge" as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("increment" as const), agent, key, based }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("append" as const), agent, key, based }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("delete" as const), agent, key, based }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("transact" as const),
      agent,
      checks: fc.array(fc.record({ key, by: fc.constantFrom("ifRev", "exists", "equals"), holds: fc.boolean() }), {
        maxLength: 2,
      }),
      writes: fc.uniqueArray(fc.record({ key, how: fc.constantFrom("value", "delete", "increment"), value }), {
        minLength: 1,
        maxLength: 4,
        selector: (write) => write.key,
      }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("restore" as const), agent, key, back: fc.nat(6) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("get" as const), agent, key }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("getAt" as const), agent, key, back: fc.nat(8) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("list" as const), agent, prefix: fc.constantFrom(...PREFIXES) }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), agent, reader: fc.nat(3), limit: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(1, 1_000, 4_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("maintain" as const), agent }) },
);

async function outcomeOf<T>(work: () => T | Promise<T>): Promise<{ value: T } | { code: string }> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof SwarmError || error instanceof Refused) return { code: error.code };
    throw error;
  }
}

/** A reader of changes that goes on where it stopped. */
interface Reader {
  readonly watched: { key?: string; prefix?: string };
  readonly fits: (key: string) => boolean;
  position: Position;
  readonly seen: StateChange[];
}

function readers(): Reader[] {
  const at = { rev: 0, skip: 0 };
  return [
    { watched: {}, fits: () => true, position: at, seen: [] },
    { watched: { prefix: "b/" }, fits: (key) => key.startsWith("b/"), position: at, seen: [] },
    { watched: { key: "a" }, fits: (key) => key === "a", position: at, seen: [] },
    { watched: { prefix: "none" }, fits: () => false, position: at, seen: [] },
  ];
}

async function readOn({ changes, call }: Host, reader: Reader, limit: number): Promise<void> {
  const { rev, skip } = reader.position;
  const from = skip === 0 ? { sinceRev: rev } : { cursor: `${rev.toString(36)}.${skip.toString(36)}` };
  const found = await changes.wait(call, { ...reader.watched, ...from, limit });
  reader.seen.push(...found.changes);
  reader.position = found.nextAfter(found.changes.length);
}

test("values do what a simple model of them does, and no reader misses a change or sees one twice", async () => {
  verifies("STATE-01", "STATE-02", "STATE-03", "STATE-04", "STATE-05", "STATE-07");
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 70, size: "max" }), async (steps) => {
      const { clock, host } = swarm();
      const hosts = Array.from({ length: AGENTS }, (_, at) => host(`agent-${at}`));
      const model = new StateModel(clock.now());
      const reading = readers();
      for (const [at, one] of steps.entries()) {
        const who = hosts["agent" in one ? one.agent : 0] ?? hosts[0];
        if (!who) throw new Error("There are no hosts");
        const { values, call } = who;
        const revOf = (key: string, based: string) =>
          based === "none" ? undefined : based === "current" ? model.rev(key) : model.rev(key) + 1;
        let real: unknown;
        let modelled: unknown;
        switch (one.kind) {
          case "set": {
            const { key, value, ttlMs, mode } = one;
            const ifRev = revOf(key, one.based);
            real = await outcomeOf(async () => void (await values.set(call, { key, value, ifRev, ttlMs, onConflict: mode })));
            modelled = await outcomeOf(() =>
              model.set(key, value, {
                ...(ifRev === undefined ? {} : { ifRev }),
                ...(mode ? { mode } : {}),
                ...(ttlMs ? { ttlMs } : {}),
              }),
            );
            break;
          }
          case "increment":
          case "append": {
            const { key, kind } = one;
            const ifRev = revOf(key, one.based);
            const change = kind === "increment" ? { increment: 2 } : { append: at, maxItems: 3 };
            real = await outcomeOf(async () => void (await values.patch(call, { key, ifRev, ...change })));
            modelled = await outcomeOf(() =>
              model.change(
                key,
                (value) => {
                  if (kind === "increment") {
                    if (value !== undefined && typeof value !== "number") throw new Refused("failed_precondition");
                    return (value ?? 0) + 2;
                  }
                  if (value !== undefined && !Array.isArray(value)) throw new Refused("failed_precondition");
                  return [...(value ?? []), at].slice(-3);
                },
                ifRev,
              ),
            );
            break;
          }
          case "delete": {
            const ifRev = revOf(one.key, one.based);
            real = await outcomeOf(async () => void (await values.delete(call, { key: one.key, ifRev })));
            modelled = await outcomeOf(() => model.delete(one.key, ifRev));
            break;
          }
          case "transact": {
            const checks = one.checks.map(({ key, by, holds }) => {
              const rev = model.rev(key);
              if (by === "ifRev") return { key, ifRev: holds ? rev : rev + 1 };
              if (by === "exists") return { key, exists: holds === rev > 0 };
              return { key, equals: rev > 0 && holds ? model.get(key).value : "another" };
            });
            const writes = one.writes.map(({ key, how, value }) =>
              how === "value" ? { key, value } : how === "delete" ? { key, delete: true as const } : { key, increment: 1 },
            );
            real = await outcomeOf(async () => void (await values.transact(call, { checks, writes })));
            modelled = await outcomeOf(() => model.transact(checks, writes));
            break;
          }
          case "restore": {
            const rev = Math.max(0, model.revision - one.back);
            real = await outcomeOf(async () => void (await values.restore(call, { key: one.key, rev })));
            modelled = await outcomeOf(() => model.restore(one.key, rev));
            break;
          }
          case "get":
            real = await outcomeOf(async () => {
              const { value, entry } = await values.get(call, { key: one.key });
              return { value, rev: entry.rev, createdRev: entry.createdRev, version: entry.version };
            });
            modelled = await outcomeOf(() => model.get(one.key));
            break;
          case "getAt": {
            const atRev = model.revision + 1 - one.back;
            if (atRev < 0) continue;
            real = await outcomeOf(async () => (await values.get(call, { key: one.key, atRev })).value);
            modelled = await outcomeOf(() => model.getAt(one.key, atRev));
            const written = model.log.filter(({ key, rev }) => key === one.key && rev > atRev).length;
            if (written > HISTORY_MAX) modelled = { code: "failed_precondition" };
            break;
          }
          case "list":
            real = (await values.list(call, { prefix: one.prefix })).entries.map(({ entry, value }) => [
              entry.key,
              value === undefined ? LONG : value,
            ]);
            modelled = model.list(one.prefix).map(([key, value]) => [key, value]);
            break;
          case "wait": {
            const reader = reading[one.reader];
            if (reader) await readOn(who, reader, one.limit);
            break;
          }
          case "advance":
            await clock.advance(one.ms);
            model.now = clock.now();
            break;
          case "maintain":
            await who.maintain();
            model.endDue();
        }
        expect(real, `step ${at}: ${one.kind}`).toEqual(modelled);
        const outcome = real !== undefined && typeof real === "object" && real !== null && "code" in real ? "refused" : "went";
        seen.set(`${one.kind} ${outcome}`, (seen.get(`${one.kind} ${outcome}`) ?? 0) + 1);
      }
      const [first] = hosts;
      if (!first) throw new Error("There are no hosts");
      for (const reader of reading) {
        while (reader.position.rev < model.revision) await readOn(first, reader, 3);
        const expected = model.log.filter(({ key }) => reader.fits(key));
        expect(reader.seen.map(({ rev, key, op }) => ({ rev, key, op }))).toEqual(
          expected.map(({ rev, key, op }) => ({ rev, key, op })),
        );
        for (const [at, { now, before }] of reader.seen.entries()) {
          const { value, old } = expected[at] ?? {};
          for (const [shown, is] of [
            [now, value],
            [before, old],
          ] as const) {
            if (shown === undefined) expect(is).toBeUndefined();
            else if ("value" in shown) expect(shown.value).toEqual(is);
            else if ("size" in shown) expect(is).toBe(LONG);
          }
        }
      }
    }),
    { numRuns: 150 },
  );
  for (const kind of ["set", "increment", "append", "delete", "transact", "restore", "get", "getAt"]) {
    expect(seen.get(`${kind} went`) ?? 0, kind).toBeGreaterThan(10);
    expect(seen.get(`${kind} refused`) ?? 0, kind).toBeGreaterThan(10);
  }
});
