/** What a quarantined agent sent is held back: from every way of reading, without a loss, and in order afterwards. */
import { manualClock } from "@mcp-swarm/core";
import { rootAgent } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Channels } from "../src/channel.ts";
import { DELIVERIES_MAX, FILTERED_ROWS_MAX, LOOK_AGAIN_MS } from "../src/inbox.ts";
import { viewInbox } from "../src/inbox-view.ts";
import { readMessage } from "../src/message-reading.ts";
import { MessageSearch } from "../src/message-search.ts";
import { Threads } from "../src/threads.ts";
import { type CommProcess, commOn } from "./support/comm.ts";

async function swarm() {
  const clock = manualClock();
  const store: Store = new MemoryStore({ clock });
  const quarantined = new Set<string>();
  const held = (from: string) => quarantined.has(rootAgent(from));
  let processes = 0;
  const agent = (agentId: string, by = held) => commOn(store, clock, agentId, { process: ++processes, held: by });
  const [ann, eve, bob] = [await agent("ann"), await agent("eve"), await agent("bob")];
  return { clock, store, quarantined, held, agent, ann, eve, bob };
}

const say = (from: CommProcess, payload: string, more: object = {}) =>
  from.sending.send(from.call, { targetAgent: "bob", messageType: "note", payload, ...more });

async function read(reader: CommProcess, input: object = {}): Promise<unknown[]> {
  const { messages } = await reader.inbox.get(reader.call, { limit: 25, ...input });
  return messages.map(({ message }) => message.payload);
}

