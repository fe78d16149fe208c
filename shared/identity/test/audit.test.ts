import { createPrivateKey, sign } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { manualClock, SwarmError, seededRandom } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { CHECKPOINT_PREFIX, parseCheckpoint } from "../src/audit/checkpoint.ts";
import { hashOf, rowAt } from "../src/audit/entry.ts";
import {
  AUDIT_PREFIX,
  type AuditEntry,
  type AuditEvent,
  type AuditLog,
  CHECKPOINT_MS,
  CHECKPOINT_ROWS,
  copiesIn,
  EXAMINED_MAX,
  LANES_MAX,
  NOTE_KINDS_MAX,
  NOTE_WINDOW_MS,
  readAudit,
  UNCOVERED_MAX,
} from "../src/audit/index.ts";
import { isSignedBy, keyIdOf, parseNote, signNote } from "../src/audit/note.ts";
import { Tree } from "../src/audit/tree.ts";
import { event, type Fate, fateful, ORIGIN, TestLog } from "./audit-support.ts";

/** An operation that writes one row and its entry. */
async function operate(log: AuditLog, store: Store, name: string, over: Partial<AuditEvent> = {}): Promise<void> {
  await log.transact(
    (plan) => store.transact(plan),
    (tx, append) => {
      tx.put(`done/${name}`, name);
      append(event({ resource: `done/${name}`, ...over }));
    },
  );
}

async function entries(log: TestLog): Promise<AuditEntry[]> {
  return [...(await readAudit(log.store, {}, { limit: 1_000 })).entries].reverse();
}

const notes = async (log: TestLog) =>
  (await log.rows(CHECKPOINT_PREFIX)).map(({ value }) => String((value as { note: string }).note));
const checkpoints = async (log: TestLog) =>
  (await notes(log)).map((note) => parseCheckpoint(parseNote(note)?.text ?? "") ?? expect.fail("no checkpoint"));

