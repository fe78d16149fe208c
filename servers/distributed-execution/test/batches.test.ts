import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { BATCH_TASKS_MAX, type BatchTask } from "../src/batch-plan.ts";
import type { SubmitBatch } from "../src/batches.ts";
import { inputKey, prefixes, type StoredInput } from "../src/execution-layer.ts";
import type { ExecutionStatus } from "../src/execution-record.ts";
import { type BatchSwarm, batchSwarm } from "./support/batch-swarm.ts";

const FAILS = { ending: { kind: "exit", code: 1 } } as const;
const js = { code: "1 + 1", environment: "javascript" };

/** Submits it, and finds its members by their keys. */
async function submitted(swarm: BatchSwarm, input: SubmitBatch, agentId = "ada") {
  const { id: batchId } = await swarm.batches.submit(swarm.call(agentId), input);
  const standing = () => swarm.batches.get(swarm.call(agentId), { batchId, limit: BATCH_TASKS_MAX });
  const { batch } = await standing();
  const ids = new Map(batch.members);
  const id = (key: string) => ids.get(key) ?? "";
  const statuses = async (): Promise<Record<string, string>> => {
    const { page } = await standing();
    return Object.fromEntries(
      page.map(({ key, record }) => [key, record.failure ? `${record.status}: ${record.failure}` : record.status]),
    );
  };
  const keyOf = (wanted: string) => batch.members.find(([, one]) => one === wanted)?.[0] ?? "";
  const ready = async () => (await swarm.ready()).map(keyOf).sort();
  const run = async (key: string, how?: Parameters<BatchSwarm["finish"]>[1]) => {
    await swarm.claim(id(key));
    await swarm.finish(id(key), how);
  };
  return { batchId, id, statuses, standing, ready, run };
}