describe("while its sender is quarantined", () => {
  test("a message is handed to nobody and counts no delivery; others' come, and it comes after, at its old place", async () => {
    verifies("SEC-08");
    const { ann, eve, bob, quarantined, clock } = await swarm();
    await say(eve, "eve 1", { priority: 9 });
    await say(eve, "eve 2", { agentId: "helper" });
    await say(ann, "ann 1");
    quarantined.add("eve");
    expect(await read(bob, { acknowledge: true })).toEqual(["ann 1"]);
    expect(await read(bob)).toEqual([]);
    await clock.advance(60_000);
    await say(ann, "ann 2");
    quarantined.clear();
    const { messages } = await bob.inbox.get(bob.call, { limit: 25 });
    expect(messages.map(({ message, deliveries }) => [message.payload, deliveries])).toEqual([
      ["eve 1", 1],
      ["eve 2", 1],
      ["ann 2", 1],
    ]);
  });

  test("a message in flight comes back into the inbox and waits there", async () => {
    verifies("SEC-08");
    const { eve, bob, quarantined, clock } = await swarm();
    await say(eve, "eve 1");
    expect(await read(bob, { visibilityMs: 1_000 })).toEqual(["eve 1"]);
    quarantined.add("eve");
    for (let turn = 0; turn < DELIVERIES_MAX + 1; turn++) {
      await clock.advance(10_000);
      expect(await read(bob)).toEqual([]);
    }
    quarantined.clear();
    const { messages } = await bob.inbox.get(bob.call, {});
    expect(messages.map(({ deliveries }) => deliveries)).toEqual([2]);
  });

  test("a waiting reader gets what was held soon after the quarantine ends, though nothing is committed then", async () => {
    verifies("SEC-08");
    const { eve, bob, quarantined, clock } = await swarm();
    await say(eve, "eve 1");
    quarantined.add("eve");
    const waiting = bob.inbox.get(bob.call, {}, { waitMs: 50_000 });
    await clock.advance(LOOK_AGAIN_MS);
    quarantined.clear();
    await clock.advance(LOOK_AGAIN_MS);
    expect((await waiting).messages.map(({ message }) => message.payload)).toEqual(["eve 1"]);
  });

  test("what it broadcast and published is held too, and topics go on without it", async () => {
    verifies("SEC-08");
    const { ann, eve, bob, quarantined } = await swarm();
    await bob.subscriptions.subscribe(bob.call, { topics: ["news"] });
    const publish = (by: CommProcess, payload: string) =>
      by.broadcasts.send(by.call, { scope: "topic", name: "news", messageType: "note", payload });
    await publish(eve, "eve in topic 1");
    await publish(ann, "ann in topic");
    await eve.broadcasts.send(eve.call, { scope: "all", messageType: "note", payload: "eve to all" });
    await publish(eve, "eve in topic 2");
    quarantined.add("eve");
    expect(await read(bob)).toEqual(["ann in topic"]);
    quarantined.clear();
    expect(await read(bob)).toEqual(["eve in topic 1", "eve to all", "eve in topic 2"]);
  });

  test("no other way of reading shows what it said, but to the sender itself", async () => {
    verifies("SEC-08");
    const { clock, store, ann, eve, bob, quarantined, held } = await swarm();
    const own = await say(bob, "bob asks", { targetAgent: "eve", correlationId: "job" });
    await clock.advance(1);
    const { id } = await say(eve, "eve answers", { correlationId: "job", ackWithinMs: 1_000 });
    await clock.advance(1);
    await say(ann, "ann answers", { correlationId: "job" });
    const { id: dead } = await say(eve, "eve is refused");
    await bob.inbox.acknowledge(bob.call, { messageIds: [dead], outcome: "reject" });
    await clock.advance(2_000);
    const [threads, search] = [new Threads({ held }), new MessageSearch({ held })];
    const seen = async (reader: CommProcess) => ({
      thread: (await threads.read(reader.call, { correlationId: "job", limit: 10 })).messages.map(({ payload }) => payload),
      found: (await search.find(reader.call, { text: "answers", limit: 10 })).messages.map(({ payload }) => payload),
      dead: (await reader.deadLetters.list(reader.call)).deadLetters.length,
      overdue: (await reader.overdue.list(reader.call)).messages.length,
    });
    quarantined.add("eve");
    expect(await seen(bob)).toEqual({ thread: ["bob asks", "ann answers"], found: ["ann answers"], dead: 0, overdue: 0 });
    expect(await seen(eve)).toMatchObject({ thread: ["bob asks", "eve answers"], found: ["eve answers"], overdue: 1 });
    await expect(readMessage(bob.call, { messageId: id }, held)).rejects.toMatchObject({ code: "failed_precondition" });
    expect((await readMessage(bob.call, { messageId: own.id }, held)).message.payload).toBe("bob asks");
    const view = await viewInbox(store, "bob", 10, held);
    expect(view).toMatchObject({ first: [{ from: "ann" }], unread: { count: 1, more: false }, isHeld: true });
    quarantined.clear();
    expect(await seen(bob)).toMatchObject({ thread: ["bob asks", "eve answers", "ann answers"], dead: 1, overdue: 1 });
    expect((await viewInbox(store, "bob", 10, held)).first.map(({ from }) => from)).toEqual(["eve", "ann"]);
    // handed out and due to come again, it would be shown, and is held like any other
    expect(await read(bob, { visibilityMs: 1_000 })).toEqual(["eve answers", "ann answers"]);
    await clock.advance(2_000);
    quarantined.add("eve");
    const due = await viewInbox(store, "bob", 10, held);
    expect(due).toMatchObject({ first: [{ from: "ann" }], unread: { count: 1 }, inFlight: { count: 0 }, isHeld: true });
  });

  test("a request that it answered goes on waiting, and has the answer when the quarantine ends", async () => {
    verifies("SEC-08");
    const { eve, bob, quarantined, clock } = await swarm();
    const asking = bob.requests.ask(bob.call, { targetAgent: "eve", payload: "well?" }, { waitMs: 40_000 });
    let asked = await eve.inbox.get(eve.call, {});
    for (let turn = 0; asked.messages.length === 0 && turn < 100; turn++) asked = await eve.inbox.get(eve.call, {});
    quarantined.add("eve");
    await say(eve, "eve answers", { replyTo: asked.messages[0]?.message.id });
    await clock.advance(LOOK_AGAIN_MS);
    quarantined.clear();
    await clock.advance(LOOK_AGAIN_MS);
    expect((await asking).reply.payload).toBe("eve answers");
  });

  test("a session is pushed nothing of it, and gets it afterwards", async () => {
    verifies("SEC-08");
    const { clock, store, ann, eve, bob, quarantined } = await swarm();
    const { inbox, envelopes } = bob;
    const failed: unknown[] = [];
    const channels = new Channels({ store, clock, inbox, envelopes, onError: (error) => failed.push(error) });
    const pushed: string[] = [];
    using _ = channels.open(bob.caller, async ({ meta }) => void pushed.push(meta.from ?? "the server"));
    await clock.advance(1_000);
    quarantined.add("eve");
    await say(eve, "eve 1");
    await say(ann, "ann 1");
    await clock.advance(1_000);
    expect(pushed).toEqual(["ann"]);
    quarantined.clear();
    await clock.advance(LOOK_AGAIN_MS + 1_000);
    expect(pushed).toEqual(["ann", "eve"]);
    expect(failed).toEqual([]);
  });

  test("none of its messages overtakes another when the quarantine ends in the middle of a look", async () => {
    verifies("SEC-08", "COMM-05");
    const { eve, agent } = await swarm();
    let asked = 0;
    const reader = await agent("bob", () => asked++ === 0);
    for (const payload of ["eve 1", "eve 2", "eve 3"]) await say(eve, payload);
    const got: unknown[] = [];
    for (let turn = 0; got.length < 3 && turn < 5; turn++) got.push(...(await read(reader)));
    expect(got).toEqual(["eve 1", "eve 2", "eve 3"]);
  });

  test("a flood of it in front costs a reader a bounded look, and the rest is behind the cursor", async () => {
    verifies("SEC-08");
    const { ann, eve, bob, quarantined } = await swarm();
    for (let at = 0; at <= FILTERED_ROWS_MAX; at++) await say(eve, `eve ${at}`, { priority: 9 });
    await say(ann, "ann 1");
    quarantined.add("eve");
    const first = await bob.inbox.get(bob.call, {});
    expect(first).toMatchObject({ messages: [], nextCursor: expect.any(String) });
    const { messages } = await bob.inbox.get(bob.call, { cursor: first.nextCursor });
    expect(messages.map(({ message }) => message.payload)).toEqual(["ann 1"]);
  });
});