describe("an entry", () => {
  test("is one commit with the operation: neither is there without the other", async () => {
    verifies("SEC-09");
    const log = new TestLog();
    const process = log.process();
    await operate(process, log.store, "a");
    const refused = process.transact(
      (plan) => log.store.transact(plan),
      (tx, append) => {
        tx.put("done/b", "b");
        append(event());
        throw new SwarmError("conflict", "Lost a race.");
      },
    );
    await expect(refused).rejects.toMatchObject({ code: "conflict" });
    await operate(process, log.store, "c");
    expect((await log.rows("done/")).map(({ key }) => key)).toEqual(["done/a", "done/c"]);
    expect(await entries(log)).toMatchObject([
      { seq: 1, resource: "done/a", at: log.clock.now(), processId: "process-1", agentId: "build-7", outcome: "permit" },
      { seq: 2, resource: "done/c", policyIds: ["workers"], tool: "claim_task", reason: "permitted", verified: true },
    ]);
    expect(await log.verify()).toMatchObject({ ok: true, rows: 2, chains: 1, uncovered: 2 });
  });

  test("that cannot be written keeps its operation from taking place", async () => {
    verifies("SEC-09");
    const log = new TestLog();
    const full = new Proxy(log.store, {
      get: (target, name) => {
        if (name === "transact") return () => Promise.reject(new SwarmError("limit_exceeded", "The disk is full."));
        return Reflect.get(target, name, target);
      },
    });
    const process = log.process({ store: full });
    await expect(operate(process, full, "a")).rejects.toMatchObject({ code: "limit_exceeded" });
    await expect(process.note(event())).rejects.toMatchObject({ code: "limit_exceeded" });
    await expect(process.write(event())).rejects.toMatchObject({ code: "limit_exceeded" });
    await process.close();
    await expect(operate(process, log.store, "a")).rejects.toMatchObject({ code: "unavailable" });
    await expect(process.note(event())).rejects.toMatchObject({ code: "unavailable" });
    expect(await log.rows("done/")).toEqual([]);
  });

  test("of a transaction that appends several keeps their order", async () => {
    const log = new TestLog();
    await log.process().transact(
      (plan) => log.store.transact(plan),
      (_, append) => {
        for (const resource of ["a", "b", "c"]) append(event({ resource }));
      },
    );
    expect((await entries(log)).map(({ seq, resource }) => [seq, resource])).toEqual([
      [1, "a"],
      [2, "b"],
      [3, "c"],
    ]);
    expect(await log.verify()).toMatchObject({ ok: true, rows: 3 });
  });

  test("is cut to its bounds and holds well-formed text, so that nothing a caller says can keep it from being written", async () => {
    const log = new TestLog();
    const long = `${"x".repeat(255)}\u{1f600}${"y".repeat(100_000)}`;
    const hostile = { agentId: long, operation: long, resource: long, reason: long, tool: long, details: long };
    await log.process().write(event({ ...hostile, policyIds: Array.from({ length: 100 }, () => long) }));
    await log.process().write(event({ resource: "\ud800 \0 \u2028 :x" }));
    const [first, second] = await log.rows(AUDIT_PREFIX);
    expect(JSON.stringify(first?.value).length).toBeLessThan(3_000);
    expect((await entries(log))[0]?.resource).toBe(`${"x".repeat(255)}\ufffd`);
    expect(second?.value).toMatchObject({ resource: "\ufffd \0 \u2028 :x" });
    expect(await log.verify()).toMatchObject({ ok: true, rows: 2 });
  });

  test("has another hash when any of its members is another, also when text moves from one to the next", () => {
    const text = fc.string({ maxLength: 6, unit: "grapheme-composite" });
    const some = fc.record(
      {
        agentId: text,
        verified: fc.boolean(),
        operation: text,
        resource: text,
        outcome: fc.constantFrom("permit" as const, "deny" as const),
        reason: text,
        policyIds: fc.array(text, { minLength: 1, maxLength: 3 }),
        tool: text,
        count: fc.integer({ min: 1, max: 20 }),
        details: text,
      },
      { requiredKeys: ["agentId", "verified", "operation", "resource", "outcome", "reason"] },
    );
    const row = fc.record({ event: some, seq: fc.integer({ min: 1, max: 12 }), at: fc.integer({ min: 0, max: 12 }), prev: text });
    fc.assert(
      fc.property(row, row, (a, b) => {
        const [left, right] = [a, b].map(({ event, seq, at, prev }) => rowAt({ chain: "c-1", seq, at }, "p", event, prev));
        if (JSON.stringify(a) === JSON.stringify(b)) return;
        const { hash: _, ...one } = left ?? expect.fail();
        const { hash: __, ...other } = right ?? expect.fail();
        expect(hashOf(one) === hashOf(other)).toBe(sorted(one) === sorted(other));
      }),
      { numRuns: 2_000 },
    );
    const shifts: Partial<AuditEvent>[] = [
      {},
      { agentId: "other" },
      { verified: false },
      { outcome: "deny" },
      { count: 1 },
      { operation: "ab", resource: "c" },
      { operation: "a", resource: "bc" },
      { policyIds: ["ab"] },
      { policyIds: ["a", "b"] },
      { tool: "x" },
      { details: "x" },
      { reason: "1:a,1:b," },
    ];
    const hashes = shifts.map((over) => rowAt({ chain: "c-1", seq: 1, at: 1 }, "p", event(over), undefined).hash);
    const place = { chain: "c-1", seq: 1, at: 1 };
    for (const over of [{ chain: "c-2" }, { seq: 2 }, { at: 2 }])
      hashes.push(rowAt({ ...place, ...over }, "p", event(), undefined).hash);
    hashes.push(rowAt(place, "q", event(), undefined).hash, rowAt(place, "p", event(), "x").hash);
    expect(new Set(hashes).size).toBe(shifts.length + 5);
  });
});

const sorted = (value: object) => JSON.stringify(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));

