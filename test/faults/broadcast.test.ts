/** Agents that die: as others see them, with a broadcast half delivered, and with a topic half read. */
import { openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host } from "../support/host.ts";
import { HostKilled } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";

const SERVER = "agent-comm";
const LEASE_MS = 2_000;
/** Times of two processes of one engine may lie so far apart. */
const SKEW_MS = 500;
/** A crowd whose inboxes take many transactions: its broadcast is killed between two. */
const CROWD = size(3_000, 9_000);
const PAGE = 1_000;
const PUBLISHERS = 3;
const PUBLISHED_EACH = size(40, 400);
const env = { SWARM_LEASE_MS: String(LEASE_MS) };

interface AgentAnswer {
  agent: { status: string; online: boolean; lastStatus?: string };
  health: { leaseExpiresAt?: number };
}

/** Agents that live for the time of a test, without processes of their own. */
async function crowd(store: Store, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, n) => `crowd-${n}`);
  for (let from = 0; from < count; from += PAGE) {
    await store.transact((tx) => {
      for (const agentId of names.slice(from, from + PAGE)) {
        const row = {
          agentId,
          processId: "p",
          sinceAt: tx.now,
          seenAt: tx.now,
          announcedAt: 0,
          announcement: { capabilities: [] },
        };
        tx.put(`presence/${agentId}/p`, row, { ttlMs: 24 * 3_600_000 });
      }
    });
  }
  return names;
}