test("whoever is quarantined when, each reader gets all that each sender said, once and in the order it was said", async () => {
  verifies("SEC-08", "COMM-05");
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ say: fc.constantFrom("ann", "eve"), topic: fc.boolean() }) },
    { weight: 3, arbitrary: fc.record({ read: fc.integer({ min: 1, max: 4 }), again: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ turn: fc.constantFrom("ann", "eve"), again: fc.boolean() }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const { ann, eve, bob, quarantined, agent } = await swarm();
      // another process of bob's may learn of it sooner or later
      const known = new Set<string>();
      const again = await agent("bob", (from) => known.has(rootAgent(from)));
      await bob.subscriptions.subscribe(bob.call, { topics: ["news"] });
      const senders = { ann, eve };
      const said: Record<string, number> = { ann: 0, eve: 0 };
      const got: { from: string; at: number }[] = [];
      const toggle = (set: Set<string>, agentId: string) => (set.delete(agentId) ? undefined : set.add(agentId));
      const take = async (reader: CommProcess, limit: number) => {
        const { messages } = await reader.inbox.get(reader.call, { limit, acknowledge: true });
        for (const { message } of messages) {
          expect((reader === bob ? quarantined : known).has(message.from)).toBe(false);
          got.push({ from: message.from, at: message.payload as number });
        }
        return messages.length;
      };
      for (const one of steps) {
        if ("say" in one) {
          const by = one.say as keyof typeof senders;
          if (quarantined.has(by)) continue; // the guard lets no call of it in
          const payload = (said[by] ?? 0) + 1;
          said[by] = payload;
          const sender = senders[by];
          if (one.topic)
            await sender.broadcasts.send(sender.call, { scope: "topic", name: "news", messageType: "note", payload });
          else await sender.sending.send(sender.call, { targetAgent: "bob", messageType: "note", payload });
        } else if ("read" in one) await take(one.again ? again : bob, one.read);
        else toggle(one.again ? known : quarantined, one.turn);
      }
      quarantined.clear();
      for (let turn = 0; (await take(bob, 25)) > 0 && turn < 100; turn++);
      for (const by of ["ann", "eve"]) {
        const order = got.filter(({ from }) => from === by).map(({ at }) => at);
        expect(order).toEqual(Array.from({ length: said[by] ?? 0 }, (_, at) => at + 1));
      }
    }),
    { numRuns: 60 },
  );
});