describe("chains", () => {
  test("are one for whoever calls one at a time, and as many as calls at once, up to a bound", async () => {
    const log = new TestLog();
    const process = log.process();
    for (let n = 0; n < 10; n++) await operate(process, log.store, `one-${n}`);
    expect(await log.verify()).toMatchObject({ ok: true, rows: 10, chains: 1 });
    await Promise.all(Array.from({ length: 200 }, (_, n) => operate(process, log.store, `all-${n}`)));
    expect(await log.verify()).toMatchObject({ ok: true, rows: 210, chains: LANES_MAX });
    expect(await log.rows("done/")).toHaveLength(210);
  });

  test("are given to waiting calls in the order in which they came, and one that fails gives its chain on", async () => {
    const log = new TestLog();
    const process = log.process();
    const begun: number[] = [];
    const release: (() => void)[] = [];
    const calls = Array.from({ length: LANES_MAX * 3 }, (_, n) =>
      process.transact<void>(
        async (plan) => {
          begun.push(n);
          await new Promise<void>((resolve) => release.push(resolve));
          if (n % 2 === 0) throw new Error("failed");
          await log.store.transact(plan);
        },
        (_tx, append) => append(event({ resource: `call/${n}` })),
      ),
    );
    const settled = Promise.allSettled(calls);
    for (let n = 0; n < calls.length; n++) {
      await expect.poll(() => release.length).toBeGreaterThan(n);
      expect(begun.length).toBeLessThanOrEqual(n + LANES_MAX);
      release[n]?.();
    }
    await settled;
    expect(begun).toEqual(calls.map((_, n) => n));
    expect(await log.verify()).toMatchObject({ ok: true, rows: calls.length / 2 });
  });

  test("never go back in time, whatever the store's clock does", async () => {
    let now = 1_000_000;
    const log = new TestLog(new MemoryStore());
    const store = new Proxy(log.store, {
      get: (target, name) =>
        name === "transact"
          ? (plan: Parameters<Store["transact"]>[0]) => target.transact((tx) => plan({ ...tx, now }))
          : Reflect.get(target, name, target).bind(target),
    });
    const process = log.process({ store });
    for (const step of [0, 10, -500, 3, -1, 800]) {
      now += step;
      await operate(process, store, `at-${now}`);
    }
    expect((await entries(log)).map(({ at }) => at - 1_000_000)).toEqual([0, 10, 10, 10, 10, 312]);
    expect(await log.verify()).toMatchObject({ ok: true, rows: 6, chains: 1 });
  });

  test("stay whole whatever becomes of commits, and hold an entry for each operation that took place and for no other", async () => {
    verifies("SEC-09");
    const fates: Fate[] = ["well", "well", "rerun", "lost before", "lost after", "late"];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...fates), { minLength: 1, maxLength: 60 }), fc.integer(), async (told, seed) => {
        const log = new TestLog();
        const random = seededRandom(seed);
        let next = 0;
        const store = fateful(log.store, () => told[next++ % told.length] ?? "well");
        const processes = [log.process({ store }), log.process({ store, agent: "test-2" })];
        const acknowledged: string[] = [];
        for (let round = 0; round < 8; round++) {
          const names = Array.from({ length: 1 + random.integer(6) }, (_, n) => `${round}-${n}`);
          await Promise.all(
            names.map(async (name) => {
              try {
                await operate(processes[random.integer(2)] as AuditLog, store, name);
                acknowledged.push(`done/${name}`);
              } catch (error) {
                expect(error).toMatchObject({ code: "unavailable" });
              }
            }),
          );
          if (random.integer(3) === 0) await log.clock.advance(CHECKPOINT_MS);
        }
        told.splice(0, told.length, "well");
        for (const process of processes) await process.close();
        const report = await log.verify();
        expect(report.firstBad).toBeUndefined();
        const done = (await log.rows("done/")).map(({ key }) => key).sort();
        expect((await entries(log)).map(({ resource }) => resource).sort()).toEqual(done);
        expect(done).toEqual(expect.arrayContaining(acknowledged));
        // what nobody knew to have been written is all that no checkpoint covers
        expect(report.uncovered).toBeLessThanOrEqual(done.length - acknowledged.length);
      }),
      { numRuns: 150 },
    );
  });
});

