import { deliveryKey, FAN_OUT_LEASE_MS, PART_RECEIVERS_MAX, RECEIVERS_MAX } from "@mcp-swarm/coordination/messages";
import { manualClock } from "@mcp-swarm/core";
import { onceCall, plainCall } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Broadcast } from "../src/broadcast.ts";
import { LEASE_MS } from "./support/agents.ts";
import { type CommOptions, commOn } from "./support/comm.ts";
import { Crashed, crashing } from "./support/crashing.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

function swarm() {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let processes = 0;
  return {
    clock,
    store,
    process: (agentId: string, options: Partial<CommOptions> & { through?: Store } = {}) =>
      commOn(options.through ?? store, clock, agentId, { process: ++processes, ...options }),
  };
}

const note = { messageType: "status_update", payload: { text: "Hello" } };

describe("a broadcast", () => {
  test("to all reaches who lives, once each, without the sender and without who comes later", async () => {
    verifies("COMM-04");
    const { process } = swarm();
    const [ann, bob, cat] = [await process("ann"), await process("bob"), await process("cat")];
    const { message, ...counts } = await ann.broadcasts.send(ann.call, { scope: "all", ...note });
    expect(counts).toEqual({ delivered: 2, failed: 0, failedReceivers: [] });
    const late = await process("late");
    for (const reader of [bob, cat]) {
      const got = await reader.readAll();
      expect(got).toHaveLength(1);
      expect(got[0]?.message).toMatchObject({ id: message.id, from: "ann", ...note, audience: { kind: "all" }, hops: 0 });
    }
    expect(await ann.readAll()).toEqual([]);
    expect(await late.readAll()).toEqual([]);
  });

  test("to a type or a capability goes by what each living agent registered or announced", async () => {
    verifies("COMM-04");
    const { process, clock } = swarm();
    const ann = await process("ann");
    const tester = await process("tester");
    const coder = await process("coder");
    const gone = await process("gone");
    await tester.agents.register(tester.call, { agentType: "test", capabilities: ["ts"] });
    await coder.agents.register(coder.call, { agentType: "code", capabilities: ["ts", "go"] });
    await gone.agents.register(gone.call, { agentType: "code", capabilities: ["ts"] });
    gone.die();
    await clock.advance(LEASE_MS);
    // a process that came anew has announced nothing: what the agent registered still counts
    const again = await process("coder");
    expect(await ann.broadcasts.send(ann.call, { scope: "type", name: "code", ...note })).toMatchObject({ delivered: 1 });
    expect(await ann.broadcasts.send(ann.call, { scope: "capability", name: "ts", ...note })).toMatchObject({ delivered: 2 });
    expect(await ann.broadcasts.send(ann.call, { scope: "capability", name: "rust", ...note })).toMatchObject({ delivered: 0 });
    expect((await again.readAll()).map(({ message }) => message.audience)).toEqual([
      { kind: "type", name: "code" },
      { kind: "capability", name: "ts" },
    ]);
    expect(await tester.readAll()).toHaveLength(1);
  });

  test("to a workflow reaches who holds its open tasks and to whom they are assigned; who is gone is counted as failed", async () => {
    verifies("COMM-04");
    const { process, store } = swarm();
    const [ann, holder, assigned] = [await process("ann"), await process("holder"), await process("assigned")];
    const task = (id: string, fields: object) => ({
      id,
      description: "x",
      createdAt: 1,
      createdBy: "ann",
      seq: "1",
      history: [],
      ...fields,
    });
    const claim = (by: string) => [by, 1, LEASE_MS, LEASE_MS, null, null];
    await store.transact((tx) => {
      tx.put("workflow/w", { id: "w" });
      const tasks = {
        held: task("held", { status: "working", claim: claim("holder") }),
        given: task("given", { status: "available", assignedTo: "assigned" }),
        mine: task("mine", { status: "claimed", claim: claim("ann") }),
        lost: task("lost", { status: "available", assignedTo: "nobody" }),
        free: task("free", { status: "available", claim: claim("holder") }),
      };
      for (const [id, value] of Object.entries(tasks)) {
        tx.put(`task/${id}`, value);
        tx.put(`workflow-open/w/${id}`, { id });
      }
    });
    const sent = await ann.broadcasts.send(ann.call, { scope: "workflow", name: "w", ...note });
    expect(sent).toMatchObject({ delivered: 2, failed: 1, failedReceivers: ["nobody"] });
    expect(await holder.readAll()).toHaveLength(1);
    expect(await assigned.readAll()).toHaveLength(1);
    expect(await ann.readAll()).toEqual([]);
    await expect(ann.broadcasts.send(ann.call, { scope: "workflow", name: "v", ...note })).rejects.toEqual(
      code("not_found", /v/),
    );
  });

  test("does not reach a full inbox, and says whose", async () => {
    verifies("COMM-04");
    const { process, store } = swarm();
    const ann = await process("ann");
    const [bob, cat] = [await process("bob"), await process("cat")];
    await store.transact((tx) => tx.put("inbox-full/bob", { at: tx.now }));
    const sent = await ann.broadcasts.send(ann.call, { scope: "all", ...note });
    expect(sent).toMatchObject({ delivered: 1, failed: 1, failedReceivers: ["bob"] });
    expect(await bob.readAll()).toEqual([]);
    expect(await cat.readAll()).toHaveLength(1);
  });

  test.each<[string, Partial<Broadcast>, RegExp]>([
    ["a name that is missing", { scope: "type" }, /name/],
    ["a name too many", { scope: "all", name: "x" }, /name/],
    ["what only topics keep", { scope: "all", keep: true }, /keep/],
    ["a payload too long", { scope: "all", payload: "x".repeat(300_000) }, /payload/],
  ])("that cannot be is refused and changes nothing: %s", async (_, input, named) => {
    const { process } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    await expect(ann.broadcasts.send(ann.call, { scope: "all", ...note, ...input })).rejects.toEqual(
      code("invalid_argument", named),
    );
    expect(await bob.readAll()).toEqual([]);
  });

  test("counts as many messages as it has receivers, so that a flood of broadcasts is stopped like any other", async () => {
    verifies("COMM-12");
    const { process, store, clock } = swarm();
    const ann = await process("ann", { messageRate: 600 });
    await crowd(store, 30);
    for (let n = 0; n < 3; n++) await ann.broadcasts.send(ann.call, { scope: "all", ...note });
    await expect(ann.broadcasts.send(ann.call, { scope: "all", ...note })).rejects.toEqual(code("limit_exceeded", /600/));
    await ann.broadcasts.send(ann.call, { scope: "topic", name: "cheap", ...note });
    await clock.advance(3_000);
    await ann.broadcasts.send(ann.call, { scope: "all", ...note });
  });

  test("that was sent is told again to who repeats it, though it could not be sent any more", async () => {
    verifies("CORE-12");
    const { process, store } = swarm();
    const ann = await process("ann");
    await store.transact((tx) => tx.put("workflow/w", { id: "w" }));
    const once = () => onceCall({ store, caller: ann.caller }, { key: "k", fingerprint: "f" });
    const sent = await ann.broadcasts.send(once(), { scope: "workflow", name: "w", ...note });
    await store.transact((tx) => tx.delete("workflow/w"));
    expect(await ann.broadcasts.send(once(), { scope: "workflow", name: "w", ...note })).toEqual(sent);
  });

  test(`to more than ${RECEIVERS_MAX} agents is refused`, async () => {
    const { process, store } = swarm();
    const ann = await process("ann");
    await crowd(store, RECEIVERS_MAX + 1);
    await expect(ann.broadcasts.send(ann.call, { scope: "all", ...note })).rejects.toEqual(code("limit_exceeded", /agents/));
    expect(await store.scan(prefixRange("msg/", 1))).toEqual([]);
  });
});