describe("a batch", () => {
  test("queues what waits for nothing, and the rest when what it waits for has succeeded", async () => {
    verifies("EXEC-11");
    const swarm = batchSwarm();
    const batch = await submitted(swarm, {
      tasks: [{ key: "a" }, { key: "b" }, { key: "c", dependencies: ["a", "b"] }, { key: "d", dependencies: ["c"] }],
      defaults: js,
    });
    expect(await batch.ready()).toEqual(["a", "b"]);
    await batch.run("a");
    expect(await batch.ready()).toEqual(["b"]);
    await batch.run("b");
    expect(await batch.ready()).toEqual(["c"]);
    await batch.run("c");
    await batch.run("d");
    expect((await batch.standing()).compiled).toMatchObject({ ended: true, counts: { succeeded: 4 }, failures: [] });
  });

  test("fails what waited for a failure, all the way down, but for those that run whatever came of it", async () => {
    verifies("EXEC-11");
    const swarm = batchSwarm();
    const batch = await submitted(swarm, {
      tasks: [
        { key: "a" },
        { key: "b", dependencies: ["a"] },
        { key: "c", dependencies: ["b"] },
        { key: "clean", dependencies: ["b"], after: "any" },
        { key: "other" },
      ],
      defaults: js,
    });
    await batch.run("a", FAILS);
    expect(await batch.statuses()).toEqual({
      ...{ a: "failed", b: "failed: dependency", c: "failed: dependency", clean: "queued", other: "queued" },
    });
  });

  test("is added whole or not at all", async () => {
    verifies("EXEC-11");
    const swarm = batchSwarm();
    const bad: SubmitBatch[] = [
      {
        tasks: [
          { key: "a", ...js },
          { key: "b", ...js, environment: "cobol" },
        ],
      },
      {
        tasks: [
          { key: "a", ...js },
          { key: "b", ...js, files: [{ path: "f", artifactId: "art-none" }] },
        ],
      },
      {
        tasks: [
          { key: "a", ...js },
          { key: "b", ...js, timeout: 3_600_000 },
        ],
      },
      {
        tasks: [
          { key: "a", ...js },
          { key: "b", ...js, args: Array.from({ length: 65 }, () => "x") },
        ],
      },
      {
        tasks: [
          { key: "a", ...js, dependencies: ["b"] },
          { key: "b", ...js, dependencies: ["a"] },
        ],
      },
      { tasks: [{ key: "a", ...js }], maxConcurrency: 0 },
    ];
    for (const input of bad)
      await expect(swarm.batches.submit(swarm.call("ada"), input)).rejects.toMatchObject({ name: "SwarmError" });
    expect(await swarm.ready()).toEqual([]);
    expect(await swarm.store.scan({ from: "exec-batch/", before: "exec-batch0", limit: 10 })).toEqual([]);
    expect(await swarm.store.scan({ from: prefixes.executions, before: "exec0", limit: 10 })).toEqual([]);
  });

  test("says which of its tasks is wrong", async () => {
    const swarm = batchSwarm();
    const input = {
      tasks: [
        { key: "a", ...js },
        { key: "wide", ...js, priority: 10 },
      ],
    };
    await expect(swarm.batches.submit(swarm.call("ada"), input)).rejects.toThrow(/^Task wide: "priority" is out of bounds/);
  });

  test("hands the file that one task made to those that wait for it; who needs one that was not made fails", async () => {
    verifies("EXEC-11", "EXEC-12");
    const swarm = batchSwarm();
    const batch = await submitted(swarm, {
      tasks: [
        { key: "make" },
        { key: "use", files: [{ path: "data/in.csv", from: "make", output: "table.csv" }] },
        { key: "same", files: [{ path: "table.csv", from: "make" }] },
        { key: "miss", files: [{ path: "x", from: "make", output: "none.csv" }] },
        { key: "behind", dependencies: ["miss"] },
      ],
      defaults: js,
    });
    await batch.run("make", { files: { "table.csv": "1,2" } });
    expect(await batch.statuses()).toEqual({
      ...{ make: "succeeded", use: "queued", same: "queued", miss: "failed: dependency", behind: "failed: dependency" },
    });
    const input = (await swarm.store.get(inputKey(batch.id("use"))))?.value as unknown as StoredInput;
    expect(input.files).toEqual([{ path: "data/in.csv", artifactId: `art-${batch.id("make")}-0` }]);
  });

  test("that stops at the first failure cancels what waits and asks to kill what runs", async () => {
    const swarm = batchSwarm();
    const batch = await submitted(swarm, {
      tasks: ["a", "b", "c", "d"].map((key) => ({ key })),
      defaults: js,
      maxConcurrency: 2,
      stopOnFailure: true,
    });
    const [first = "", second = ""] = await batch.ready();
    await swarm.claim(batch.id(first));
    await swarm.claim(batch.id(second));
    await swarm.finish(batch.id(first), FAILS);
    const after = await batch.statuses();
    expect(after[first]).toBe("failed");
    expect(after[second]).toBe("running");
    expect(Object.values(after).filter((status) => status === "cancelled")).toHaveLength(2);
    expect((await swarm.record(batch.id(second)))?.cancelRequestedAt).toBeDefined();
    await swarm.finish(batch.id(second), { ending: { kind: "killed" } });
    expect((await batch.standing()).compiled).toMatchObject({ ended: true, counts: { failed: 1, cancelled: 3 } });
  });

  test("is cancelled whole by its own agent and that one's subagents alone", async () => {
    const swarm = batchSwarm();
    const batch = await submitted(swarm, {
      tasks: [{ key: "a" }, { key: "b" }, { key: "c", dependencies: ["b"] }],
      defaults: js,
    });
    await batch.run("a");
    await swarm.claim(batch.id("b"));
    const cancel = (agentId: string) => swarm.batches.cancel(swarm.call(agentId), { batchId: batch.batchId });
    await expect(cancel("bob")).rejects.toMatchObject({ code: "permission_denied" });
    expect(await cancel("ada/helper")).toEqual({ open: 2 });
    await swarm.finish(batch.id("b"), { ending: { kind: "killed" } });
    expect(await batch.statuses()).toEqual({ a: "succeeded", b: "cancelled", c: "cancelled" });
    expect(await cancel("ada")).toEqual({ open: 0 });
  });

  test("of 500 tasks with shared code keeps that code once, and never has more queued than it may", async () => {
    verifies("EXEC-11");
    const swarm = batchSwarm();
    const code = `// ${"x".repeat(50_000)}`;
    const tasks = Array.from({ length: BATCH_TASKS_MAX }, (_, n) => ({ key: `t${n}`, args: [String(n)] }));
    const batch = await submitted(swarm, { tasks, defaults: { ...js, code }, maxConcurrency: 7 });
    expect(await swarm.store.scan({ from: "exec-text/", before: "exec-text0", limit: 10 })).toHaveLength(1);
    let ran = 0;
    for (let ready = await swarm.ready(); ready.length > 0; ready = await swarm.ready()) {
      expect(ready.length).toBeLessThanOrEqual(7);
      await swarm.claim(ready[0] ?? "");
      await swarm.finish(ready[0] ?? "");
      ran += 1;
    }
    expect(ran).toBe(BATCH_TASKS_MAX);
    expect((await batch.standing()).compiled).toMatchObject({ ended: true, counts: { succeeded: BATCH_TASKS_MAX } });
  });

  test("is read page by page in the order it was given", async () => {
    const swarm = batchSwarm();
    const tasks = Array.from({ length: 7 }, (_, n) => ({ key: `t${n}` }));
    const { id: batchId } = await swarm.batches.submit(swarm.call("ada"), { tasks, defaults: js });
    const keys: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 4; page++) {
      const { page: members, cursorAfter } = await swarm.batches.get(swarm.call("bob"), { batchId, limit: 3, cursor });
      keys.push(...members.map(({ key }) => key));
      cursor = cursorAfter(members.length - 1);
      if (cursor === undefined) break;
    }
    expect(keys).toEqual(tasks.map(({ key }) => key));
    await expect(swarm.batches.get(swarm.call("ada"), { batchId: "batch-none" })).rejects.toMatchObject({ code: "not_found" });
    await expect(swarm.batches.get(swarm.call("ada"), { batchId, cursor: "b" })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  test("is waited for until its last task has ended, and no longer than asked", async () => {
    const swarm = batchSwarm();
    const batch = await submitted(swarm, { tasks: [{ key: "a" }, { key: "b" }], defaults: js });
    const waiting = swarm.batches.get(swarm.call("ada"), { batchId: batch.batchId, waitMs: 30_000 });
    let over = false;
    void waiting.then(() => {
      over = true;
    });
    await batch.run("a");
    await swarm.clock.advance(100);
    expect(over).toBe(false);
    await batch.run("b");
    await swarm.clock.advance(100);
    expect((await waiting).compiled.ended).toBe(true);
    const open = await submitted(swarm, { tasks: [{ key: "a" }], defaults: js });
    const vain = swarm.batches.get(swarm.call("ada"), { batchId: open.batchId, waitMs: 1_000 });
    await swarm.clock.advance(1_000);
    expect((await vain).compiled.ended).toBe(false);
  });
});

/** What must come of a member, by what came of those that it waits for. */
function expectedStatus(key: string, tasks: readonly BatchTask[], fails: ReadonlySet<string>): ExecutionStatus | "dependency" {
  const task = tasks.find((one) => one.key === key);
  const before = task?.dependencies ?? [];
  const met = task?.after === "any" || before.every((on) => expectedStatus(on, tasks, fails) === "succeeded");
  if (!met) return "dependency";
  return fails.has(key) ? "failed" : "succeeded";
}

test("whatever the graph, the order, the workers and the failures: dependencies come first, no more run than may, all of it ends", async () => {
  verifies("EXEC-11");
  const graph = fc.integer({ min: 1, max: 14 }).chain((size) =>
    fc.record({
      edges: fc.array(fc.uniqueArray(fc.nat(size - 1), { maxLength: 3 }), { minLength: size, maxLength: size }),
      any: fc.array(fc.boolean(), { minLength: size, maxLength: size }),
      fails: fc.uniqueArray(fc.nat(size - 1), { maxLength: 3 }),
      maxConcurrency: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
      choices: fc.array(fc.nat(1_000), { minLength: 2 * size, maxLength: 2 * size }),
      // in any order: what is given first may wait for what is given last
      order: fc.shuffledSubarray(
        Array.from({ length: size }, (_, n) => n),
        { minLength: size, maxLength: size },
      ),
    }),
  );
  await fc.assert(
    fc.asyncProperty(graph, async ({ edges, any, fails, maxConcurrency, choices, order }) => {
      const tasks = order.map(
        (n): BatchTask => ({
          key: `t${n}`,
          dependencies: (edges[n] ?? []).filter((on) => on < n).map((on) => `t${on}`),
          after: any[n] ? "any" : "success",
        }),
      );
      const failing = new Set(fails.map((n) => `t${n}`));
      const swarm = batchSwarm();
      const batch = await submitted(swarm, { tasks, defaults: js, maxConcurrency });
      const keys = new Map(tasks.map(({ key }) => [batch.id(key), key]));
      const running: string[] = [];
      const ended = new Set<string>();
      for (const choice of choices) {
        const ready = await swarm.ready();
        const active = ready.length + running.length;
        if (maxConcurrency !== undefined) expect(active).toBeLessThanOrEqual(maxConcurrency);
        if (active === 0) break;
        const at = choice % active;
        const id = ready[at];
        if (id !== undefined) {
          const task = tasks.find(({ key }) => key === keys.get(id));
          for (const { key, record } of (await batch.standing()).page) {
            if (task?.dependencies?.includes(key)) expect(record.endedAt).toBeDefined();
          }
          await swarm.claim(id);
          running.push(id);
          continue;
        }
        const [over = ""] = running.splice(at - ready.length, 1);
        const failed = failing.has(keys.get(over) ?? "");
        await swarm.finish(over, failed ? FAILS : {});
        expect(ended.has(over)).toBe(false);
        ended.add(over);
      }
      const { page, compiled } = await batch.standing();
      expect(compiled.ended).toBe(true);
      for (const { key, record } of page) {
        expect([key, record.failure ?? record.status]).toEqual([key, expectedStatus(key, tasks, failing)]);
      }
    }),
  );
});
