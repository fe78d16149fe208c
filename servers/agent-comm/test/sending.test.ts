/** What a message carries, and what stops one from being sent. */
import { HOPS_MAX, PAYLOAD_BYTES_MAX } from "@mcp-swarm/coordination/messages";
import { type ManualClock, manualClock } from "@mcp-swarm/core";
import { type Call, onceCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type CommOptions, type CommProcess, commOn } from "./support/comm.ts";

interface Swarm {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  join(agentId: string, options?: Omit<CommOptions, "process">): Promise<CommProcess>;
}

function swarm(): Swarm {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let process = 0;
  return { store, clock, join: (agentId, options = {}) => commOn(store, clock, agentId, { ...options, process: ++process }) };
}

const note = (targetAgent: string, more: object = {}) => ({ targetAgent, messageType: "note", payload: "hello", ...more });

async function only({ inbox, call }: CommProcess) {
  const { messages } = await inbox.get(call, { acknowledge: true });
  expect(messages).toHaveLength(1);
  const [first] = messages;
  if (!first) throw new Error("No message");
  return first;
}

/** The call that a repetition with the same idempotency key makes. */
const once = ({ call }: CommProcess, key: string): Call =>
  onceCall({ store: call.store, caller: call.caller }, { key, fingerprint: key });

describe("a message", () => {
  test("carries who sent it, whether that is proven, when and in which thread, whatever the sender says", async () => {
    verifies("COMM-03", "COMM-12");
    const { join, clock } = swarm();
    const alice = await join("alice");
    const bob = await join("bob");
    const payload = { from: "mallory", sentAt: 1, hops: -5, nested: { text: "x" } };
    const sent = await alice.sending.send(alice.call, { ...note("bob"), payload, priority: 7 });
    const { message, deliveries } = await only(bob);
    expect(message).toMatchObject({
      ...{ id: sent.id, from: "alice", verified: false, sentAt: clock.now(), hops: 0, priority: 7 },
      ...{ messageType: "note", correlationId: sent.id, audience: { kind: "agent", name: "bob" }, payload },
    });
    expect(deliveries).toBe(1);
  });

  test("of a subagent says so, and nobody speaks for another", async () => {
    verifies("COMM-12");
    const { join } = swarm();
    const alice = await join("alice");
    const bob = await join("bob");
    await alice.sending.send(alice.call, note("bob", { agentId: "reviewer" }));
    expect((await only(bob)).message.from).toBe("alice/reviewer");
    await expect(alice.sending.send(alice.call, note("bob", { agentId: "bob/x" }))).rejects.toMatchObject({
      code: "permission_denied",
    });
  });

  test("to a subagent comes to the subagent alone, which its parent's process reads", async () => {
    const { join } = swarm();
    const alice = await join("alice");
    const bob = await join("bob");
    await alice.sending.send(alice.call, note("bob/tester"));
    expect((await bob.inbox.get(bob.call, {})).messages).toEqual([]);
    expect((await bob.inbox.get(bob.call, { agentId: "tester" })).messages).toHaveLength(1);
    await expect(alice.inbox.get(alice.call, { agentId: "bob/tester" })).rejects.toMatchObject({ code: "permission_denied" });
  });

  test("that one agent sends from two processes at the same ms, or with a clock that lags, keeps the order of sending", async () => {
    verifies("COMM-05");
    const { join, clock, store } = swarm();
    const [one, two, bob] = [await join("alice"), await join("alice"), await join("bob")];
    const sent: string[] = [];
    for (let at = 0; at < 40; at++) {
      const from = at % 3 === 0 ? one : two;
      sent.push((await from.sending.send(from.call, note("bob"))).id);
      if (at % 7 === 0) await clock.advance(1);
      if (at === 20) {
        // as the clock of another process may: the row says what was, not what this process sees
        await store.transact((tx) => {
          const row = tx.get("sender/alice")?.value as { lastAt: number };
          tx.put("sender/alice", { ...row, lastAt: row.lastAt + 500 });
        });
      }
    }
    expect((await bob.readAll()).map(({ message }) => message.id)).toEqual(sent);
  });

  test("to somebody unknown is refused and not kept, unless it is meant to wait", async () => {
    verifies("COMM-03");
    const { join, clock } = swarm();
    const alice = await join("alice");
    await expect(alice.sending.send(alice.call, note("bob"))).rejects.toMatchObject({
      code: "failed_precondition",
      hint: expect.stringContaining("list_agents"),
    });
    await alice.sending.send(alice.call, note("bob", { mailbox: true }));
    const bob = await join("bob");
    expect((await only(bob)).message.from).toBe("alice");
    bob.die();
    await clock.advance(60_000);
    await expect(alice.sending.send(alice.call, note("bob"))).rejects.toMatchObject({ code: "failed_precondition" });
    // who registered is known even when it is away
    const carol = await join("carol");
    await carol.agents.register(carol.call, { agentType: "tester", capabilities: [] });
    carol.die();
    await clock.advance(60_000);
    await alice.sending.send(alice.call, note("carol"));
    await expect(alice.sending.send(alice.call, note("not an id"))).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("is sent once however often its call is repeated, also when the target is gone and the inbox full by then", async () => {
    verifies("COMM-03");
    const { join, clock } = swarm();
    const alice = await join("alice", { inboxMax: 1 });
    const bob = await join("bob");
    const first = await alice.sending.send(once(alice, "k1"), note("bob"));
    bob.die();
    await clock.advance(60_000);
    expect(await alice.sending.send(once(alice, "k1"), note("bob"))).toEqual(first);
    const again = await join("bob");
    expect((await again.readAll()).map(({ message }) => message.id)).toEqual([first.id]);
  });

  test("is not delivered before notBefore and never after its time to live", async () => {
    verifies("COMM-03", "COMM-13");
    const { join, clock, store } = swarm();
    const [alice, bob] = [await join("alice", { remote: true }), await join("bob", { remote: true })];
    await alice.sending.send(alice.call, note("bob", { notBefore: clock.now() + 1_000 }));
    await alice.sending.send(alice.call, note("bob", { ttlMs: 5_000, payload: "short" }));
    expect((await bob.inbox.get(bob.call, {})).messages.map(({ message }) => message.payload)).toEqual(["short"]);
    await clock.advance(1_000);
    expect((await bob.inbox.get(bob.call, {})).messages.map(({ message }) => message.payload)).toEqual(["hello"]);
    await clock.advance(600_000);
    expect((await bob.inbox.get(bob.call, {})).messages.map(({ message }) => message.payload)).toEqual(["hello"]);
    await clock.advance(8 * 86_400_000);
    expect((await bob.inbox.get(bob.call, {})).messages).toEqual([]);
    expect(await store.scan({ from: "delivery/", before: "delivery0", limit: 10 })).toEqual([]);
    expect(await store.scan({ from: "inbox/", before: "inbox0", limit: 10 })).toEqual([]);
    await expect(
      alice.sending.send(alice.call, note("alice", { ttlMs: 1_000, notBefore: clock.now() + 2_000 })),
    ).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(
      alice.sending.send(alice.call, note("alice", { notBefore: clock.now() + 40 * 86_400_000 })),
    ).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("has a bounded payload", async () => {
    const { join } = swarm();
    const alice = await join("alice");
    const most = "x".repeat(PAYLOAD_BYTES_MAX - 2);
    await alice.sending.send(alice.call, note("alice", { payload: most }));
    await expect(alice.sending.send(alice.call, note("alice", { payload: `${most}x` }))).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining('"payload"'),
    });
  });
});

describe("loops and floods", () => {
  test("two agents that answer each other without end are stopped, by reply and by thread alike", async () => {
    verifies("COMM-12");
    for (const link of ["replyTo", "correlationId"] as const) {
      const { join } = swarm();
      const pair = [await join("alice"), await join("bob")];
      let last = { id: "", correlationId: "topic-of-theirs" };
      let stopped = 0;
      for (let turn = 0; turn <= HOPS_MAX + 1; turn++) {
        const [from, to] = turn % 2 === 0 ? pair : [...pair].reverse();
        if (!from || !to) throw new Error("Nobody");
        const more = link === "replyTo" ? (turn === 0 ? {} : { replyTo: last.id }) : { correlationId: last.correlationId };
        const sending = from.sending.send(from.call, note(to.call.caller.agentId, more));
        if (turn <= HOPS_MAX) {
          expect((await sending).hops).toBe(turn);
          last = (await only(to)).message;
        } else {
          await expect(sending).rejects.toMatchObject({
            code: "limit_exceeded",
            hint: expect.stringContaining("Stop answering"),
          });
          stopped += 1;
        }
      }
      expect(stopped).toBe(1);
    }
  });

  test("a thread in which many report to one stays open however long it is", async () => {
    verifies("COMM-12");
    const { join } = swarm();
    const lead = await join("lead");
    const worker = await join("worker");
    await lead.sending.send(lead.call, note("worker", { correlationId: "job" }));
    await worker.readAll();
    for (let at = 0; at < 3 * HOPS_MAX; at++) {
      expect((await worker.sending.send(worker.call, note("lead", { correlationId: "job" }))).hops).toBe(1);
      await lead.readAll();
    }
    expect((await lead.sending.send(lead.call, note("worker", { correlationId: "job" }))).hops).toBe(2);
  });

  test("an answer belongs to the thread of what it answers, and only those who know a message answer it", async () => {
    const { join } = swarm();
    const [alice, bob, carol] = [await join("alice"), await join("bob"), await join("carol")];
    const asked = await alice.sending.send(alice.call, note("bob"));
    const answered = await bob.sending.send(bob.call, note("alice", { replyTo: asked.id, agentId: "helper" }));
    expect(answered).toMatchObject({ correlationId: asked.id, hops: 1 });
    for (const replyTo of [asked.id, "msg-nobody"]) {
      await expect(carol.sending.send(carol.call, note("alice", { replyTo }))).rejects.toMatchObject({ code: "not_found" });
    }
  });

  test("more than the rate is refused until the bucket has filled again, subagents and processes counted together", async () => {
    verifies("COMM-12");
    const { join, clock } = swarm();
    const [one, two, bob] = [
      await join("alice", { messageRate: 60 }),
      await join("alice", { messageRate: 60 }),
      await join("bob", { messageRate: 60 }),
    ];
    for (let at = 0; at < 10; at++) {
      const from = at % 2 === 0 ? one : two;
      await from.sending.send(from.call, note("bob", at % 3 === 0 ? { agentId: "sub" } : {}));
    }
    await expect(two.sending.send(two.call, note("bob"))).rejects.toMatchObject({
      code: "limit_exceeded",
      retryable: true,
      hint: expect.stringContaining("1000 ms"),
    });
    expect(await bob.readAll()).toHaveLength(10);
    await bob.sending.send(bob.call, note("alice"));
    await clock.advance(1_000);
    await two.sending.send(two.call, note("bob"));
    await expect(one.sending.send(one.call, note("bob"))).rejects.toMatchObject({ code: "limit_exceeded" });
  });

  test("a full inbox takes no more, says so to its senders, and takes again once it was read", async () => {
    verifies("COMM-13");
    const { join, clock } = swarm();
    const most = 300;
    const alice = await join("alice", { inboxMax: most });
    const bob = await join("bob", { inboxMax: most });
    let accepted = 0;
    let refused = 0;
    for (let at = 0; at < 3_000 && refused < 50; at++) {
      await alice.sending.send(alice.call, note("bob")).then(
        () => accepted++,
        (error: unknown) => {
          expect(error).toMatchObject({ code: "limit_exceeded", message: expect.stringContaining("bob") });
          refused += 1;
        },
      );
    }
    expect(refused).toBe(50); // counted once in many sends, and from then on every send is refused
    expect(accepted).toBeGreaterThanOrEqual(most);
    expect(await bob.readAll()).toHaveLength(accepted);
    await clock.advance(6_000);
    await alice.sending.send(alice.call, note("bob"));
    expect(await bob.readAll()).toHaveLength(1);
  });
});