describe("a broadcast to more than one transaction takes", () => {
  test("reaches each receiver exactly once, and is told alike, wherever its sender dies", async () => {
    verifies("COMM-04", "CORE-09", "CORE-12");
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 * PART_RECEIVERS_MAX }),
        fc.integer({ min: 0, max: 6 }),
        fc.constantFrom("before", "after"),
        fc.array(fc.nat(400), { maxLength: 3 }),
        fc.boolean(),
        async (size, commits, when, fullAt, jobFirst) => {
          const { process, store, clock } = swarm();
          const dying = await process("ann");
          const helper = await process("helper");
          const receivers = [...(await crowd(store, size)), "helper"];
          const full = new Set(fullAt.flatMap((at) => receivers[at] ?? []));
          await store.transact((tx) => {
            // noted in the future of this test, so that it is full throughout
            for (const agentId of full) tx.put(`inbox-full/${agentId}`, { at: tx.now + 10 * FAN_OUT_LEASE_MS });
          });
          const once = (through: Store) => onceCall({ store: through, caller: dying.caller }, { key: "k", fingerprint: "f" });
          const flaky = crashing(store, commits, when);
          const first = await dying.broadcasts.send(once(flaky), { scope: "all", ...note }).catch((error: unknown) => {
            if (!(error instanceof Crashed)) throw error;
            return undefined;
          });
          const finish = async () => {
            await clock.advance(FAN_OUT_LEASE_MS + 1);
            for (let turn = 0; turn < 20; turn++) for (const job of helper.jobs) await job.run();
          };
          if (jobFirst) {
            await finish();
            expect(await store.scan(prefixRange("fanout-due/", 1))).toEqual([]); // whole without its sender
          }
          const told = await dying.broadcasts.send(once(store), { scope: "all", ...note });
          if (first) expect(told).toEqual(first);
          expect(told).toMatchObject({ delivered: receivers.length - full.size, failed: full.size });
          expect(new Set(told.failedReceivers)).toEqual(full);
          await finish();
          expect(await dying.broadcasts.send(once(store), { scope: "all", ...note })).toEqual(told);
          for (const agentId of receivers) {
            const ready = await store.scan(prefixRange(`inbox/${agentId}/`, 10));
            expect(ready.map(({ value }) => (value as { id: string }).id)).toEqual(full.has(agentId) ? [] : [told.message.id]);
            expect((await store.get(deliveryKey(agentId, told.message.id))) !== undefined).toBe(!full.has(agentId));
          }
          for (const left of ["fanout-part/", "fanout-due/"]) expect(await store.scan(prefixRange(left, 10))).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("is finished once when several processes work on it at once", async () => {
    verifies("COMM-04");
    const { process, store, clock } = swarm();
    const ann = await process("ann");
    const helpers = [await process("h1"), await process("h2"), await process("h3")];
    const receivers = await crowd(store, 10 * PART_RECEIVERS_MAX);
    const dying = crashing(store, 1, "before");
    await expect(ann.broadcasts.send(plainCall(dying, ann.caller), { scope: "all", ...note })).rejects.toThrow(Crashed);
    await clock.advance(FAN_OUT_LEASE_MS);
    for (let turn = 0; turn < 12; turn++) {
      await Promise.all(helpers.flatMap(({ jobs }) => jobs).map((job) => job.run()));
      await clock.advance(FAN_OUT_LEASE_MS);
    }
    for (const agentId of receivers) expect(await store.scan(prefixRange(`inbox/${agentId}/`, 10))).toHaveLength(1);
    expect(await store.scan(prefixRange("fanout-due/", 1))).toEqual([]);
    const [fanOut] = await store.scan(prefixRange("fanout/", 1));
    expect(fanOut?.value).toMatchObject({ parts: 11, done: 11, delivered: receivers.length + helpers.length, failed: 0 });
  });
});

/** Living agents without processes of their own. */
async function crowd(store: Store, size: number): Promise<string[]> {
  const names = Array.from({ length: size }, (_, n) => `crowd-${n}`);
  await store.transact((tx) => {
    for (const agentId of names) {
      const record = {
        agentId,
        processId: "p",
        sinceAt: tx.now,
        seenAt: tx.now,
        announcedAt: 0,
        announcement: { capabilities: [] },
      };
      tx.put(`presence/${agentId}/p`, record, { ttlMs: 24 * 3_600_000 });
    }
  });
  return names;
}
