/** What another server tells agents through their inboxes, read by agent-comm's own code. */
import { FAN_OUT_LEASE_MS, PART_RECEIVERS_MAX, Postbox, RECEIVERS_MAX } from "@mcp-swarm/coordination/messages";
import { manualClock, seededRandom } from "@mcp-swarm/core";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { commOn } from "./support/comm.ts";

const NOTICE = {
  from: "ann",
  verified: false,
  messageType: "vote",
  audience: { kind: "vote" as const, name: "vote-1" },
  payload: { voteId: "vote-1", event: "begun" },
};

function swarm(messageRate?: number) {
  const clock = manualClock();
  const store: Store = new MemoryStore({ clock });
  let processes = 0;
  return {
    clock,
    store,
    postbox: new Postbox({ random: seededRandom(99), retentionDays: 7, messageRate }),
    agent: (agentId: string) => commOn(store, clock, agentId, { process: ++processes }),
  };
}

type Swarm = ReturnType<typeof swarm>;

async function tell({ store, postbox }: Pick<Swarm, "store" | "postbox">, agentIds: readonly string[], cost?: number) {
  const addressees = await postbox.addressees(store, agentIds);
  const draft = postbox.draft(NOTICE);
  return store.transact((tx) => postbox.post(tx, draft, addressees, cost === undefined ? {} : { cost }), {
    prefetch: { keys: postbox.reads(draft) },
  });
}

async function registered({ store }: Pick<Swarm, "store">, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, at) => `voter-${at}`);
  for (let from = 0; from < count; from += 500) {
    await store.transact((tx) => {
      for (const id of ids.slice(from, from + 500)) tx.put(`agent/${id}`, { id });
    });
  }
  return ids;
}

describe("a notice of another server", () => {
  test("reaches those of its addressees who registered or sent something, with their subagents, once each", async () => {
    const here = swarm();
    const [bob, cat] = [await here.agent("bob"), await here.agent("cat")];
    await here.agent("silent");
    await bob.agents.register(bob.call, { agentType: "code", capabilities: [] });
    await cat.sending.send(cat.call, { targetAgent: "bob", messageType: "status_update", payload: "Hello" });
    await bob.readAll();
    const posted = await tell(here, ["bob", "bob/reviewer", "cat", "cat", "silent", "nobody"]);
    expect(posted).toEqual({ messageId: expect.any(String), delivered: 3 });
    for (const reader of [bob, cat]) {
      const [got, ...more] = await reader.readAll();
      expect(got?.message).toMatchObject({ ...NOTICE, id: posted?.messageId, hops: 0, correlationId: posted?.messageId });
      expect(more).toEqual([]);
    }
    const own = await bob.inbox.get(bob.call, { agentId: "reviewer" });
    expect(own.messages.map(({ message }) => message.id)).toEqual([posted?.messageId]);
    for (const silent of ["silent", "nobody"]) {
      expect(await here.store.scan(prefixRange(`delivery/${silent}/`, 1))).toEqual([]);
    }
  });

  test("that is for nobody writes nothing", async () => {
    const here = swarm();
    expect(await tell(here, ["nobody"])).toBeUndefined();
    expect(await here.store.scan(prefixRange("msg/", 1))).toEqual([]);
    expect(await here.store.scan(prefixRange("sender/", 1))).toEqual([]);
  });

  test("to more than one transaction takes is finished by its sender, or by agent-comm when the sender died", async () => {
    const here = swarm();
    const ids = await registered(here, 2 * PART_RECEIVERS_MAX + 5);
    const finished = await tell(here, ids);
    expect(finished).toMatchObject({ delivered: 0, inParts: true });
    if (finished) await here.postbox.finish(here.store, finished);
    const left = await tell(here, ids);
    const comm = await here.agent("comm");
    const job = comm.jobs.find(({ name }) => name === "finish broadcasts");
    await here.clock.advance(FAN_OUT_LEASE_MS);
    for (let waitMs = 0, turn = 0; waitMs === 0 && turn < 20; turn++) waitMs = (await job?.run()) ?? Number.NaN;
    for (const id of ids) {
      const got = await here.store.scan(prefixRange(`inbox/${id}/ready/`, 10));
      expect(got.map(({ value }) => (value as { id: string }).id)).toEqual([finished?.messageId, left?.messageId]);
    }
  });

  test("goes to a bounded number of agents", async () => {
    const here = swarm();
    const ids = await registered(here, RECEIVERS_MAX + 1);
    expect((await here.postbox.addressees(here.store, ids)).receivers).toHaveLength(RECEIVERS_MAX);
  });

  test("takes from its sender's rate for each receiver, and is never refused when it costs nothing", async () => {
    const here = swarm(60);
    const ids = await registered(here, 10);
    await tell(here, ids);
    await expect(tell(here, ids)).rejects.toMatchObject({ code: "limit_exceeded" });
    expect(await tell(here, ids, 0)).toMatchObject({ delivered: 10 });
  });
});