describe("events that are alike", () => {
  test("are written once and then counted, so that a flood is two entries", async () => {
    verifies("SEC-12");
    const log = new TestLog();
    const process = log.process();
    const flood = event({ outcome: "deny", reason: "no_policy" });
    await process.note(flood);
    expect(await entries(log)).toHaveLength(1);
    await Promise.all(Array.from({ length: 100_000 }, () => process.note(flood)));
    expect(await entries(log)).toHaveLength(1);
    await log.clock.advance(NOTE_WINDOW_MS);
    expect(await entries(log)).toMatchObject([
      { outcome: "deny", at: log.clock.now() - NOTE_WINDOW_MS },
      { outcome: "deny", count: 100_000, resource: flood.resource, at: log.clock.now() },
    ]);
    await log.clock.advance(NOTE_WINDOW_MS * 2);
    await process.note(flood);
    await process.close();
    expect(await entries(log)).toHaveLength(3);
    expect(await log.verify()).toMatchObject({ ok: true, uncovered: 0 });
  });

  test("are told apart by agent, operation, resource, outcome and reason, and counted each", async () => {
    const log = new TestLog();
    const process = log.process();
    const kinds = [
      {},
      { agentId: "build-7/sub" },
      { operation: "task:read" },
      { resource: "task/b" },
      { outcome: "deny" as const },
      { reason: "other" },
    ];
    for (let times = 1; times <= 3; times++) for (const over of kinds) await process.note(event(over));
    expect(await entries(log)).toHaveLength(kinds.length);
    await process.close();
    const all = await entries(log);
    expect(all).toHaveLength(kinds.length * 2);
    expect(all.slice(kinds.length)).toMatchObject(kinds.map((over) => ({ ...over, count: 2 })));
  });

  test("are answered only when the first is written; when it cannot be, none is, and the next is the first again", async () => {
    const log = new TestLog();
    let fate: Fate = "lost before";
    const process = log.process({ store: fateful(log.store, () => fate) });
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => process.note(event())));
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => "rejected"));
    expect(await entries(log)).toEqual([]);
    fate = "well";
    await process.note(event());
    await process.close();
    expect(await entries(log)).toMatchObject([{ resource: "task/a" }]);
    expect(log.errors).toEqual([]);
  });

  test("of more kinds than are told apart are each written, and what is counted stays bounded", async () => {
    const log = new TestLog();
    const process = log.process();
    const note = (n: number) => process.note(event({ resource: `task/${n}` }));
    await Promise.all(Array.from({ length: NOTE_KINDS_MAX }, (_, n) => note(n)));
    for (let n = 0; n < 5; n++) await note(NOTE_KINDS_MAX + 1);
    await note(3);
    expect(await log.rows(AUDIT_PREFIX)).toHaveLength(NOTE_KINDS_MAX + 5);
  });

  test("keep their count when it cannot be written, until it can", async () => {
    const log = new TestLog();
    let fate: Fate = "well";
    const process = log.process({ store: fateful(log.store, () => fate) });
    for (let n = 0; n < 4; n++) await process.note(event());
    fate = "lost before";
    await log.clock.advance(NOTE_WINDOW_MS);
    expect(log.errors).not.toEqual([]);
    fate = "well";
    await log.clock.advance(NOTE_WINDOW_MS);
    expect(await entries(log)).toMatchObject([{ seq: 1 }, { count: 3 }]);
    expect(await log.verify()).toMatchObject({ ok: true });
  });

  test("at once share commits", async () => {
    const log = new TestLog();
    let commits = 0;
    const store = fateful(log.store, () => {
      commits += 1;
      return "well";
    });
    const process = log.process({ store });
    await Promise.all(Array.from({ length: 301 }, (_, n) => process.write(event({ resource: `task/${n}` }))));
    expect(await log.rows(AUDIT_PREFIX)).toHaveLength(301);
    expect(commits).toBeLessThan(20);
  });
});

