/** Messages as hosts have them: real servers in processes of their own over one store. */
import { describe, expect, test } from "vitest";
import { ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { ERAS, eventually, Host, temporaryFolder } from "../../../test/support/host.ts";

interface Shown {
  id: string;
  from: string;
  verified: boolean;
  payload: unknown;
  deliveries: number;
  hops: number;
  cut?: { missingChars: number; readOn: string };
}
type Page = { messages: Shown[]; untrusted?: string[] };
type Sent = { message: { id: string; status: string } };
type Became = { messages: { id: string; status: string; changed: boolean }[] };

const LEASE_MS = 2_000;
const SENDS_MAX = 5;

const note = (targetAgent: string, more: object = {}) => ({ targetAgent, messageType: "note", payload: "hello", ...more });
const ids = ({ messages }: Page) => messages.map(({ id }) => id);

describe.each(ENGINES)("on $name", ({ meet }) => {
  test("a message wakes a waiting reader in another process, which answers the request of a third", async () => {
    verifies("COMM-03", "COMM-05", "COMM-08", "COMM-11", "COMM-12");
    using meeting = await meet();
    const start = (agent: string) => Host.start({ server: "agent-comm", store: meeting.store, agent });
    await using alice = await start("alice");
    await using bob = await start("bob");
    await bob.call("get_messages");
    const waiting = bob.call<Page>("get_messages", { waitMs: 20_000 });
    const { message } = await alice.call<Sent>("send_message", note("bob"));
    const [first] = (await waiting).messages;
    expect(first).toMatchObject({ id: message.id, from: "alice", verified: false, payload: "hello", deliveries: 1, hops: 0 });
    expect((await waiting).untrusted).toEqual(["messages[].payload"]);
    await bob.call("acknowledge_messages", { messageIds: [message.id] });

    const asking = alice.call<{ requestId: string; reply: Shown }>("request_reply", {
      targetAgent: "bob",
      payload: "?",
      waitMs: 20_000,
    });
    const asked = await bob.call<Page>("get_messages", { waitMs: 20_000, acknowledge: true });
    await bob.call("send_message", note("alice", { replyTo: asked.messages[0]?.id, payload: { answer: 42 } }));
    expect((await asking).reply).toMatchObject({ from: "bob", payload: { answer: 42 }, hops: 1 });
    expect(ids(await alice.call<Page>("get_messages"))).toEqual([]);

    const late = await alice.try("request_reply", { targetAgent: "bob", payload: "?", waitMs: 50 });
    expect(late.text).toContain("deadline_exceeded");
    expect(late.text).toContain("get_messages with correlationId msg-");
    const unknown = await alice.try("send_message", note("zoe"));
    expect(unknown.text).toContain("failed_precondition");
  });

  test("what one agent sends from two processes at once arrives in the order in which the sends were answered", async () => {
    verifies("COMM-05", "CORE-08", "CORE-14");
    using meeting = await meet();
    const start = (agent: string) => Host.start({ server: "agent-comm", store: meeting.store, agent });
    await using one = await start("alice");
    await using two = await start("alice");
    await using bob = await start("bob");
    await bob.call("get_messages");
    const answered: string[] = [];
    const send = async (host: Host, n: number) => {
      const { message } = await host.call<Sent>("send_message", note("bob", { payload: n }));
      answered.push(message.id);
      return message.id;
    };
    // each process sends in turn, so that "before" means something; the turns of both overlap with other senders' work
    const noise = (async () => {
      for (let n = 0; n < 40; n++) await two.call("send_message", note("bob", { agentId: "noise", priority: 1 }));
    })();
    const sent: string[] = [];
    for (let n = 0; n < 40; n++) sent.push(await send(n % 2 === 0 ? one : two, n));
    await noise;
    const got: string[] = [];
    for (let turn = 0; turn < 20; turn++) {
      const page = await bob.call<Page>("get_messages", { limit: 25, acknowledge: true });
      if (page.messages.length === 0) break;
      got.push(...page.messages.filter(({ from }) => from === "alice").map(({ id }) => id));
    }
    expect(got).toEqual(sent);
  });

  test("a message whose reader is killed comes to another process of its agent, at once when the reader ends cleanly", async () => {
    verifies("COMM-06", "CORE-07", "CORE-09");
    using meeting = await meet();
    const env = { SWARM_LEASE_MS: String(LEASE_MS) };
    const start = (agent: string) => Host.start({ server: "agent-comm", store: meeting.store, agent, env });
    await using alice = await start("alice");
    const first = await start("bob");
    await using second = await start("bob");
    await second.call("get_messages");
    const { message } = await alice.call<Sent>("send_message", note("bob"));
    expect(ids(await first.call<Page>("get_messages"))).toEqual([message.id]);
    expect(ids(await second.call<Page>("get_messages"))).toEqual([]);
    await first.kill();
    const again = await second.call<Page>("get_messages", { waitMs: 20_000 });
    expect(again.messages).toMatchObject([{ id: message.id, deliveries: 2 }]);

    const third = await start("bob");
    const other = await alice.call<Sent>("send_message", note("bob"));
    expect(ids(await third.call<Page>("get_messages"))).toEqual([other.message.id]);
    await third.close();
    const back = await second.call<Page>("get_messages", { waitMs: 20_000 });
    expect(back.messages).toMatchObject([{ id: other.message.id, deliveries: 2 }]);
    const became = await second.call<Became>("acknowledge_messages", { messageIds: [message.id, other.message.id, "msg-none"] });
    expect(became.messages.map(({ status, changed }) => [status, changed])).toEqual([
      ["done", true],
      ["done", true],
      ["unknown", false],
    ]);
  });

  test("dead letters and overdue messages are seen by both ends, and a long payload is read in parts", async () => {
    verifies("COMM-06", "COMM-14", "CORE-11", "CORE-15");
    using meeting = await meet();
    const start = (agent: string) => Host.start({ server: "agent-comm", store: meeting.store, agent });
    await using alice = await start("alice");
    await using bob = await start("bob");
    await bob.call("get_messages");
    const payload = { text: `"\\\u0001é漢😀`.repeat(9_000), end: "end" };
    const { message } = await alice.call<Sent>("send_message", note("bob", { payload, ackWithinMs: 1 }));
    const [shown] = (await bob.call<Page>("get_messages")).messages;
    expect(shown?.cut?.missingChars).toBeGreaterThan(1_000);
    let text = String(shown?.payload);
    expect(shown?.cut?.readOn).toBe(`get_message {"messageId":"${message.id}","offset":${text.length}}`);
    for (let offset: number | undefined = text.length; offset !== undefined; ) {
      const { part }: { part: { text: string; nextOffset?: number } } = await bob.call("get_message", {
        messageId: message.id,
        offset,
      });
      text += part.text;
      offset = part.nextOffset;
    }
    expect(JSON.parse(text)).toEqual(payload);

    for (const [host, role] of [
      [alice, "sender"],
      [bob, "receiver"],
    ] as const) {
      const overdue = await host.call<{ messages: object[] }>("mark_overdue");
      expect(overdue.messages).toMatchObject([
        { id: message.id, from: "alice", to: "bob", role, status: "in_flight", overdue: true },
      ]);
    }
    await bob.call("acknowledge_messages", { messageIds: [message.id], outcome: "reject", reason: "too long" });
    for (const [host, sent] of [
      [alice, true],
      [bob, false],
    ] as const) {
      const dead = await host.call<{ messages: object[] }>("list_dead_letters", { sent });
      expect(dead.messages).toMatchObject([{ id: message.id, status: "dead", cause: "rejected", reason: "too long" }]);
    }
    await alice.call("redeliver_messages", { messageIds: [message.id] });
    expect(ids(await bob.call<Page>("get_messages"))).toEqual([message.id]);
  });
});

describe.each(ERAS)("to a host of %s", (era) => {
  test("an inbox is a resource that tells of its changes and gives nothing away", async () => {
    verifies("COMM-10");
    using folder = temporaryFolder();
    await using bob = await Host.start({ server: "agent-comm", store: folder.store, agent: "bob", era });
    await using alice = await Host.start({ server: "agent-comm", store: folder.store, agent: "alice" });
    const uri = "inbox://bob";
    expect(await bob.read(uri)).toMatchObject({ agentId: "bob", unread: 0, messages: [] });
    await bob.subscribe(uri);
    const { message } = await alice.call<Sent>("send_message", note("bob"));
    await eventually("the change is told", () => bob.updates(uri) > 0);
    expect(await bob.read(uri)).toMatchObject({
      unread: 1,
      inFlight: 0,
      messages: [{ id: message.id, from: "alice", payload: "hello" }],
    });
    const before = bob.updates(uri);
    expect(ids(await bob.call<Page>("get_messages"))).toEqual([message.id]);
    await eventually("that it was read is told", () => bob.updates(uri) > before);
    expect(await bob.read(uri)).toMatchObject({ unread: 0, inFlight: 1, messages: [] });
    await expect(alice.read(uri)).rejects.toThrow(/own agent/);
    expect(await bob.read("inbox://bob%2Ftester")).toMatchObject({ agentId: "bob/tester", unread: 0 });
  });
});

test("with --channel a session sees a message as it comes, and the inbox has it still", async () => {
  verifies("COMM-10");
  using folder = temporaryFolder();
  await using bob = await Host.start({ server: "agent-comm", store: folder.store, agent: "bob", era: "v1", args: ["--channel"] });
  await using alice = await Host.start({ server: "agent-comm", store: folder.store, agent: "alice" });
  expect(bob.client.getInstructions()).toContain("acknowledge_messages");
  await bob.call("get_messages");
  const events = () => bob.notifications.filter(({ method }) => method === "notifications/claude/channel");
  // what came before the session's first look is told as a number alone
  const sent: string[] = [];
  for (let turn = 0; turn < SENDS_MAX && !events().some(({ params }) => isOf(params, sent)); turn++) {
    const before = events().length;
    sent.push((await alice.call<Sent>("send_message", note("bob"))).message.id);
    await eventually("something is pushed", () => events().length > before);
  }
  const pushed = events().find(({ params }) => isOf(params, sent));
  expect(pushed?.params).toMatchObject({
    content: expect.stringContaining("hello"),
    meta: { message_id: sent.at(-1), from: "alice", message_type: "note", correlation_id: sent.at(-1) },
  });
  expect(ids(await bob.call<Page>("get_messages"))).toEqual(sent);
});

function isOf(params: unknown, sent: readonly string[]): boolean {
  const { meta } = params as { meta: Readonly<Record<string, string>> };
  return sent.includes(meta.message_id ?? "");
}
