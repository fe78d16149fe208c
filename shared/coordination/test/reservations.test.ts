import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { manualClock } from "@mcp-swarm/core";
import { openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import {
  extendReservation,
  findConflicts,
  globsOverlap,
  holderPrefix,
  holdersOf,
  normalizeGlobs,
  normalizePath,
  type ReserveRequest,
  readReservation,
  releaseReservation,
  reservationRanges,
  reserveFiles,
} from "../src/index.ts";
import { RESERVATION_MS_MAX } from "../src/reservations.ts";

let clock = manualClock();
let store: Store = new MemoryStore({ clock });
beforeEach(() => {
  clock = manualClock();
  store = new MemoryStore({ clock });
});

const LEASE_MS = 10_000;

function reserve(id: string, holder: string, globs: string[], more: Partial<ReserveRequest> = {}) {
  const request = { id, holder, globs: normalizeGlobs(globs), mode: "exclusive" as const, ...more };
  return store.transact((tx) => reserveFiles(tx, { expiresAt: tx.now + LEASE_MS, ...request }));
}

async function rowsLeft(): Promise<string[]> {
  return (await store.scan(prefixRange("resv/", 1_000))).map((entry) => entry.key).filter((key) => key !== "resv/token");
}

describe("reserving files", () => {
  test("an overlapping claim is told which glob, whose, until when and for which task", async () => {
    await reserve("r1", "ann", ["src/**", "docs/a.md"], { taskId: "task-1" });
    const outcome = await reserve("r2", "ben", ["test/**", "src/{a,b}.ts"]);
    expect(outcome).toEqual({
      ok: false,
      conflicts: [
        {
          glob: "src/**",
          wanted: "src/a.ts",
          holder: "ann",
          mode: "exclusive",
          until: clock.now() + LEASE_MS,
          reservationId: "r1",
          taskId: "task-1",
        },
      ],
    });
    expect(await store.transact((tx) => readReservation(tx, "r2"))).toBeUndefined();
  });

  test("it happens in the caller's transaction: what that throws away was not reserved", async () => {
    const failed = store.transact((tx) => {
      reserveFiles(tx, { id: "r1", holder: "ann", globs: ["a"], mode: "exclusive", expiresAt: tx.now + LEASE_MS });
      throw new Error("the rest of the claim failed");
    });
    await expect(failed).rejects.toThrow("the rest");
    expect(await rowsLeft()).toEqual([]);
  });

  test("readers share, a writer does not join them", async () => {
    expect(await reserve("r1", "ann", ["src/**"], { mode: "shared" })).toMatchObject({ ok: true });
    expect(await reserve("r2", "ben", ["src/a.ts"], { mode: "shared" })).toMatchObject({ ok: true });
    expect(await reserve("r3", "cem", ["src/a.ts"])).toMatchObject({
      ok: false,
      conflicts: [{ holder: "ann" }, { holder: "ben" }],
    });
  });

  test("one holder's reservations do not conflict, its subagents' do", async () => {
    await reserve("r1", "ann/x", ["src/**"]);
    expect(await reserve("r2", "ann/x", ["src/a.ts"])).toMatchObject({ ok: true });
    expect(await reserve("r3", "ann/y", ["src/a.ts"])).toMatchObject({ ok: false });
  });

  test("reserving again under one id replaces what was there", async () => {
    await reserve("r1", "ann", ["src/**", "docs/**"]);
    await reserve("r1", "ann", ["lib/**"]);
    expect(await reserve("r2", "ben", ["src/**", "docs/**"])).toMatchObject({ ok: true });
    await expect(reserve("r1", "cem", ["other"])).rejects.toMatchObject({ code: "already_exists" });
  });

  test("an expired reservation reads as absent everywhere, and its holder's late words change nothing", async () => {
    await reserve("r1", "ann", ["src/**"]);
    await clock.advance(LEASE_MS);
    expect(await rowsLeft()).toEqual([]);
    expect(await reserve("r2", "ben", ["src/**"])).toMatchObject({ ok: true });
    const owner = { id: "r1", holder: "ann" };
    expect(await store.transact((tx) => extendReservation(tx, owner, tx.now + LEASE_MS))).toBe(false);
    expect(await store.transact((tx) => releaseReservation(tx, owner))).toBe(false);
    expect(await reserve("r3", "cem", ["src/a"])).toMatchObject({ ok: false, conflicts: [{ holder: "ben" }] });
  });

  test("extending moves the end of every row", async () => {
    await reserve("r1", "ann", ["src/**", "lib/a"]);
    await clock.advance(LEASE_MS - 1);
    expect(await store.transact((tx) => extendReservation(tx, { id: "r1", holder: "ann" }, tx.now + LEASE_MS))).toBe(true);
    await clock.advance(LEASE_MS - 1);
    expect(await rowsLeft()).toHaveLength(4);
    expect(await reserve("r2", "ben", ["lib/**"])).toMatchObject({ ok: false });
    await clock.advance(1);
    expect(await reserve("r2", "ben", ["lib/**"])).toMatchObject({ ok: true });
  });

  test("the next holder of a task's files replaces what the last one's clock had not ended yet", async () => {
    await reserve("claim", "ann", ["src/**", "docs/a.md"], { fencingToken: 1 });
    await expect(reserve("claim", "ben", ["src/**"], { fencingToken: 1 })).rejects.toMatchObject({ code: "already_exists" });
    expect(await reserve("claim", "ben", ["src/**"], { fencingToken: 2 })).toMatchObject({ ok: true });
    const [of, left] = [await store.scan(prefixRange(holderPrefix("ann"), 10)), await rowsLeft()];
    expect(of).toEqual([]);
    expect(left.filter((key) => key.startsWith("resv/at/"))).toHaveLength(1);
    expect(await store.transact((tx) => releaseReservation(tx, { id: "claim", holder: "ann", fencingToken: 1 }))).toBe(false);
  });

  test("a token of an earlier holding of the same id is stale, and later holdings have greater tokens", async () => {
    const first = await reserve("r1", "ann", ["a"]);
    const again = await reserve("r1", "ann", ["a"]);
    const other = await reserve("r2", "ben", ["b"]);
    const tokens = [first, again, other].map((outcome) => (outcome.ok ? outcome.reservation.fencingToken : 0));
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
    const stale = { id: "r1", holder: "ann", fencingToken: tokens[0] as number };
    expect(await store.transact((tx) => extendReservation(tx, stale, tx.now + LEASE_MS))).toBe(false);
    expect(await store.transact((tx) => releaseReservation(tx, stale))).toBe(false);
    expect(await store.transact((tx) => releaseReservation(tx, { ...stale, fencingToken: tokens[1] as number }))).toBe(true);
  });

  test("another's reservation cannot be released or extended", async () => {
    await reserve("r1", "ann", ["a"]);
    expect(await store.transact((tx) => releaseReservation(tx, { id: "r1", holder: "ben" }))).toBe(false);
    expect(await store.transact((tx) => extendReservation(tx, { id: "r1", holder: "ben" }, tx.now + LEASE_MS))).toBe(false);
    expect(await reserve("r2", "ben", ["a"])).toMatchObject({ ok: false });
  });

  test.each<[string, Partial<ReserveRequest>]>([
    ["no globs", { globs: [] }],
    ["an end in the past", { expiresAt: 1 }],
    ["an end beyond the bound", { expiresAt: 1_750_000_000_000 + RESERVATION_MS_MAX + 1 }],
    ["an empty id", { id: "" }],
    ["a long reason", { reason: "x".repeat(501) }],
  ])("%s is refused", async (_, bad) => {
    await expect(reserve("r1", "ann", ["a"], bad)).rejects.toMatchObject({ code: "invalid_argument" });
    expect(await rowsLeft()).toEqual([]);
  });

  test("one path from two worktrees is one file", async () => {
    const [one, two] = ["/w/one", "/w/two"].map((root) => normalizeGlobs([`${root}/src/a.ts`], { root }));
    await reserve("r1", "ann", one ?? []);
    expect(await reserve("r2", "ben", two ?? [])).toMatchObject({ ok: false });
  });
});

describe("over SQLite, with two connections", () => {
  test("of many that want overlapping files at once, no two have them", async () => {
    const folder = await mkdtemp(join(tmpdir(), "reservations-"));
    try {
      const url = `sqlite:${join(folder, "swarm.db")}`;
      const stores = [await openStore(url), await openStore(url)];
      const wanted = ["src/**", "src/a.ts", "src/[a-c].ts", "**/*.ts", "lib/x/y.ts", "lib/**", "lib/*/z.ts", "docs", "docs/x/**"];
      const outcomes = await Promise.all(
        Array.from({ length: 36 }, (_, n) => {
          const glob = wanted[n % wanted.length] as string;
          const request = { id: `r${n}`, holder: `agent-${n}`, globs: [glob], mode: "exclusive" as const };
          const through = stores[n % 2] as Store;
          return through.transact((tx) => reserveFiles(tx, { ...request, expiresAt: tx.now + 60_000 }));
        }),
      );
      const won = outcomes.flatMap((outcome) => (outcome.ok ? outcome.reservation.globs : []));
      expect(won.length).toBeGreaterThan(0);
      for (const [n, a] of won.entries()) for (const b of won.slice(n + 1)) expect(globsOverlap(a, b), `${a} ${b}`).toBe(false);
      for (const outcome of outcomes) expect(outcome.ok || outcome.conflicts.length > 0).toBe(true);
      // whatever lost does overlap something that won
      for (const glob of wanted) expect(won.some((winner) => globsOverlap(winner, glob))).toBe(true);
      for (const one of stores) await one.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("finding what overlaps", () => {
  test("holders of paths are found for all paths at once", async () => {
    await reserve("r1", "ann", ["app/[id]/page.tsx"]);
    await reserve("r2", "ben", ["**/*.md"], { mode: "shared" });
    const paths = ["app/[id]/page.tsx", "docs/deep/x.md", "free.ts"].map((path) => normalizePath(path));
    const holders = await store.transact((tx) => holdersOf(tx, paths));
    expect([...holders].map(([path, found]) => [path, found.map(({ holder }) => holder)])).toEqual([
      ["app/[id]/page.tsx", ["ann"]],
      ["docs/deep/x.md", ["ben"]],
      ["free.ts", []],
    ]);
  });

  test("reading is bounded by the folders asked for, not by how many reservations there are", async () => {
    for (let n = 0; n < 300; n++) await reserve(`r${n}`, `agent-${n}`, [`packages/p${n}/src/**`]);
    let read = 0;
    await store.transact((tx) =>
      findConflicts(
        {
          scan: (range) => {
            const rows = tx.scan(range);
            read += rows.length;
            return rows;
          },
        },
        { globs: ["packages/p7/src/a.ts", "packages/p9/**"], mode: "exclusive" },
      ),
    );
    expect(read).toBe(2);
  });

  test("more reservations beneath a folder than one transaction reads are an error with a way out, not a silent yes", async () => {
    for (let n = 0; n < 1_000; n++) await reserve(`r${n}`, `agent-${n}`, [`src/f${n}`], { mode: "shared" });
    await expect(reserve("all", "ann", ["src/**"], { mode: "shared" })).rejects.toMatchObject({ code: "limit_exceeded" });
    expect(await reserve("one", "ann", ["src/f7"])).toMatchObject({ ok: false });
  });

  test("globs made to be slow are refused before they hold others up", async () => {
    for (let n = 0; n < 100; n++) await reserve(`r${n}`, `agent-${n}`, [`${"*a".repeat(124)}${n}.x`], { mode: "shared" });
    const slow = Array.from({ length: 64 }, (_, n) => `${"*b".repeat(124)}${n}.y`);
    await expect(reserve("slow", "ann", slow)).rejects.toMatchObject({ code: "limit_exceeded" });
    expect(await reserve("plain", "ann", ["src/a.ts", "docs/**"])).toMatchObject({ ok: true });
  });

  test("every key fits, whatever the names", async () => {
    const globs = normalizeGlobs([`${"Ünïcode-Näme/".repeat(18)}x`, `${"A".repeat(200)}/b`, `${"d/".repeat(30)}e`]);
    expect(await reserve("X".repeat(64), "Agent/Ä".replace("Ä", "A"), globs)).toMatchObject({ ok: true });
    for (const glob of globs) expect(await reserve("r2", "ben", [glob])).toMatchObject({ ok: false });
    expect(reservationRanges(globs).every(({ from }) => Buffer.byteLength(from) <= 255)).toBe(true);
  });

  test("random programs of several agents agree with a plain list of reservations", async () => {
    const segments = fc.constantFrom("src", "lib", "a.ts", "b.ts", "*", "*.ts", "**", "[ab].ts", "?.ts", "~", "deep");
    const globs = fc.array(
      fc.array(segments, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/")),
      { minLength: 1, maxLength: 3 },
    );
    const holder = fc.constantFrom("ann", "ben", "cem");
    const id = fc.constantFrom("r1", "r2", "r3", "r4", "r5");
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ do: fc.constant("reserve" as const), id, holder, globs, shared: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("release" as const), id, holder }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("extend" as const), id, holder }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: LEASE_MS }) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (program) => {
        clock = manualClock();
        store = new MemoryStore({ clock });
        let model: { id: string; holder: string; globs: string[]; shared: boolean; until: number }[] = [];
        for (const s of program) {
          model = model.filter(({ until }) => until > clock.now());
          if (s.do === "pass") {
            await clock.advance(s.ms);
            continue;
          }
          const mine = model.find((r) => r.id === s.id && r.holder === s.holder);
          const owner = { id: s.id, holder: s.holder };
          if (s.do === "release") {
            expect(await store.transact((tx) => releaseReservation(tx, owner))).toBe(mine !== undefined);
            model = model.filter((r) => r !== mine);
          } else if (s.do === "extend") {
            expect(await store.transact((tx) => extendReservation(tx, owner, tx.now + LEASE_MS))).toBe(mine !== undefined);
            if (mine) mine.until = clock.now() + LEASE_MS;
          } else {
            if (model.some((r) => r.id === s.id && r.holder !== s.holder)) {
              await expect(reserve(s.id, s.holder, s.globs)).rejects.toMatchObject({ code: "already_exists" });
              continue;
            }
            const conflict = model.some(
              (r) =>
                r.holder !== s.holder &&
                !(r.shared && s.shared) &&
                r.globs.some((held) => s.globs.some((wanted) => globsOverlap(held, wanted))),
            );
            const outcome = await reserve(s.id, s.holder, s.globs, { mode: s.shared ? "shared" : "exclusive" });
            expect(outcome.ok, JSON.stringify({ s, model })).toBe(!conflict);
            if (outcome.ok) {
              model = model.filter((r) => r !== mine);
              model.push({ ...owner, globs: s.globs, shared: s.shared, until: clock.now() + LEASE_MS });
            }
          }
        }
        model = model.filter(({ until }) => until > clock.now());
        for (const agent of ["ann", "ben", "cem"]) {
          const held = await store.scan(prefixRange(holderPrefix(agent), 10));
          const ids = held.map((entry) => (entry.value as { id: string }).id).sort();
          expect(ids).toEqual(
            model
              .filter((r) => r.holder === agent)
              .map((r) => r.id)
              .sort(),
          );
        }
        const rows = model.reduce((sum, r) => sum + 2 + normalizeGlobs(r.globs).length, 0);
        expect(await rowsLeft()).toHaveLength(rows);
      }),
      { numRuns: 150 },
    );
  });
});