describe("a checkpoint", () => {
  test("is made every so many entries, and when one has waited for a minute, and not when there is nothing new", async () => {
    verifies("SEC-09");
    const log = new TestLog();
    const process = log.process();
    for (let n = 0; n < CHECKPOINT_ROWS - 1; n++) await operate(process, log.store, `${n}`);
    await log.clock.advance(CHECKPOINT_MS - 1);
    expect(await checkpoints(log)).toEqual([]);
    await operate(process, log.store, "last");
    await expect.poll(() => checkpoints(log)).toMatchObject([{ size: CHECKPOINT_ROWS, heads: [{ seq: CHECKPOINT_ROWS }] }]);
    await log.clock.advance(CHECKPOINT_MS * 3);
    expect(await checkpoints(log)).toHaveLength(1);
    await operate(process, log.store, "more");
    await log.clock.advance(CHECKPOINT_MS);
    expect((await checkpoints(log))[1]).toMatchObject({ size: CHECKPOINT_ROWS + 1, heads: [{ ended: false }] });
    expect(await log.verify()).toMatchObject({ ok: true, uncovered: 0, checkpoints: 2 });
  });

  test("at the end says that the chains have ended, also when they hold nothing new", async () => {
    const log = new TestLog();
    const process = log.process();
    await Promise.all([operate(process, log.store, "a"), operate(process, log.store, "b")]);
    await process.seal();
    await operate(process, log.store, "c");
    await process.close();
    await process.close();
    expect(await checkpoints(log)).toMatchObject([
      { size: 2, heads: [{ ended: false }, { ended: false }] },
      { size: 3, heads: [{ ended: true }, { ended: true }] },
    ]);
    expect(await log.verify()).toMatchObject({ ok: true, uncovered: 0 });
    await log.process().close();
    expect(await checkpoints(log)).toHaveLength(2);
  });

  test("of all processes is one sequence, each naming the one before", async () => {
    const log = new TestLog();
    const processes = Array.from({ length: 5 }, (_, n) => log.process({ agent: `agent-${n}` }));
    for (let round = 0; round < 4; round++) {
      await Promise.all(processes.map((process, n) => operate(process, log.store, `${round}-${n}`)));
      await Promise.all(processes.map((process) => process.seal()));
    }
    const made = await checkpoints(log);
    expect(made.map(({ size }) => size)).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
    expect(made.map(({ after }) => after === undefined)).toEqual(made.map((_, n) => n === 0));
    expect(await log.verify()).toMatchObject({ ok: true, rows: 20, checkpoints: 20, uncovered: 0 });
  });

  test("is signed by the key of the moment", async () => {
    const log = new TestLog();
    let signer = log.signer("build-7");
    const old = signer;
    const process = log.process({ signer: () => signer });
    await operate(process, log.store, "a");
    await process.seal();
    signer = log.signer("build-7");
    await operate(process, log.store, "b");
    await process.close();
    const [first, second] = (await notes(log)).map((note) => parseNote(note) ?? expect.fail());
    expect([first, second].map((note) => note && isSignedBy(note, old.publicKey))).toEqual([true, false]);
    expect(second && isSignedBy(second, signer.publicKey)).toBe(true);
    expect(await log.verify()).toMatchObject({ ok: true });
  });

  test("covers thousands of entries in pieces", async () => {
    const log = new TestLog();
    let fate: Fate = "lost before";
    const broken = fateful(log.store, () => fate);
    const process = log.process({ store: broken });
    for (let n = 0; n < 250; n++) {
      await process.transact(
        (plan) => log.store.transact(plan),
        (_, append) => {
          for (let i = 0; i < 10; i++) append(event({ resource: `task/${n}-${i}` }));
        },
      );
    }
    expect(log.errors.length).toBeLessThan(5); // a checkpoint that fails is not tried again at each entry
    fate = "well";
    await process.close();
    expect((await checkpoints(log)).map(({ size }) => size)).toEqual([CHECKPOINT_ROWS, 1_100, 2_100, 2_500]);
    expect(await log.verify()).toMatchObject({ ok: true, uncovered: 0 });
  });

  test("that can never be made closes the log before it grows without bound", async () => {
    const log = new TestLog();
    const process = log.process({
      signer: () => {
        throw new SwarmError("unavailable", "No key.");
      },
    });
    const many = (tx: unknown, append: (event: AuditEvent) => void) => {
      expect(tx).toBeDefined();
      for (let n = 0; n < 500; n++) append(event({ resource: `task/${n}` }));
    };
    for (let n = 0; n < UNCOVERED_MAX / 500; n++) await process.transact((plan) => log.store.transact(plan), many);
    await expect(operate(process, log.store, "a")).rejects.toMatchObject({ code: "unavailable" });
    await expect(process.note(event())).rejects.toMatchObject({ code: "unavailable" });
    expect(log.errors[0]).toMatchObject({ message: "No key." });
    expect(await log.rows("done/")).toEqual([]);
  });

  test("does not follow one that was damaged, and says so", async () => {
    const log = new TestLog();
    const process = log.process();
    await operate(process, log.store, "a");
    await process.seal();
    const [row] = await log.rows(CHECKPOINT_PREFIX);
    await log.store.transact((tx) => tx.put(row?.key ?? "", { note: "nothing", tree: [] }));
    await operate(process, log.store, "b");
    await process.seal();
    expect(log.errors).toMatchObject([{ code: "internal" }]);
    expect(await log.rows(CHECKPOINT_PREFIX)).toHaveLength(1);
  });
});

