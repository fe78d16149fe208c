import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type BatchMember, compileBatch } from "../src/batch-result.ts";
import type { ExecutionRecord } from "../src/execution-record.ts";

const T = 1_750_000_000_000;

function member(key: string, part: Partial<ExecutionRecord>): BatchMember {
  return {
    key,
    record: {
      id: `exec-${key}`,
      status: "succeeded",
      agentId: "ada",
      environment: "javascript",
      environmentVersion: 1,
      requires: {},
      priority: 5,
      runMs: 1_000,
      queueMs: 1_000_000,
      maxAttempts: 3,
      createdAt: T,
      seq: key,
      readyAt: T,
      attempt: 1,
      spent: 0,
      codeBytes: 1,
      ...part,
    },
  };
}

function ran(key: string, worker: string, from: number, to: number, part: Partial<ExecutionRecord> = {}): BatchMember {
  return member(key, {
    worker: { workerId: worker, leaseExpiresAt: T + to },
    startedAt: T + from,
    endedAt: T + to,
    result: {
      ending: { kind: "exit", code: 0 },
      usage: { wallMs: to - from - 1, cpuMs: 2 },
      stdout: { head: "", chars: 0 },
      stderr: { head: "", chars: 0 },
      files: [],
      cut: {},
    },
    ...part,
  });
}

describe("the compiled result of a batch", () => {
  test("two slots that work all the time are used fully; one that idles half of it pulls the use down", () => {
    verifies("EXEC-11");
    const full = compileBatch(
      [ran("a", "w1", 0, 100), ran("b", "w1", 0, 100), ran("c", "w1", 100, 200), ran("d", "w1", 100, 200)],
      T + 900,
    );
    expect(full).toMatchObject({ ended: true, slots: 2, elapsedMs: 200, busyMs: 400, wallMs: 396, cpuMs: 8, utilisation: 1 });
    const half = compileBatch([ran("a", "w1", 0, 200), ran("b", "w2", 0, 100)], T + 900);
    expect(half).toMatchObject({ slots: 2, elapsedMs: 200, busyMs: 300, utilisation: 0.75 });
  });

  test("members with the same environment, architecture and labels make a group with figures of its own", () => {
    verifies("EXEC-11");
    const gpu = { labels: ["gpu"] };
    const compiled = compileBatch(
      [
        ran("a", "w1", 0, 100),
        ran("b", "w2", 50, 150, { environment: "python", requires: gpu }),
        ran("c", "w2", 150, 250, { environment: "python", requires: gpu, status: "failed" }),
        ran("d", "w2", 0, 30, { environment: "python", requires: { arch: "arm64" } }),
        member("e", { status: "queued", environment: "python", requires: gpu }),
      ],
      T + 450,
    );
    expect(compiled.groups.map(({ environment, requires, tasks }) => ({ environment, requires, tasks }))).toEqual([
      { environment: "javascript", requires: {}, tasks: 1 },
      { environment: "python", requires: gpu, tasks: 3 },
      { environment: "python", requires: { arch: "arm64" }, tasks: 1 },
    ]);
    expect(compiled.groups[1]).toMatchObject({
      counts: { succeeded: 1, failed: 1, queued: 1 },
      busyMs: 200,
      elapsedMs: 450,
      slots: 1,
    });
    expect(compiled.groups[1]?.utilisation).toBeCloseTo(200 / 450);
    expect(compiled).toMatchObject({ ended: false, tasks: 5, counts: { succeeded: 3, failed: 1, queued: 1 } });
  });

  test("failures are those that ended otherwise than well, in the order given; what waits is none", () => {
    const compiled = compileBatch(
      [
        member("a", { status: "cancelled", endedAt: T }),
        member("b", { status: "blocked" }),
        ran("c", "w", 0, 5),
        member("d", { status: "failed", failure: "dependency", endedAt: T + 5 }),
        member("e", { status: "expired", endedAt: T + 5 }),
      ],
      T + 9,
    );
    expect(compiled.failures.map(({ key }) => key)).toEqual(["a", "d", "e"]);
  });

  test("before anything has begun there is no utilisation", () => {
    const compiled = compileBatch([member("a", { status: "queued" })], T + 50);
    expect(compiled).toMatchObject({ slots: 0, busyMs: 0, elapsedMs: 50, ended: false });
    expect(compiled).not.toHaveProperty("utilisation");
  });

  test("use is never above 1, slots never above what ran, and the parts add up to the whole", () => {
    const run = fc.record({
      from: fc.nat(50),
      for: fc.nat(50),
      worker: fc.constantFrom("w1", "w2", "w3"),
      environment: fc.constantFrom("javascript", "python"),
      open: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(run, { minLength: 1, maxLength: 20 }), fc.nat(80), (runs, after) => {
        const members = runs.map((one, at) => {
          const made = ran(`t${at}`, one.worker, one.from, one.from + one.for, { environment: one.environment });
          if (!one.open) return made;
          const { endedAt: _endedAt, result: _result, ...record } = made.record;
          return { ...made, record: { ...record, status: "running" as const } };
        });
        const whole = compileBatch(members, T + after);
        for (const part of [whole, ...whole.groups]) {
          if (part.utilisation === undefined) continue;
          expect(part.busyMs).toBeLessThanOrEqual(part.elapsedMs * part.slots);
          expect(part.utilisation).toBeLessThanOrEqual(1);
          expect(part.slots).toBeGreaterThanOrEqual(1);
        }
        expect(whole.slots).toBeLessThanOrEqual(runs.length);
        const sum = (of: (group: (typeof whole.groups)[number]) => number) => whole.groups.reduce((n, g) => n + of(g), 0);
        expect(sum((group) => group.tasks)).toBe(whole.tasks);
        expect(sum((group) => group.busyMs)).toBe(whole.busyMs);
        expect(sum((group) => group.wallMs)).toBe(whole.wallMs);
        expect(whole.slots).toBeLessThanOrEqual(sum((group) => group.slots));
      }),
    );
  });
});