async function all(store: Store, prefix: string): Promise<{ key: string; value: unknown }[]> {
  const rows = [];
  let after: string | undefined;
  for (;;) {
    const page = await store.scan(prefixRange(prefix, PAGE, after === undefined ? {} : { after }));
    rows.push(...page);
    if (page.length < PAGE) return rows;
    after = page.at(-1)?.key;
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test("an agent whose server is killed is offline when its lease ends, whatever it said last", {
    timeout: 120_000,
  }, async () => {
    verifies("COMM-01", "COMM-02");
    using meeting = await meet();
    await using watcher = await Host.start({ server: SERVER, store: meeting.store, agent: "watcher", env });
    const doomed = await Host.start({ server: SERVER, store: meeting.store, agent: "doomed", env });
    const store = await openStore(meeting.store);
    await doomed.call("register_agent", { agentType: "tester", capabilities: ["die"] });
    await doomed.call("update_agent_status", { status: "working", currentTask: "the last one" });
    // longer than a lease: its process renews
    const first = await watcher.call<AgentAnswer>("get_agent_status", { agentId: "doomed" });
    await eventually("a renewal", async () => {
      const { health } = await watcher.call<AgentAnswer>("get_agent_status", { agentId: "doomed" });
      return (health.leaseExpiresAt ?? 0) > (first.health.leaseExpiresAt ?? 0) + LEASE_MS;
    });
    await doomed.kill();
    const diedAt = await store.now();
    const last = await watcher.call<AgentAnswer>("get_agent_status", { agentId: "doomed" });
    expect(last.agent).toMatchObject({ online: true, status: "working" });
    const endsAt = last.health.leaseExpiresAt ?? 0;
    expect(endsAt).toBeLessThanOrEqual(diedAt + LEASE_MS + SKEW_MS);
    await eventually("the end of the lease", async () => (await store.now()) >= endsAt);
    const { agent } = await watcher.call<AgentAnswer>("get_agent_status", { agentId: "doomed" });
    expect(agent).toMatchObject({ online: false, status: "offline", lastStatus: "working" });
    const { agents } = await watcher.call<{ agents: { id: string }[] }>("list_agents", { status: "offline", capability: "die" });
    expect(agents.map(({ id }) => id)).toEqual(["doomed"]);
    await store.close();
  });

  test("a broadcast whose sender is killed half-way reaches every receiver once: another process finishes it", {
    timeout: 300_000,
  }, async () => {
    verifies("COMM-04", "CORE-09");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using helper = await Host.start({ server: SERVER, store: meeting.store, agent: "helper" });
    await helper.call("list_agents"); // its store is open, and its background work goes on
    const receivers = [...(await crowd(store, CROWD)), "helper"];
    const sender = await Host.start({ server: SERVER, store: meeting.store, agent: "sender" });
    await sender.call("list_agents");
    const sending = sender.call("broadcast_message", { scope: "all", messageType: "note", payload: "To all" }).then(
      () => "answered",
      () => new HostKilled(),
    );
    const half = await eventually("a broadcast half-way", async () => {
      const [row] = await store.scan(prefixRange("fanout/", 1));
      const fanOut = row?.value as { id: string; done: number; parts: number } | undefined;
      return fanOut && fanOut.done >= 3 ? fanOut : undefined;
    });
    await sender.kill();
    expect(await sending).toBeInstanceOf(HostKilled);
    expect(half.done).toBeLessThan(half.parts);
    const reached = (await all(store, "delivery/")).length;
    expect(reached).toBeLessThan(receivers.length);

    const whole = await eventually(
      "the broadcast whole",
      async () => {
        const value = (await store.get(`fanout/${half.id}`))?.value as { done: number; parts: number; delivered: number };
        return value.done === value.parts ? value : undefined;
      },
      120_000,
    );
    expect(whole.delivered).toBe(receivers.length);
    const deliveries = (await all(store, "delivery/")).map(({ value }) => value as { id: string; to: string; state: string });
    expect(deliveries.filter(({ id, state }) => id !== half.id || state !== "ready")).toEqual([]);
    expect(deliveries.map(({ to }) => to).sort()).toEqual([...receivers].sort());
    expect((await all(store, "inbox/")).length).toBe(receivers.length);
    expect(await all(store, "fanout-part/")).toEqual([]);
    const { messages } = await helper.call<{ messages: { payload: unknown }[] }>("get_messages", { acknowledge: true });
    expect(messages).toMatchObject([{ from: "sender", payload: "To all", audience: { kind: "all" } }]);
    await store.close();
    console.log(`killed after ${half.done} of ${half.parts} parts; ${reached} of ${receivers.length} had it by then`);
  });

  test("a topic that several processes publish in is read whole and in its order, though the reader is killed on the way", {
    timeout: 300_000,
  }, async () => {
    verifies("COMM-07");
    using meeting = await meet();
    const publishers = await Promise.all(
      Array.from({ length: PUBLISHERS }, (_, n) => Host.start({ server: SERVER, store: meeting.store, agent: `publisher-${n}` })),
    );
    const reader = () => Host.start({ server: SERVER, store: meeting.store, agent: "reader" });
    let host = await reader();
    await host.call("subscribe", { topics: ["news.*"] });
    const sequences = new Map<string, number>();
    const publishing = publishers.map(async (publisher) => {
      for (let n = 0; n < PUBLISHED_EACH; n++) {
        const { message, published } = await publisher.call<{ message: { id: string }; published: { sequence: number } }>(
          "broadcast_message",
          { scope: "topic", name: "news.web", messageType: "note", payload: n },
        );
        sequences.set(message.id, published.sequence);
      }
    });

    const read: string[] = [];
    const total = PUBLISHERS * PUBLISHED_EACH;
    let killed = 0;
    for (let turn = 0; read.length < total && turn < 10 * total; turn++) {
      const taken = await host.call<{ messages: { id: string }[] }>("get_messages", { limit: 7, waitMs: 10_000 });
      const messageIds = taken.messages.map(({ id }) => id);
      read.push(...messageIds);
      if (messageIds.length > 0) await host.call("acknowledge_messages", { messageIds });
      if (killed === 0 && read.length > total / 3) {
        // dies while it waits for more, or while it takes more into its inbox; nothing that it was given is open
        const waiting = host.try("get_messages", { types: ["none"], waitMs: 10_000 }).catch(() => undefined);
        await host.kill();
        await waiting;
        killed += 1;
        host = await reader();
      }
    }
    await Promise.all(publishing);
    expect(read.map((id) => sequences.get(id))).toEqual(Array.from({ length: total }, (_, n) => n + 1));
    const { subscriptions } = await host.call<{ subscriptions: unknown[] }>("list_subscriptions");
    expect(subscriptions).toMatchObject([{ received: total, missed: 0, behind: 0 }]);
    await Promise.all([host, ...publishers].map((one) => one.close()));
  });
});