describe("copies of checkpoints", () => {
  const inFolder = async (work: (path: string) => Promise<void>) => {
    const folder = await mkdtemp(join(tmpdir(), "audit-"));
    try {
      await work(join(folder, "kept", "checkpoints"));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };

  test("are kept in a file that only its owner may read, and are all in the store", async () => {
    await inFolder(async (copyTo) => {
      const log = new TestLog();
      const processes = [log.process({ copyTo }), log.process({ copyTo, agent: "test-2" })];
      for (const process of processes) {
        await operate(process, log.store, "a");
        await process.seal();
      }
      for (const process of processes) await process.close();
      expect((await stat(copyTo)).mode & 0o777).toBe(0o600);
      const copies = copiesIn(await readFile(copyTo, "utf8"));
      expect(copies).toEqual(await notes(log));
      expect(await log.verify(copies)).toMatchObject({ ok: true });
    });
  });

  test("stand by themselves after one that a killed process did not finish", async () => {
    await inFolder(async (copyTo) => {
      const log = new TestLog();
      const first = log.process({ copyTo });
      await operate(first, log.store, "a");
      await first.close();
      const whole = await readFile(copyTo, "utf8");
      await writeFile(copyTo, `${whole}${whole.slice(0, 40)}`);
      const second = log.process({ copyTo });
      await operate(second, log.store, "b");
      await second.close();
      const copies = copiesIn(await readFile(copyTo, "utf8"));
      expect(copies).toEqual(await notes(log));
    });
  });

  test("that cannot be written are told, hold nothing up, and are written later", async () => {
    await inFolder(async (copyTo) => {
      const log = new TestLog();
      await writeFile(join(copyTo, "..", "..", "kept"), "a file where the folder would be");
      const process = log.process({ copyTo });
      await operate(process, log.store, "a");
      await process.seal();
      expect(log.errors).toHaveLength(1);
      await rm(join(copyTo, ".."));
      await operate(process, log.store, "b");
      await process.close();
      expect(copiesIn(await readFile(copyTo, "utf8"))).toEqual(await notes(log));
    });
  });
});

describe("the form of checkpoints", () => {
  test("is that of signed notes: a vector of the Go implementation", () => {
    const source =
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n" +
      "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const publicKey = Buffer.from(verifier.split("+").slice(2).join("+"), "base64").subarray(1).toString("base64url");
    expect(keyIdOf("PeterNeumann", publicKey)).toBe("c74f20a3");
    const note = parseNote(source) ?? expect.fail();
    expect(isSignedBy(note, publicKey)).toBe(true);
    expect(isSignedBy({ ...note, text: note.text.replace("cryptography", "Cryptography") }, publicKey)).toBe(false);
    // the private key of the same documentation, its seed in the form of RFC 8410
    const seed = Buffer.from("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz", "base64").subarray(1);
    const key = createPrivateKey({
      key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]),
      format: "der",
      type: "pkcs8",
    });
    expect(signNote(note.text, { name: "PeterNeumann", publicKey, sign: (bytes) => sign(null, bytes, key) })).toBe(source);
  });

  test("takes no note that is written another way", () => {
    const log = new TestLog();
    const signer = log.signer("build-7");
    const note = signNote("text\n", signer);
    expect(parseNote(note)).toMatchObject({ text: "text\n", signature: { name: "build-7" } });
    const signature = note.slice(note.indexOf("—"));
    const others = [
      note.slice(0, -1),
      `${note}\n`,
      note.replace("\n\n", "\n"),
      note.replace("\n", "\r\n"),
      note.replace("—", "-"),
      note.replace("build-7", "build+7"),
      note.replace("build-7 ", "build 7 "),
      note.replace(/=*\n$/, "\n"),
      `${note}${signature}`,
      note.replace("text", "te\0xt"),
      note.replace("text", "te\ud800xt"),
    ];
    for (const other of others) expect(parseNote(other), JSON.stringify(other)).toBeUndefined();
  });

  test("is that of checkpoints of transparency logs, with a root that their tools compute", async () => {
    verifies("SEC-09");
    const log = new TestLog();
    const process = log.process();
    await operate(process, log.store, "a");
    await operate(process, log.store, "b");
    await process.close();
    const [source = ""] = await notes(log);
    const rows = (await log.rows(AUDIT_PREFIX)).map(({ value }) => String((value as { hash: string }).hash));
    const tree = new Tree();
    for (const hash of rows) tree.append(Buffer.from(hash, "base64url"));
    const chain = (await entries(log))[0]?.chain;
    const lines = [ORIGIN, "2", tree.root().toString("base64"), `end ${chain} 2 ${rows[1]}`];
    expect(parseNote(source)?.text).toBe(`${lines.join("\n")}\n`);
    expect(parseCheckpoint(lines.join("\n"))).toBeUndefined();
    for (const [from, to] of [
      ["\n2\n", "\n02\n"],
      ["\n2\n", "\n2.0\n"],
      [`end ${chain}`, `stop ${chain}`],
      [`${chain} 2`, `${chain} +2`],
    ] as const) {
      expect(parseCheckpoint(`${lines.join("\n").replace(from, to)}\n`)).toBeUndefined();
    }
  });

  test("has the tree of RFC 6962: its known roots", () => {
    const leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const roots = [
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
      "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
      "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
      "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let tree = new Tree();
    expect(tree.root().toString("hex")).toBe(roots[0]);
    for (const [n, leaf] of leaves.entries()) {
      tree = new Tree(tree.size, tree.roots); // as it is kept between checkpoints
      tree.append(Buffer.from(leaf, "hex"));
      expect(tree.root().toString("hex")).toBe(roots[n + 1]);
    }
  });
});

