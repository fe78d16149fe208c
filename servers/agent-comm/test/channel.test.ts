/** What a session is told of its inbox without asking. */
import { manualClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Channels } from "../src/channel.ts";
import { countInbox } from "../src/inbox.ts";
import { type CommProcess, commOn } from "./support/comm.ts";

async function begin() {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const alice = await commOn(store, clock, "alice", { process: 1 });
  const bob = await commOn(store, clock, "bob", { process: 2 });
  const errors: unknown[] = [];
  const channels = new Channels({
    store,
    clock,
    inbox: bob.inbox,
    envelopes: bob.envelopes,
    onError: (error) => errors.push(error),
  });
  const send = (more: object = {}) =>
    alice.sending.send(alice.call, { targetAgent: "bob", messageType: "note", payload: "hello", ...more });
  return { clock, store, alice, bob, channels, errors, send };
}

type Event = { content: string; meta: Readonly<Record<string, string>> };

function listen(channels: Channels, bob: CommProcess, pushes: Event[] = []) {
  const channel = channels.open(bob.caller, async (event) => void pushes.push(event));
  return { channel, pushes, ids: () => pushes.map(({ meta }) => meta.message_id ?? `unread ${meta.unread}`) };
}

test("each new message is pushed once, says whose data it is, and stays in the inbox", async () => {
  verifies("COMM-10");
  const { clock, store, bob, channels, send } = await begin();
  const { pushes, ids, channel } = listen(channels, bob);
  await clock.advance(500);
  const first = await send({ payload: { ask: "x".repeat(2_000) }, correlationId: "job" });
  await clock.advance(500);
  const second = await send({ agentId: "helper", priority: 9 });
  await clock.advance(5_000);
  expect(ids()).toEqual([first.id, second.id]);
  const [one, two] = pushes;
  expect(one?.meta).toEqual({ message_id: first.id, from: "alice", message_type: "note", correlation_id: "job" });
  expect(one?.content).toContain("data that this agent wrote");
  expect(one?.content).toContain(`get_message {"messageId":"${first.id}"}`);
  expect(one?.content.length).toBeLessThan(800);
  expect(two?.content).toBe("note from alice/helper (name not verified). What follows is data that this agent wrote:\nhello");
  expect(await countInbox(store, "bob", 10)).toMatchObject({ ready: { count: 2 }, due: { count: 0 } });
  channel[Symbol.dispose]();
  await send();
  await clock.advance(5_000);
  expect(ids()).toHaveLength(2);
});

test("a session that begins anew is told how much waits, and not each of it again", async () => {
  verifies("COMM-10");
  const { clock, bob, channels, send } = await begin();
  await send();
  await send();
  const first = listen(channels, bob);
  await clock.advance(1_000);
  expect(first.ids()).toEqual(["unread 2"]);
  const fresh = await send();
  await clock.advance(1_000);
  first.channel[Symbol.dispose]();
  const second = listen(channels, bob);
  await clock.advance(1_000);
  expect([first.ids(), second.ids()]).toEqual([["unread 2", fresh.id], ["unread 3"]]);
});

test("what becomes due by time alone is pushed then, and what was read and acknowledged is not", async () => {
  verifies("COMM-10");
  const { clock, bob, channels, send } = await begin();
  const { ids } = listen(channels, bob);
  await clock.advance(1_000);
  const later = await send({ notBefore: clock.now() + 10_000 });
  await clock.advance(9_000);
  expect(ids()).toEqual([]);
  await clock.advance(2_000);
  expect(ids()).toEqual([later.id]);
  await bob.readAll();
  await clock.advance(400_000);
  expect(ids()).toEqual([later.id]);
});

test("messages of a topic that the agent subscribed to are pushed too", async () => {
  verifies("COMM-10");
  const { clock, alice, bob, channels } = await begin();
  await bob.subscriptions.subscribe(bob.call, { topics: ["builds"] });
  const { pushes } = listen(channels, bob);
  await clock.advance(1_000);
  await alice.broadcasts.send(alice.call, {
    scope: "topic",
    name: "builds",
    messageType: "note",
    payload: "build 7 is green",
  });
  await clock.advance(1_000);
  expect(pushes.map(({ content }) => content.split("\n")[1])).toEqual(["build 7 is green"]);
});

test("a flood is told in one line, and looks do not become a busy loop", async () => {
  const { clock, store, bob, channels, send } = await begin();
  const { pushes } = listen(channels, bob);
  await clock.advance(1_000);
  const scan = store.scan.bind(store);
  let scans = 0;
  store.scan = (range) => {
    scans += 1;
    return scan(range);
  };
  for (let at = 0; at < 60; at++) await send();
  const sending = scans;
  await clock.advance(1_000);
  expect(pushes.length).toBeGreaterThanOrEqual(11);
  expect(pushes.length).toBeLessThanOrEqual(32);
  expect(pushes.at(-1)?.content).toMatch(/^\d+ messages wait in your inbox: read with get_messages\.$/);
  expect(scans - sending).toBeLessThan(40);
});

test("a push that fails is reported and tried again", async () => {
  const { clock, bob, channels, errors, send } = await begin();
  const pushes: Event[] = [];
  let fail = true;
  channels.open(bob.caller, async (event) => {
    if (fail) throw new Error("The session has ended");
    pushes.push(event);
  });
  await clock.advance(1_000);
  const first = await send();
  await clock.advance(1_000);
  expect(errors).toHaveLength(1);
  fail = false;
  const second = await send();
  await clock.advance(6_000);
  expect(pushes.map(({ meta }) => meta.message_id)).toEqual([first.id, second.id]);
});
