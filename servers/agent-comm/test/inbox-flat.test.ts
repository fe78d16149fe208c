/** What work on an inbox costs, counted in entries touched, does not grow with what lies in it. */
import { changeDelivery, deliver, findDelivery, type MessageRecord, putMessage } from "@mcp-swarm/coordination/messages";
import { manualClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { counted } from "../../../test/support/counted-store.ts";
import { VIEWED_MAX, viewInbox } from "../src/inbox-view.ts";
import { commOn } from "./support/comm.ts";

/** So many that every bound of a look is reached already. */
const FEW = 5_000;
const MANY = 100_000;
const BATCH = 1_000;

/** Messages in every state: most ready, some in flight, put off or dead, some overdue. */
async function fill(store: MemoryStore, count: number): Promise<void> {
  for (let at = 0; at < count; at += BATCH) {
    await store.transact((tx) => {
      for (let n = at; n < at + BATCH; n++) {
        const id = `msg-${n}`;
        const message: MessageRecord = {
          ...{ id, from: n % 2 === 0 ? "alice" : "carol", verified: false, sentAt: tx.now, messageType: "note", payload: n },
          ...{ priority: n % 10, correlationId: id, hops: 0, audience: { kind: "agent", name: "bob" } },
          order: `${String(tx.now).padStart(16, "0")}${n.toString(36).padStart(4, "0")}`,
          keptUntil: tx.now + 86_400_000,
          ...(n % 10 === 0 ? { ackDueAt: tx.now + 1_000 } : {}),
        };
        putMessage(tx, message);
        deliver(tx, message, "bob");
        const delivery = findDelivery(tx, "bob", id);
        if (!delivery) throw new Error("Not delivered");
        if (n % 20 === 1) changeDelivery(tx, delivery, { state: "in_flight", deliveries: 1, dueAt: tx.now + 7_200_000 });
        if (n % 20 === 2) changeDelivery(tx, delivery, { state: "delayed", dueAt: tx.now + 7_200_000 });
        if (n % 20 === 3) changeDelivery(tx, delivery, { state: "dead", cause: "undelivered" });
      }
    });
  }
}

async function costs(count: number): Promise<Record<string, number>> {
  const clock = manualClock();
  const memory = new MemoryStore({ clock });
  await fill(memory, count);
  const { store, touched } = counted(memory);
  const bob = await commOn(store, clock, "bob", { process: 1, remote: true });
  const alice = await commOn(store, clock, "alice", { process: 2, remote: true });
  await clock.advance(2_000);
  const measured: Record<string, number> = {};
  const measure = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const before = touched();
    const result = await work();
    measured[name] = touched() - before;
    return result;
  };
  const send = () => alice.sending.send(alice.call, { targetAgent: "bob", messageType: "note", payload: "x" });
  await measure("send", send);
  const { messages } = await measure("read", () => bob.inbox.get(bob.call, { limit: 10 }));
  const ids = messages.map(({ message }) => message.id);
  expect(ids).toHaveLength(10);
  await measure("acknowledge", () => bob.inbox.acknowledge(bob.call, { messageIds: ids }));
  await measure("later", async () => {
    const { messages } = await bob.inbox.get(bob.call, { limit: 10 });
    await bob.inbox.acknowledge(bob.call, { messageIds: messages.map(({ message }) => message.id), outcome: "later" });
  });
  await measure("filter", () => bob.inbox.get(bob.call, { limit: 10, from: "carol" }));
  await measure("dead letters", () => bob.deadLetters.list(bob.call, { limit: 10 }));
  await measure("redeliver", () => bob.deadLetters.redeliver(bob.call, { messageIds: ["msg-3", "msg-23"] }));
  await measure("overdue", () => bob.overdue.list(bob.call, { limit: 10 }));
  await measure("request and reply", async () => {
    const asking = bob.requests.ask(bob.call, { targetAgent: "alice", payload: "?" }, { waitMs: 10_000 });
    await clock.advance(20);
    const { messages } = await alice.inbox.get(alice.call, {});
    expect(messages).toHaveLength(1);
    await alice.sending.send(alice.call, {
      targetAgent: "bob",
      messageType: "reply",
      payload: "!",
      replyTo: messages[0]?.message.id,
    });
    await clock.advance(20);
    await asking;
  });
  const view = await measure("view", () => viewInbox(store, "bob", 10));
  expect(view.unread).toEqual({ count: VIEWED_MAX, more: true });
  return measured;
}

test(`an inbox of ${MANY} messages costs its readers and senders what one of ${FEW} does`, async () => {
  verifies("COMM-13");
  const few = await costs(FEW);
  const many = await costs(MANY);
  const grown = Object.entries(few).filter(([name, cost]) => (many[name] ?? 0) > cost * 1.2 + 2);
  expect(grown.map(([name, cost]) => `${name}: ${cost} → ${many[name]}`)).toEqual([]);
}, 120_000);