describe("reading", () => {
  const filled = async (count: number) => {
    const log = new TestLog(new MemoryStore({ clock: manualClock(1_000) }), manualClock(1_000));
    let now = 1_000;
    const store = new Proxy(log.store, {
      get: (target, name) =>
        name === "transact"
          ? (plan: Parameters<Store["transact"]>[0]) => target.transact((tx) => plan({ ...tx, now }))
          : Reflect.get(target, name, target).bind(target),
    });
    const processes = [log.process({ store }), log.process({ store })];
    for (let n = 0; n < count; n++) {
      now = 1_000 + n;
      const agentId = n % 3 === 0 ? "build-7" : n % 3 === 1 ? "build-7/sub" : "build-70";
      const over = {
        agentId,
        operation: n % 2 === 0 ? "task:claim" : "task:read",
        outcome: n % 5 === 0 ? ("deny" as const) : ("permit" as const),
      };
      await operate(processes[n % 2] as AuditLog, store, `${n}`, over);
    }
    return log;
  };

  test("gives the newest first, of all processes, a page at a time", async () => {
    const log = await filled(57);
    const seen: string[] = [];
    let before: string | undefined;
    for (let pages = 0; pages < 7; pages++) {
      const page = await readAudit(log.store, {}, { limit: 10, ...(before === undefined ? {} : { before }) });
      seen.push(...page.entries.map(({ resource }) => resource));
      before = page.next;
      if (before === undefined) break;
    }
    expect(before).toBeUndefined();
    expect(seen).toEqual(Array.from({ length: 57 }, (_, n) => `done/${56 - n}`));
  });

  test("finds by agent with its subagents, operation, resource, outcome and time", async () => {
    const log = await filled(60);
    const find = async (filter: Parameters<typeof readAudit>[1]) =>
      (await readAudit(log.store, filter, { limit: 100 })).entries.map(({ resource }) => Number(resource.slice(5))).reverse();
    const numbers = Array.from({ length: 60 }, (_, n) => n);
    expect(await find({ agentId: "build-7" })).toEqual(numbers.filter((n) => n % 3 < 2));
    expect(await find({ agentId: "build-7/sub" })).toEqual(numbers.filter((n) => n % 3 === 1));
    expect(await find({ operation: "task:read" })).toEqual(numbers.filter((n) => n % 2 === 1));
    expect(await find({ operation: "task:*", resource: "done/1*" })).toEqual(numbers.filter((n) => String(n).startsWith("1")));
    expect(await find({ operation: "task" })).toEqual([]);
    expect(await find({ outcome: "deny", agentId: "build-70" })).toEqual(numbers.filter((n) => n % 15 === 5));
    expect(await find({ since: 1_010, until: 1_020 })).toEqual(numbers.slice(10, 20));
    expect(await find({ since: 1_059 })).toEqual([59]);
    expect(await find({ since: 1_020, until: 1_010 })).toEqual([]);
  });

  test("looks at a bounded part of the log at once and says where it stopped", async () => {
    const log = new TestLog();
    const process = log.process();
    await process.write(event({ agentId: "rare" }));
    for (let n = 0; n < EXAMINED_MAX / 500; n++) {
      await process.transact(
        (plan) => log.store.transact(plan),
        (_, append) => {
          for (let i = 0; i < 500; i++) append(event());
        },
      );
    }
    let scanned = 0;
    const store = {
      scan: async (range: Parameters<Store["scan"]>[0]) => {
        const found = await log.store.scan(range);
        scanned += found.length;
        return found;
      },
    };
    const first = await readAudit(store, { agentId: "rare" }, { limit: 10 });
    expect(first.entries).toEqual([]);
    expect(scanned).toBe(EXAMINED_MAX);
    const second = await readAudit(store, { agentId: "rare" }, { limit: 10, before: first.next ?? "" });
    expect(second).toMatchObject({ entries: [{ agentId: "rare" }] });
    expect(second.next).toBeUndefined();
    const rows = await log.rows(AUDIT_PREFIX);
    await log.store.transact((tx) => tx.put(rows.at(-1)?.key ?? "", { agentId: "rare" }));
    expect(await readAudit(store, {}, { limit: 1 })).toMatchObject({ unreadable: 1, entries: [{ seq: EXAMINED_MAX }] });
  });
});
