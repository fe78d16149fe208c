/** Reading, waiting and acknowledging, case by case; inbox-model.test.ts has the rules at random. */
import { deliver, type MessageRecord, putMessage } from "@mcp-swarm/coordination/messages";
import { manualClock } from "@mcp-swarm/core";
import { onceCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { DELIVERIES_MAX, FILTERED_ROWS_MAX } from "../src/inbox.ts";
import { readMessage } from "../src/message-reading.ts";
import { type CommProcess, commOn } from "./support/comm.ts";

function swarm() {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let process = 0;
  const join = (agentId: string, options: { remote?: boolean } = {}) =>
    commOn(store, clock, agentId, { ...options, process: ++process });
  return { clock, store, join };
}

async function send(from: CommProcess, targetAgent: string, more: object = {}): Promise<string> {
  return (await from.sending.send(from.call, { targetAgent, messageType: "note", payload: "hello", ...more })).id;
}

async function read(by: CommProcess, input: object = {}): Promise<string[]> {
  return (await by.inbox.get(by.call, input)).messages.map(({ message }) => message.id);
}

/** Lets promises and immediates run, for calls that wait. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise<void>((done) => setImmediate(done));
}

describe("reading", () => {
  test("takes the urgent first, then in order of sending, and a message that comes again at its old place", async () => {
    verifies("COMM-05", "COMM-06");
    const { join, clock } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const low = await send(alice, "bob", { priority: 1 });
    const first = await send(alice, "bob");
    await clock.advance(10);
    const second = await send(alice, "bob");
    const urgent = await send(alice, "bob", { priority: 9 });
    expect(await read(bob, { limit: 2 })).toEqual([urgent, first]);
    await clock.advance(300_000);
    expect(await read(bob)).toEqual([urgent, first, second, low]);
  });

  test("filters by type, sender and thread, and loses nothing that it skips", async () => {
    verifies("COMM-05");
    const { join } = swarm();
    const [alice, carol, bob] = [await join("alice"), await join("carol"), await join("bob")];
    const plain = await send(alice, "bob");
    const order = await send(alice, "bob", { messageType: "order" });
    const hers = await send(carol, "bob", { correlationId: "job" });
    expect(await read(bob, { types: ["order", "other"] })).toEqual([order]);
    expect(await read(bob, { from: "carol", correlationId: "job" })).toEqual([hers]);
    expect(await read(bob, { from: "carol" })).toEqual([]);
    await expect(read(bob, { from: "no agent's name" })).rejects.toEqual(expect.objectContaining({ code: "invalid_argument" }));
    expect(await read(bob)).toEqual([plain]);
  });

  test("a filter that looked at as many as one call may says where to go on", async () => {
    verifies("COMM-05", "COMM-13");
    const { join, store } = swarm();
    const bob = await join("bob");
    const wanted = FILTERED_ROWS_MAX + 10;
    await store.transact((tx) => {
      for (let at = 0; at <= wanted; at++) {
        const message = recordOf(at, at === wanted ? "wanted" : "other", tx.now);
        putMessage(tx, message);
        deliver(tx, message, "bob");
      }
    });
    const page = await bob.inbox.get(bob.call, { types: ["wanted"] });
    expect(page.messages).toEqual([]);
    const next = await bob.inbox.get(bob.call, { types: ["wanted"], cursor: page.nextCursor });
    expect(next.messages.map(({ message }) => message.id)).toEqual([`msg-${wanted}`]);
    expect(next.nextCursor).toBeUndefined();
    await expect(bob.inbox.get(bob.call, { types: ["other"], cursor: page.nextCursor })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  test("waits, wakes on a message, and wakes for what comes again without a commit", async () => {
    verifies("COMM-05", "COMM-06", "COMM-11");
    const { join, clock } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const waiting = bob.inbox.get(bob.call, {}, { waitMs: 50_000 });
    await clock.advance(1_000);
    const id = await send(alice, "bob");
    await clock.advance(20);
    expect((await waiting).messages.map(({ message }) => message.id)).toEqual([id]);
    await clock.advance(299_000 - 20);
    const again = bob.inbox.get(bob.call, {}, { waitMs: 50_000 });
    await clock.advance(1_100);
    expect((await again).messages.map(({ message, deliveries }) => [message.id, deliveries])).toEqual([[id, 2]]);
    const nothing = bob.inbox.get(bob.call, {}, { waitMs: 1_000 });
    await clock.advance(1_000);
    expect((await nothing).messages).toEqual([]);
  });

  test("a wait that is cancelled takes nothing, even when a message came at that moment", async () => {
    verifies("COMM-06");
    const { join, clock, store } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const stop = new AbortController();
    const waiting = bob.inbox.get(bob.call, {}, { waitMs: 50_000, signal: stop.signal });
    const refused = expect(waiting).rejects.toMatchObject({ name: "AbortError" });
    await clock.advance(100);
    // aborts within the very transaction that hands the message out
    const transact = store.transact.bind(store);
    store.transact = async (plan) => {
      const result = await transact(plan);
      stop.abort();
      return result;
    };
    await send(alice, "bob");
    await clock.advance(100);
    await refused;
    store.transact = transact;
    const { messages } = await bob.inbox.get(bob.call, {});
    expect(messages.map(({ deliveries }) => deliveries)).toEqual([1]);
  });

  test("a repetition with the same key gets the same messages, also when nothing else waits", async () => {
    verifies("COMM-06");
    const { join, store } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const id = await send(alice, "bob");
    const once = () => onceCall({ store, caller: bob.caller }, { key: "k", fingerprint: "f" });
    const ids = async (acknowledge: boolean) =>
      (await bob.inbox.get(once(), { acknowledge })).messages.map(({ message }) => message.id);
    expect(await ids(true)).toEqual([id]);
    await send(alice, "bob");
    expect(await ids(true)).toEqual([id]);
    expect(await read(bob)).toHaveLength(1);
  });

  test("two readers of one inbox share its messages", async () => {
    const { join } = swarm();
    const [alice, one, two] = [await join("alice"), await join("bob"), await join("bob")];
    const sent = new Set<string>();
    for (let at = 0; at < 10; at++) sent.add(await send(alice, "bob"));
    const both = await Promise.all([read(one, { limit: 5 }), read(two, { limit: 5 }), read(one, { limit: 5 })]);
    expect(both.flat()).toHaveLength(10);
    expect(new Set(both.flat())).toEqual(sent);
  });
});

describe("acknowledging", () => {
  test("once read and acknowledged at once, a message never comes again", async () => {
    verifies("COMM-05");
    const { join, clock } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const id = await send(alice, "bob");
    expect(await read(bob, { acknowledge: true })).toEqual([id]);
    await clock.advance(7_200_000);
    expect(await read(bob)).toEqual([]);
    // it can still be read in its own right
    expect((await readMessage(bob.call, { messageId: id })).delivery).toMatchObject({ state: "done", deliveries: 1 });
  });

  test("names what is not in this inbox and what is over, changes nothing of it, and does the rest", async () => {
    verifies("COMM-06");
    const { join } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const mine = await send(alice, "bob");
    const hers = await send(bob, "alice");
    await read(bob);
    const ids = [mine, hers, "msg-none", mine];
    expect((await bob.inbox.acknowledge(bob.call, { messageIds: ids })).messages).toEqual([
      { id: mine, status: "done", changed: true },
      { id: hers, status: "unknown", changed: false },
      { id: "msg-none", status: "unknown", changed: false },
    ]);
    for (const outcome of ["done", "later", "reject"] as const) {
      expect((await bob.inbox.acknowledge(bob.call, { messageIds: [mine], outcome })).messages).toEqual([
        { id: mine, status: "done", changed: false },
      ]);
    }
    expect(await read(alice)).toEqual([hers]);
    await expect(bob.inbox.acknowledge(bob.call, { messageIds: [mine], delayMs: 5 })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  test("an acknowledgement that comes after the message came again counts", async () => {
    verifies("COMM-06");
    const { join, clock } = swarm();
    const [alice, one, two] = [await join("alice"), await join("bob"), await join("bob")];
    const id = await send(alice, "bob");
    await read(one);
    await clock.advance(300_000);
    expect(await read(two)).toEqual([id]);
    expect((await one.inbox.acknowledge(one.call, { messageIds: [id] })).messages).toEqual([
      { id, status: "done", changed: true },
    ]);
    await clock.advance(7_200_000);
    expect(await read(two)).toEqual([]);
  });

  test("what is neglected or rejected is a dead letter for receiver and sender, and either makes it ready again", async () => {
    verifies("COMM-06");
    const { join, clock } = swarm();
    const [alice, bob, carol] = [await join("alice"), await join("bob"), await join("carol")];
    const neglected = await send(alice, "bob");
    for (let turn = 0; turn < DELIVERIES_MAX; turn++) {
      expect(await read(bob)).toEqual([neglected]);
      await clock.advance(3_600_000);
    }
    expect(await read(bob)).toEqual([]);
    await clock.advance(1);
    const rejected = await send(alice, "bob");
    await bob.inbox.acknowledge(bob.call, { messageIds: [rejected], outcome: "reject", reason: "not mine" });
    const dead = async (by: CommProcess, sent: boolean) =>
      (await by.deadLetters.list(by.call, { sent })).deadLetters.map(({ message, delivery }) => [
        message.id,
        delivery.cause,
        delivery.reason,
      ]);
    const both = [
      [rejected, "rejected", "not mine"],
      [neglected, "undelivered", undefined],
    ];
    expect(await dead(bob, false)).toEqual(both);
    expect(await dead(alice, true)).toEqual(both);
    expect(await dead(carol, true)).toEqual([]);
    expect((await carol.deadLetters.redeliver(carol.call, { messageIds: [neglected] })).messages).toEqual([
      { id: neglected, status: "unknown", changed: false },
    ]);
    await alice.deadLetters.redeliver(alice.call, { messageIds: [neglected] });
    await bob.deadLetters.redeliver(bob.call, { messageIds: [rejected] });
    const { messages } = await bob.inbox.get(bob.call, {});
    expect(messages.map(({ message, deliveries }) => [message.id, deliveries])).toEqual([
      [neglected, 1],
      [rejected, 1],
    ]);
  });

  test("dead letters page", async () => {
    const { join } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const ids: string[] = [];
    for (let at = 0; at < 7; at++) ids.push(await send(alice, "bob"));
    await bob.inbox.acknowledge(bob.call, { messageIds: ids, outcome: "reject" });
    const seen: string[] = [];
    let cursor: string | undefined;
    for (let turn = 0; turn < 10; turn++) {
      const page = await bob.deadLetters.list(bob.call, { limit: 3, cursor });
      seen.push(...page.deadLetters.map(({ message }) => message.id));
      cursor = page.nextCursor;
      if (cursor === undefined) break;
    }
    expect([...seen].sort()).toEqual([...ids].sort());
  });
});

describe("the reader's process", () => {
  test("gives back at its clean end what was not acknowledged", async () => {
    verifies("COMM-06");
    const { join } = swarm();
    const [alice, one] = [await join("alice"), await join("bob")];
    const ids = [await send(alice, "bob"), await send(alice, "bob")];
    await read(one);
    await one.inbox.acknowledge(one.call, { messageIds: ids.slice(0, 1) });
    await one.inbox.close();
    const two = await join("bob");
    expect(await read(two)).toEqual(ids.slice(1));
  });

  test("that dies frees its messages within its lease, also for a reader that waits", async () => {
    verifies("COMM-06");
    const { join, clock } = swarm();
    const [alice, one, two] = [await join("alice"), await join("bob"), await join("bob")];
    const id = await send(alice, "bob");
    await read(one);
    expect(await read(two)).toEqual([]);
    one.die();
    const waiting = two.inbox.get(two.call, {}, { waitMs: 50_000 });
    await clock.advance(21_000);
    expect((await waiting).messages.map(({ message, deliveries }) => [message.id, deliveries])).toEqual([[id, 2]]);
  });

  test("lives for its subagents too, and for an agent that is itself named as one", async () => {
    const { join, clock } = swarm();
    const alice = await join("alice");
    for (const [agent, reader] of [
      ["bob", "bob/tester"],
      ["team/bob", "team/bob"],
    ] as const) {
      const [one, two] = [await join(agent), await join(agent)];
      const id = await send(alice, reader);
      const agentId = reader === agent ? undefined : reader;
      expect(await read(one, { agentId })).toEqual([id]);
      await clock.advance(60_000);
      expect(await read(two, { agentId })).toEqual([]);
    }
  });

  test("of a caller over HTTP is not known: its messages come again by their time alone", async () => {
    const { join, clock } = swarm();
    const [alice, remote, bob] = [await join("alice"), await join("bob", { remote: true }), await join("bob")];
    const id = await send(alice, "bob");
    expect(await read(remote)).toEqual([id]);
    await clock.advance(60_000);
    expect(await read(bob)).toEqual([]);
    await clock.advance(240_000);
    expect(await read(bob)).toEqual([id]);
  });
});

describe("overdue", () => {
  test("who owes an acknowledgement and who awaits one see it, until it is given", async () => {
    verifies("COMM-14");
    const { join, clock } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const asked = await send(alice, "bob", { ackWithinMs: 1_000 });
    const later = await send(alice, "bob", { ackWithinMs: 60_000 });
    await send(alice, "bob");
    const list = async (by: CommProcess) =>
      (await by.overdue.list(by.call)).messages.map(({ message, role, overdueMs }) => [message.id, role, overdueMs]);
    expect(await list(alice)).toEqual([]);
    await clock.advance(1_500);
    expect(await list(alice)).toEqual([[asked, "sender", 500]]);
    expect(await list(bob)).toEqual([[asked, "receiver", 500]]);
    const { messages } = await bob.inbox.get(bob.call, {});
    expect(messages.map(({ message, overdue }) => [message.id, overdue])).toContainEqual([asked, true]);
    expect(messages.map(({ message, overdue }) => [message.id, overdue])).toContainEqual([later, false]);
    await bob.inbox.acknowledge(bob.call, { messageIds: [asked] });
    expect([await list(alice), await list(bob)]).toEqual([[], []]);
    await clock.advance(60_000);
    await bob.inbox.acknowledge(bob.call, { messageIds: [later], outcome: "reject" });
    expect([await list(alice), await list(bob)]).toEqual([[], []]);
  });

  test("a message that died unanswered stays overdue; pages go from what one owes to what one awaits", async () => {
    verifies("COMM-14");
    const { join, clock } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const expected: [string, string][] = [];
    for (let at = 0; at < 3; at++) {
      expected.push([await send(alice, "bob", { ackWithinMs: 1_000 + at }), "receiver"]);
    }
    const awaited: [string, string][] = [];
    for (let at = 0; at < 3; at++) awaited.push([await send(bob, "alice", { ackWithinMs: 1_000 + at }), "sender"]);
    for (let turn = 0; turn < DELIVERIES_MAX; turn++) {
      await read(bob);
      await clock.advance(3_600_000);
    }
    await read(bob);
    expect((await bob.deadLetters.list(bob.call)).deadLetters).toHaveLength(3);
    const seen: [string, string][] = [];
    let cursor: string | undefined;
    for (let turn = 0; turn < 10; turn++) {
      const page = await bob.overdue.list(bob.call, { limit: 2, cursor });
      seen.push(...page.messages.map(({ message, role }): [string, string] => [message.id, role]));
      cursor = page.nextCursor;
      if (cursor === undefined) break;
    }
    expect(seen).toEqual([...expected, ...awaited]);
  });
});

describe("request and reply", () => {
  const ask = (by: CommProcess, more: object = {}, waitMs = 30_000) =>
    by.requests.ask(by.call, { targetAgent: "bob", payload: "?", ...more }, { waitMs });

  test("the answer ends the wait and is not read again, whether it names the request or its thread", async () => {
    verifies("COMM-08");
    for (const link of ["replyTo", "correlationId"] as const) {
      const { join, clock } = swarm();
      const [alice, bob] = [await join("alice"), await join("bob")];
      const asking = ask(alice);
      await settle();
      const { messages } = await bob.inbox.get(bob.call, {});
      const id = messages[0]?.message.id ?? "";
      await send(bob, "alice", { payload: "unrelated" });
      await send(bob, "alice", { [link]: id, payload: "!" });
      await clock.advance(50);
      expect(await asking).toMatchObject({ requestId: id, reply: { payload: "!", from: "bob", hops: 1, correlationId: id } });
      const left = await alice.inbox.get(alice.call, {});
      expect(left.messages.map(({ message }) => message.payload)).toEqual(["unrelated"]);
    }
  });

  test("without an answer in time the deadline is said, and a late one is in the inbox or ends the repeated call", async () => {
    verifies("COMM-08");
    const { join, clock, store } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const once = () => onceCall({ store, caller: alice.caller }, { key: "ask", fingerprint: "f" });
    const input = { targetAgent: "bob", payload: "?" };
    const asking = alice.requests.ask(once(), input, { waitMs: 1_000 });
    const refused = expect(asking).rejects.toMatchObject({ code: "deadline_exceeded" });
    await clock.advance(1_000);
    await refused;
    const { messages } = await bob.inbox.get(bob.call, {});
    expect(messages).toHaveLength(1);
    const requestId = messages[0]?.message.id ?? "";
    await expect(asking).rejects.toMatchObject({ message: expect.stringContaining(requestId) });
    const late = await send(bob, "alice", { replyTo: requestId });
    const inInbox = await alice.inbox.get(alice.call, { correlationId: requestId });
    expect(inInbox.messages.map(({ message }) => message.id)).toEqual([late]);
    expect(await alice.requests.ask(once(), input, { waitMs: 1_000 })).toMatchObject({ requestId, reply: { id: late } });
    expect((await bob.readAll()).length).toBe(0); // the request was sent once
    await clock.advance(7_200_000);
    expect(await read(alice)).toEqual([]); // and the reply is acknowledged
  });

  test("a request that is cancelled stops waiting and leaves the reply in the inbox", async () => {
    verifies("COMM-08");
    const { join, clock } = swarm();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const stop = new AbortController();
    const asking = alice.requests.ask(alice.call, { targetAgent: "bob", payload: "?" }, { waitMs: 30_000, signal: stop.signal });
    const refused = expect(asking).rejects.toMatchObject({ name: "AbortError" });
    await settle();
    stop.abort();
    await refused;
    const { messages } = await bob.inbox.get(bob.call, {});
    const late = await send(bob, "alice", { replyTo: messages[0]?.message.id });
    await clock.advance(100);
    expect(await read(alice)).toEqual([late]);
  });
});

test("a message is read by those whom it concerns, and by nobody else", async () => {
  verifies("COMM-06");
  const { join } = swarm();
  const [alice, bob, carol] = [await join("alice"), await join("bob"), await join("carol")];
  const id = await send(alice, "bob");
  expect(await readMessage(alice.call, { messageId: id })).toMatchObject({ delivery: { to: "bob", state: "ready" } });
  await read(bob);
  expect(await readMessage(alice.call, { messageId: id })).toMatchObject({ delivery: { state: "in_flight", deliveries: 1 } });
  expect(await readMessage(bob.call, { messageId: id })).toMatchObject({ message: { id }, delivery: { deliveries: 1 } });
  await expect(readMessage(carol.call, { messageId: id })).rejects.toMatchObject({ code: "not_found" });
});

function recordOf(at: number, messageType: string, now: number): MessageRecord {
  const id = `msg-${at}`;
  return {
    ...{ id, from: "alice", verified: false, sentAt: now, messageType, payload: at, priority: 5, correlationId: id, hops: 0 },
    order: `${String(now).padStart(16, "0")}${at.toString(36).padStart(4, "0")}`,
    audience: { kind: "agent", name: "bob" },
    keptUntil: now + 86_400_000,
  };
}
